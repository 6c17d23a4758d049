"""Parts and holes in one polygon: filled, it is the same raster."""

import numpy as np
import pycocotools.mask as mask_util
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rcnnkit.data.one_outline import one_polygon, outline_of_mask


def raster(polygons, height=40, width=50):
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, height, width))).astype(bool)


def test_one_polygon_stays():
    polygon = [0.1, 0.2, 10, 0, 5, 7]
    assert one_polygon([polygon]) == polygon


def test_two_squares_are_joined_by_a_cut_between_their_closest_corners():
    joined = one_polygon([[0, 0, 4, 0, 4, 4, 0, 4], [8, 0, 12, 0, 12, 4, 8, 4]])
    assert joined == [0, 0, 4, 0, 8, 0, 12, 0, 12, 4, 8, 4, 8, 0, 4, 0, 4, 4, 0, 4]


def test_overlapping_parts_have_no_hole_where_they_overlap():
    parts = [[0, 0, 20, 0, 20, 20, 0, 20], [10, 10, 30, 10, 30, 30, 10, 30]]
    assert (raster([one_polygon(parts)]) == raster(parts)).all()
    assert raster([one_polygon(parts)]).sum() == 700


def test_outline_of_a_square_and_of_nothing():
    mask = np.zeros((6, 8), bool)
    assert outline_of_mask(mask) == []
    mask[2:4, 3:6] = True
    corners = np.reshape(outline_of_mask(mask), (-1, 2)).tolist()
    assert sorted(corners) == [[3, 2], [3, 4], [6, 2], [6, 4]]


def test_outline_of_a_ring_has_its_hole():
    mask = np.zeros((9, 9), bool)
    mask[1:8, 1:8] = True
    mask[3:6, 3:6] = False
    assert (raster([outline_of_mask(mask)], 9, 9) == mask).all()


@settings(max_examples=200, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_outline_fills_to_the_mask(mask):
    outline = outline_of_mask(mask)
    if not mask.any():
        assert outline == []
        return
    assert (raster([outline], *mask.shape) == mask).all()


BOX = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=100, deadline=None)
@given(st.lists(BOX, min_size=1, max_size=5))
def test_joined_boxes_cover_what_the_boxes_cover(boxes):
    polygons = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in boxes]
    assert (raster([one_polygon(polygons)]) == raster(polygons)).all()
