"""Boxes and polygons of any numbers: what the check says is what the definition says."""

import math

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from detectron2.structures import BoxMode
from rcnnkit.data.checks.boxes import ADVICE as BOX_ADVICE
from rcnnkit.data.checks.boxes import box_kinds
from rcnnkit.data.checks.places import box_of
from rcnnkit.data.checks.polygons import ADVICE, polygon_kinds
from rcnnkit.data.checks.repair import clipped_polygon

WIDTH, HEIGHT = 64.0, 48.0
ANY_NUMBER = st.floats(allow_nan=True, allow_infinity=True)
NEAR = st.integers(-80, 160).map(lambda value: value / 2)


def kind_of(box) -> str:
    return str(box_kinds(np.array([box], float), np.array([[WIDTH, HEIGHT]]))[0])


def expected_kind(x0, y0, x1, y1) -> str:
    """The definition, one box at a time."""
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        return "box-not-finite"
    if x1 < x0 or y1 < y0:
        return "box-negative"
    if x1 == x0 or y1 == y0:
        return "box-empty"
    if x0 < -1 or y0 < -1 or x1 > WIDTH + 1 or y1 > HEIGHT + 1:
        return "box-outside"
    return ""


@given(st.tuples(NEAR, NEAR, NEAR, NEAR))
@settings(max_examples=300, deadline=None)
def test_boxes_near_the_image(box):
    assert kind_of(box) == expected_kind(*box)


@given(st.tuples(ANY_NUMBER, ANY_NUMBER, ANY_NUMBER, ANY_NUMBER))
@settings(max_examples=200, deadline=None)
def test_boxes_of_any_numbers(box):
    assert kind_of(box) in {"", *BOX_ADVICE}
    assert (kind_of(box) == "box-not-finite") == (not np.isfinite(box).all())


@given(st.one_of(st.none(), st.text(), st.lists(st.one_of(st.none(), st.text(max_size=3), ANY_NUMBER), max_size=6)))
@settings(max_examples=200, deadline=None)
def test_what_is_no_box_is_not_finite(value):
    box = box_of({"bbox": value, "bbox_mode": BoxMode.XYXY_ABS})
    assert len(box) == 4
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(entry, float) for entry in value)
    assert numbers or kind_of(box) == "box-not-finite" or all(_reads_as_number(entry) for entry in value)


def _reads_as_number(entry) -> bool:
    try:
        float(entry)
    except (TypeError, ValueError):
        return False
    return True


@st.composite
def star_shaped(draw) -> np.ndarray:
    """A polygon (V, 2) in the image whose outline goes once round its middle: it cannot cross itself."""
    count = draw(st.integers(3, 12))
    radii = draw(st.lists(st.floats(3, 20), min_size=count, max_size=count))
    start = draw(st.floats(0, 1))
    angles = (np.arange(count) + start) * 2 * np.pi / count
    return np.stack([32 + np.array(radii) * np.cos(angles), 24 + np.array(radii) * np.sin(angles)], 1)


def kinds(points: np.ndarray) -> str:
    return polygon_kinds([points.ravel().tolist()], WIDTH, HEIGHT)[0]


@given(star_shaped())
@settings(max_examples=200, deadline=None)
def test_polygons_round_their_middle_are_fine(points):
    assert kinds(points) == ""
    assert kinds(points[::-1]) == ""
    assert kinds(np.concatenate([points, points[:1]])) == ""  # closed as some tools do


@given(star_shaped(), st.floats(20, 1000), st.sampled_from([(1, 0), (0, 1), (-1, 0), (0, -1)]))
@settings(max_examples=200, deadline=None)
def test_polygons_moved_out_of_the_image(points, far, direction):
    moved = points + 32 * np.array(direction) + far * np.array(direction)
    assert kinds(moved) == "polygon-outside"
    for part in clipped_polygon(moved.ravel().tolist(), WIDTH, HEIGHT):
        assert polygon_kinds([part], WIDTH, HEIGHT)[0] in ("", "polygon-short")


@given(st.floats(2, 20), st.floats(2, 20), st.floats(0.2, 0.8))
@settings(max_examples=200, deadline=None)
def test_crossed_quadrilaterals(width, height, share):
    """The corners of a rectangle with two of them exchanged: two triangles, wound against each other."""
    top = width * share
    points = np.array([[5, 5], [5 + top, 5 + height], [5 + top, 5], [5, 5 + height]], float)
    assert kinds(points) == "polygon-crossing"


def test_a_hole_joined_to_the_outline_is_not_a_crossing():
    outline = [[5, 5], [40, 5], [40, 40], [5, 40], [5, 5]]
    hole = [[10, 10], [10, 20], [20, 20], [20, 10], [10, 10]]
    points = np.array(outline + hole, float)
    assert not shapely.Polygon(points).is_valid
    assert kinds(points) == ""


def test_outlines_that_touch_themselves_are_not_crossings():
    assert kinds(np.array([[5, 5], [20, 20], [35, 5], [35, 35], [20, 20], [5, 35]], float)) == ""


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.text(max_size=3),
            st.lists(st.one_of(NEAR, ANY_NUMBER), max_size=12),
            st.lists(st.one_of(st.none(), st.text(max_size=2), st.integers()), max_size=8),
        ),
        max_size=5,
    )
)
@settings(max_examples=300, deadline=None)
def test_anything_in_the_place_of_polygons(polygons):
    found = polygon_kinds(polygons, WIDTH, HEIGHT)
    assert len(found) == len(polygons)
    assert set(found) <= {"", *ADVICE}
    for polygon, kind in zip(polygons, found):
        if kind == "":
            assert len(polygon) >= 6
            assert len(polygon) % 2 == 0
            assert all(math.isfinite(number) for number in polygon)
