import numpy as np
import pytest
import torch

from detectron2.structures import (
    BitMasks,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    heatmaps_to_keypoints,
    polygons_to_bitmask,
)
from detectron2.structures.masks import polygon_area

SQUARE = [0.0, 0, 4, 0, 4, 4, 0, 4]


def test_bitmask_boxes() -> None:
    masks = torch.zeros(2, 3, 4)
    masks[0, 0, 1] = masks[0, 1, 2] = 1
    bitmasks = BitMasks(masks)
    assert bitmasks.get_bounding_boxes().tensor.tolist() == [[1, 0, 3, 2], [0, 0, 0, 0]]
    assert bitmasks.nonempty().tolist() == [True, False]
    assert bitmasks[:0].get_bounding_boxes().tensor.shape == (0, 4)


def test_bitmask_crop() -> None:
    masks = torch.zeros(1, 4, 4)
    masks[0, :2, :2] = 1
    crop = BitMasks(masks).crop_and_resize(torch.tensor([[0.0, 0, 4, 4]]), 2)
    assert crop.tolist() == [[[True, False], [False, False]]]
    assert BitMasks(masks[:0]).crop_and_resize(torch.zeros(0, 4), 2).shape == (0, 2, 2)


def test_polygon_crop() -> None:
    # The square covers the upper left quarter of the box.
    crop = PolygonMasks([[SQUARE]]).crop_and_resize(torch.tensor([[0.0, 0, 8, 8]]), 4)
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(crop[0], expected)
    assert PolygonMasks([]).crop_and_resize(torch.zeros(0, 4), 4).shape == (0, 4, 4)


def test_polygon_measures() -> None:
    masks = PolygonMasks([[SQUARE], [SQUARE, [10.0, 10, 14, 10, 12, 15.5]], []])
    assert masks.area().tolist() == [16.0, 27.0, 0.0]
    assert masks.get_bounding_boxes().tensor[:2].tolist() == [[0, 0, 4, 4], [0, 0, 14, 15.5]]
    assert masks.nonempty().tolist() == [True, True, False]
    assert len(masks[torch.tensor([True, False, True])]) == 2
    assert len(PolygonMasks.cat([masks, masks[0]])) == 4
    assert polygon_area(np.array([0.0, 4, 0]), np.array([0.0, 0, 3])) == 6.0


def test_bad_polygons() -> None:
    with pytest.raises(ValueError, match="from 4 coordinates"):
        PolygonMasks([[[0.0, 0, 1, 1]]])
    with pytest.raises(ValueError, match="Expect a list"):
        PolygonMasks(3)


def test_rasterise() -> None:
    assert polygons_to_bitmask([np.array(SQUARE)], 5, 6).sum() == 16
    assert polygons_to_bitmask([], 5, 6).shape == (5, 6)
    assert BitMasks.from_polygon_masks([[np.array(SQUARE)], []], 5, 6).tensor.sum(dim=(1, 2)).tolist() == [16, 0]


def test_roi_masks() -> None:
    masks = ROIMasks(torch.ones(1, 2, 2))
    assert masks.to_bitmasks(torch.tensor([[1.0, 1, 3, 4]]), 5, 6).tensor.sum().item() == 6
    with pytest.raises(ValueError, match="3 dimension"):
        ROIMasks(torch.zeros(2, 2))


def test_keypoints_to_cells() -> None:
    # In a box of 10 x 10 and 4 x 4 cells: the far corner is the last cell, beyond it nothing is valid.
    points = torch.tensor([[[10.0, 10, 2], [0, 0, 2], [10.1, 0, 1], [5, 5, 0], [2.6, 0, 1]]])
    cells, valid = Keypoints(points).to_heatmap(torch.tensor([[0.0, 0, 10, 10]]), 4)
    assert cells.tolist() == [[15, 0, 0, 0, 1]]
    assert valid.tolist() == [[1, 1, 0, 0, 1]]


def test_heatmap_peak() -> None:
    # Box of the heatmap's size: no enlargement, so the peak is the cell's centre; 15 other cells hold 0.
    heatmap = torch.zeros(1, 1, 4, 4)
    heatmap[0, 0, 1, 2] = 5.0
    found = heatmaps_to_keypoints(heatmap, torch.tensor([[3.0, 0, 7, 4]]))
    score = np.exp(5) / (np.exp(5) + 15)
    assert found.flatten().tolist() == pytest.approx([5.5, 1.5, 5.0, score])
    assert heatmaps_to_keypoints(heatmap[:0], torch.zeros(0, 4)).shape == (0, 1, 4)
