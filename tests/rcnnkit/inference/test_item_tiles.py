"""Items of the mapper drawn upon their own image."""

import numpy as np
import pytest
import torch

from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from rcnnkit.errors import UserError
from rcnnkit.inference.drawing import PALETTE
from rcnnkit.inference.item_tiles import item_tile


def an_item(polygons: bool = False, labelled: bool = True) -> dict:
    """60×40 and black, with a box of the first class; its mask is the right half, its keypoint in the left."""
    instances = Instances((40, 60), gt_boxes=Boxes(torch.tensor([[10.0, 10, 50, 30]])), gt_classes=torch.tensor([0]))
    mask = torch.zeros((1, 40, 60), dtype=torch.bool)
    mask[0, 10:30, 30:50] = True
    half = [np.array([30.0, 10, 50, 10, 50, 30, 30, 30])]
    instances.gt_masks = PolygonMasks([half if labelled else []]) if polygons else BitMasks(mask & labelled)
    instances.gt_has_mask = torch.tensor([labelled])
    instances.gt_keypoints = Keypoints(np.array([[[20.0, 20, 2], [0, 0, 0]]]))
    return {"image": torch.zeros((3, 40, 60), dtype=torch.uint8), "instances": instances}


@pytest.mark.parametrize("polygons", [False, True])
def test_boxes_masks_and_keypoints_at_their_places(polygons):
    tile = item_tile(an_item(polygons), ["one"], "BGR", (120, 80), ["text"])
    assert tile.shape == (98, 120, 3)
    colour = np.array(PALETTE[0])
    assert np.abs(tile[20, 50] - colour).max() < 60 and np.abs(tile[60, 50] - colour).max() < 60, "the box"
    assert np.abs(tile[40, 80] - 0.35 * colour).max() < 2, "inside of the mask"
    assert not tile[30, 30].any(), "inside of the box, beside the mask"
    assert tile[40, 40].min() > 200, "the keypoint that is seen"
    assert not tile[2:8, 2:8].any(), "the keypoint that nobody labelled"


def test_an_object_without_a_mask_has_its_box_only():
    for polygons in (False, True):
        assert not item_tile(an_item(polygons, labelled=False), ["one"], "BGR", (120, 80), [])[40, 80].any()


def test_ignored_regions_have_a_colour_and_a_name_of_their_own():
    item = {**an_item(), "ignored": Boxes(torch.tensor([[2.0, 32, 58, 38]]))}
    drawn = item_tile(item, ["one", "two"], "BGR", (240, 160), [])
    assert np.abs(drawn[152, 120] - np.array(PALETTE[2])).max() < 60
    assert (drawn != item_tile(an_item(), ["one", "two"], "BGR", (240, 160), [])).any()


def test_plain_images_in_every_order_of_channels():
    item = an_item()
    item["image"][0] = 200
    blue, red = ([200, 0, 0], [0, 0, 200])
    assert item_tile(item, ["one"], "BGR", (60, 40), [], annotated=False)[0, 0].tolist() == blue
    assert item_tile(item, ["one"], "RGB", (60, 40), [], annotated=False)[0, 0].tolist() == red
    item["image"] = item["image"][:1]
    assert item_tile(item, ["one"], "L", (60, 40), [], annotated=False)[0, 0].tolist() == [200] * 3
    with pytest.raises(UserError, match=r"INPUT\.FORMAT: 'YUV-BT\.601'"):
        item_tile(item, ["one"], "YUV-BT.601", (60, 40), [])
