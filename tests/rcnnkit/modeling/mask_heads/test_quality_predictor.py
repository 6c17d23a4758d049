"""What the IoU is predicted from, and how its loss is weighed, by hand."""

import math

import pytest
import torch

from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.utils.events import EventStorage
from rcnnkit.modeling.mask_heads.quality_head import QualityPredictor
from tests.rcnnkit.modeling import small_rcnn

OWN = "MODEL.ROI_MASK_HEAD.QUALITY."
QUALITY = (
    "MODEL.KEYPOINT_ON", False, "MODEL.ROI_MASK_HEAD.NAME", "MaskQualityHead",
    OWN + "NUM_CONV", 1, OWN + "CONV_DIM", 4, OWN + "FC_DIM", 8,
)  # fmt: skip


def test_thin_parts_of_the_mask_count_in_full():
    predictor = QualityPredictor(1, 2, num_classes=1, num_conv=1, conv_dim=1, fc_dim=1)
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter) if parameter.ndim == 1 else torch.nn.init.ones_(parameter)
    predictor.convolutions[0].weight.data[:, 0] = 0.5  # of the features; of the mask it is 1
    masks = torch.zeros(1, 4, 4)
    masks[0, 0, 0], masks[0, 0, 1], masks[0, 3, 1] = 0.8, 0.4, 0.6
    # Each quarter of the mask becomes one cell, its maximum: 0.8, 0, 0.6, 0. The only window of the convolution sums
    # all four cells of both: 0.5 (1 + 2 + 3 + 4) + 0.8 + 0.6; means would be 0.3 and 0.15.
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert predictor(features, masks).tolist() == [[pytest.approx(6.4)]]


@pytest.mark.parametrize("weight", [1.0, 2.0])
def test_the_loss_is_weighed_by_the_config_and_that_of_the_masks_is_not(repository, weight):
    cfg = small_rcnn.config(repository, *QUALITY, OWN + "LOSS_WEIGHT", weight)
    head = build_mask_head(cfg, ShapeSpec(channels=8, height=14, width=14)).train()
    # All logits are 0, so the masks are 0.5, of which nothing is above 0.5: their IoU is 0. It is said to be 0.75.
    for parameter in (*head.mask_head.predictor.parameters(), head.quality.iou.weight):
        torch.nn.init.zeros_(parameter)
    torch.nn.init.constant_(head.quality.iou.bias, 0.75)
    with EventStorage():
        losses = head(torch.randn(3, 8, 14, 14), [small_rcnn.sampled(2), small_rcnn.sampled(1)])
    assert losses["loss_mask_quality"].item() == pytest.approx(weight * 0.75**2)
    assert losses["loss_mask"].item() == pytest.approx(math.log(2))
