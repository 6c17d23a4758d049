"""Polygons of masks: hand-worked outlines, and the raster that pycocotools makes of them."""

import numpy as np
import pycocotools.mask as mask_util
import pytest

from rcnnkit.data.mask_outlines import polygon_area, polygons_of_mask


def _raster(polygons, height, width):
    return mask_util.decode(mask_util.merge(mask_util.frPyObjects(polygons, height, width))).astype(bool)


def test_rectangle_is_four_corners_at_pixel_centres():
    mask = np.zeros((10, 12), bool)
    mask[2:6, 3:9] = True
    (polygon,) = polygons_of_mask(mask)
    # The contour runs through the centres of the border's pixels: x 3.5 … 8.5, y 2.5 … 5.5.
    assert {tuple(point) for point in np.reshape(polygon, (-1, 2)).tolist()} == {
        (3.5, 2.5),
        (3.5, 5.5),
        (8.5, 5.5),
        (8.5, 2.5),
    }
    assert polygon_area(polygon) == 5 * 3


def test_oversampled_mask_comes_out_in_pixels_of_the_picture():
    mask = np.zeros((40, 48), bool)
    mask[8:24, 12:36] = True
    (polygon,) = polygons_of_mask(mask, scale=4)
    points = np.reshape(polygon, (-1, 2))
    # Subpixel centres lie an eighth of a pixel inside the true edge; coordinates are rounded to hundredths.
    np.testing.assert_allclose(points.min(axis=0), (3.125, 2.125), atol=0.01)
    np.testing.assert_allclose(points.max(axis=0), (8.875, 5.875), atol=0.01)


def test_hole_is_left_out_of_area_and_raster():
    mask = np.zeros((40, 40), bool)
    mask[5:35, 5:35] = True
    mask[15:25, 12:22] = False
    (polygon,) = polygons_of_mask(mask)
    raster = _raster([polygon], 40, 40)
    assert not raster[17:23, 14:20].any()
    assert (raster & mask).sum() / (raster | mask).sum() > 0.9
    # outline 29 × 29; the hole's contour runs on the mask's pixels around it, with its corners cut: between 10² and 11²
    assert 29 * 29 - 11 * 11 <= polygon_area(polygon) <= 29 * 29 - 10 * 10


def test_two_holes_both_stay_open():
    mask = np.ones((30, 60), bool)
    mask[10:20, 10:20] = False
    mask[10:20, 40:50] = False
    (polygon,) = polygons_of_mask(mask)
    raster = _raster([polygon], 30, 60)
    assert not raster[12:18, 12:18].any() and not raster[12:18, 42:48].any() and raster[12:18, 24:36].all()


def test_parts_are_separate_polygons_and_specks_are_left_out():
    mask = np.zeros((20, 40), bool)
    mask[2:10, 2:10] = True
    mask[2:10, 20:30] = True
    mask[15, 35] = True
    assert len(polygons_of_mask(mask)) == 2


@pytest.mark.parametrize("shape", [(0, 0), (8, 8)])
def test_nothing_gives_no_polygon(shape):
    assert polygons_of_mask(np.zeros(shape, bool)) == []
