"""Shapes of labelling tools as polygons and boxes."""

import math

import pytest

from rcnnkit.data.formats.outlines import boxes_union, ellipse, flat_points, numbers, polygons_box


def area(polygon):
    """By the shoelace formula."""
    points = list(zip(polygon[0::2], polygon[1::2]))
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]))) / 2


@pytest.mark.parametrize("radius", [0.5, 2, 3, 10, 100, 800])
def test_a_circle_has_its_box_and_its_area(radius):
    polygon = ellipse(5, 7, radius, radius)
    assert polygons_box([polygon]) == pytest.approx([5 - radius, 7 - radius, 5 + radius, 7 + radius])
    for x, y in zip(polygon[0::2], polygon[1::2]):
        assert math.hypot(x - 5, y - 7) == pytest.approx(radius)
    middle = (polygon[0] + polygon[2]) / 2, (polygon[1] + polygon[3]) / 2
    assert radius - math.hypot(middle[0] - 5, middle[1] - 7) <= 0.1
    assert area(polygon) == pytest.approx(math.pi * radius**2, rel=0.03)


def test_an_ellipse_turned_by_a_quarter_has_its_axes_exchanged():
    assert polygons_box([ellipse(0, 0, 30, 10, math.pi / 2)]) == pytest.approx([-10, -30, 10, 30])
    assert polygons_box([ellipse(0, 0, 30, 10)]) == pytest.approx([-30, -10, 30, 10])


@pytest.mark.parametrize("value", [math.nan, math.inf, -5.0, 0.0, 1e308])
def test_impossible_ellipses_are_polygons_all_the_same(value):
    assert len(ellipse(value, value, value, value, value)) % 2 == 0
    assert len(ellipse(0, 0, value, 1)) <= 720


def test_only_numbers_are_numbers():
    assert numbers([1, 2.5]) == [1.0, 2.5]
    for wrong in (None, "12", [True], ["1"], [None], [10**400], {"0": 1}):
        assert numbers(wrong) is None
    assert flat_points([[1, 2], [3, 4]]) == [1, 2, 3, 4]
    for wrong in (None, [1, 2], [[1, 2, 3]], [[1, "2"]], [[1]], "ab"):
        assert flat_points(wrong) is None


def test_unions():
    assert polygons_box([[0, 5, 2, 1], [7, 3]]) == [0, 1, 7, 5]
    assert boxes_union([[0, 5, 2, 6], [1, 1, 9, 2]]) == [0, 1, 9, 6]
