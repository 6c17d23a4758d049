"""MaskQualityHead as Detectron2 builds and calls it: around any head, losses, scores, weights, evaluation."""

import copy

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, BaseMaskRCNNHead
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.utils.events import EventStorage
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.config_masks import check_mask_head
from rcnnkit.errors import UserError
from rcnnkit.modeling.mask_heads.quality_head import losses_and_masks
from rcnnkit.modeling.partial_labels import learn_from_labels_only
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import detected, sampled

OWN = "MODEL.ROI_MASK_HEAD.QUALITY."
QUALITY = (
    "MODEL.KEYPOINT_ON", False, "MODEL.ROI_MASK_HEAD.NAME", "MaskQualityHead",
    OWN + "NUM_CONV", 2, OWN + "CONV_DIM", 4, OWN + "FC_DIM", 8,
)  # fmt: skip
POOLED = ShapeSpec(channels=8, height=14, width=14)


@ROI_MASK_HEAD_REGISTRY.register()
class SquareMapsHead(torch.nn.Module):
    """Neither of Detectron2's classes nor called with pooled features: half of each box is mask."""

    def __init__(self, cfg, input_shape):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(()))
        self.norm = torch.nn.BatchNorm2d(1)

    def forward(self, features, instances):
        if self.training:
            return {"loss_mask": features["p2"].mean() * 0 + self.bias}
        for own in instances:
            own.pred_masks = torch.zeros(len(own), 1, 8, 8)
            own.pred_masks[..., :4] = (own.pred_classes + 1)[:, None, None, None] / 4
        return instances


def head(repository, *overrides):
    return build_mask_head(small_rcnn.config(repository, *QUALITY, *overrides), POOLED)


@pytest.mark.parametrize("agnostic", [False, True])
def test_losses_of_the_head_within_are_kept(repository, agnostic):
    judged = head(repository, "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", agnostic).train()
    features, instances = torch.randn(4, 8, 14, 14), [sampled(3), sampled(0), sampled(1)]
    with EventStorage():
        losses = judged(features, instances)
        alone = judged.mask_head(features, instances)
    assert set(losses) == {"loss_mask", "loss_mask_quality"}
    assert losses["loss_mask"].item() == alone["loss_mask"].item()
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in judged.parameters())


def test_the_quality_teaches_neither_masks_nor_their_convolutions(repository):
    judged = head(repository).train()
    with EventStorage():
        judged(torch.randn(2, 8, 14, 14), [sampled(2)])["loss_mask_quality"].backward()
    assert all(p.grad is None for p in judged.mask_head.parameters())
    assert judged.quality.iou.weight.grad[:2].any() and not judged.quality.iou.weight.grad[2].any()


def test_a_batch_without_boxes_costs_nothing_and_reaches_every_weight(repository):
    judged = head(repository).train()
    with EventStorage():
        losses = judged(torch.zeros(0, 8, 14, 14), [sampled(0), sampled(0)])
    assert {name: loss.item() for name, loss in losses.items()} == {"loss_mask": 0.0, "loss_mask_quality": 0.0}
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in judged.parameters())


def test_scores_of_masks_beside_those_of_boxes(repository):
    judged = head(repository).eval()
    torch.nn.init.zeros_(judged.quality.iou.weight)
    judged.quality.iou.bias.data = torch.tensor([0.25, 0.5, 2.0])  # of the three classes
    features = torch.randn(3, 8, 14, 14)
    with torch.no_grad():
        found = judged(features, [detected(3), detected(0)])
        alone = judged.mask_head(features, [detected(3)])[0]
    assert found[0].scores.tolist() == [0.5] * 3
    assert found[0].pred_mask_quality.tolist() == [0.25, 0.5, 1.0]
    assert found[0].mask_scores.tolist() == [0.125, 0.25, 0.5]
    assert torch.equal(found[0].pred_masks, alone.pred_masks) and found[1].mask_scores.shape == (0,)
    assert detector_postprocess(found[0], 48, 64).mask_scores.tolist() == [0.125, 0.25, 0.5]


def test_fewer_boxes_are_learnt_where_the_config_says_so(repository):
    judged = head(repository, "RCNNKIT.MAX_MASK_ROIS", 2).train()
    seen = []
    judged.quality.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    with EventStorage():
        judged(torch.randn(5, 8, 14, 14), [sampled(3), sampled(2)])
    assert seen == [2]


def test_on_features_of_the_last_stage(repository):
    """Res5ROIHeads hands the head the features of res5, of half the side that it announces."""
    cfg = small_rcnn.config(repository, *QUALITY)
    plain = get_cfg()
    add_rcnnkit_config(plain)
    plain.merge_from_file(str(repository / "configs" / "Base-RCNN-C4.yaml"))
    plain.MODEL.ROI_MASK_HEAD.merge_from_other_cfg(cfg.MODEL.ROI_MASK_HEAD)
    plain.merge_from_list(
        [
            *("MODEL.DEVICE", "cpu", "MODEL.MASK_ON", True, "MODEL.ROI_HEADS.NUM_CLASSES", 3),
            *("MODEL.RESNETS.STEM_OUT_CHANNELS", 4, "MODEL.RESNETS.WIDTH_PER_GROUP", 4),
            *("MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "MODEL.RPN.POST_NMS_TOPK_TEST", 10),
            *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 40, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0),
        ]
    )
    model = build_model(plain).train()
    with EventStorage():
        losses = model(small_rcnn.full_batch())
    assert losses["loss_mask_quality"] > 0
    with torch.no_grad():
        found = model.eval()(small_rcnn.full_batch())[0]["instances"]
    assert len(found) and torch.equal(found.mask_scores, found.scores * found.pred_mask_quality)


def test_around_a_head_that_takes_feature_maps(repository):
    cfg = small_rcnn.config(
        repository, *QUALITY, OWN + "MASK_HEAD", "SquareMapsHead", "MODEL.ROI_MASK_HEAD.POOLER_TYPE", ""
    )
    model = build_model(cfg).train()
    model.roi_heads.mask_head.mask_head.norm.eval()
    with EventStorage():
        losses = model(small_rcnn.full_batch())
    assert 0 <= losses["loss_mask_quality"].item() < 10
    sum(losses.values()).backward()
    inner = model.roi_heads.mask_head.mask_head
    assert inner.bias.grad == 1 and inner.training and not inner.norm.training  # as they were
    with torch.no_grad():
        found = model.eval()(small_rcnn.full_batch())[0]["instances"]
    assert len(found) and torch.equal(found.mask_scores, found.scores * found.pred_mask_quality)


def test_the_masks_of_heads_that_keep_their_logits_are_those_of_the_true_class(repository):
    class LogitsOfClasses(BaseMaskRCNNHead):
        def layers(self, x):
            return torch.tensor([-9.0, 0.0, 9.0]).reshape(1, 3, 1, 1).expand(len(x), 3, 4, 4)

    with EventStorage():
        _, masks = losses_and_masks(LogitsOfClasses(), torch.zeros(3, 8, 4, 4), [sampled(3)])
    assert masks[:, 0, 0].tolist() == pytest.approx([0.0, 0.5, 1.0], abs=1e-3) and masks.shape == (3, 4, 4)


def test_the_weights_of_the_head_alone_load(repository):
    cfg = small_rcnn.config(repository, *QUALITY)
    judged = build_mask_head(cfg, POOLED)
    cfg.MODEL.ROI_MASK_HEAD.NAME = "MaskRCNNConvUpsampleHead"
    plain = build_mask_head(cfg, POOLED)
    both = torch.nn.ModuleDict({"mask_head": judged})
    missing = both.load_state_dict({f"mask_head.{k}": v for k, v in plain.state_dict().items()}, strict=False)
    assert not missing.unexpected_keys and all(".quality." in key for key in missing.missing_keys)
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in judged.mask_head.state_dict().items())
    again = copy.deepcopy(judged)
    again.load_state_dict(judged.state_dict())


@pytest.mark.parametrize("roi_heads", ["StandardROIHeads", "TaskROIHeads"])
def test_objects_without_masks_teach_no_quality(repository, roi_heads):
    cfg = small_rcnn.config(repository, *QUALITY, "MODEL.ROI_HEADS.NAME", roi_heads)
    model = learn_from_labels_only(build_model(cfg)).train()
    with EventStorage():
        losses = model(small_rcnn.batch(small_rcnn.objects(small_rcnn.TWO, [False, False])))
    assert losses["loss_mask_quality"].item() == 0 and losses["loss_mask_quality"].requires_grad


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([OWN + "MASK_HEAD", "MaskQualityHead"], "judges the masks of another head"),
        ([OWN + "NUM_CONV", 0], r"QUALITY\.NUM_CONV: 0; give 1 or more"),
        (["RCNNKIT.MAX_MASK_ROIS", -1], r"MAX_MASK_ROIS: -1"),
    ],
)
def test_keys_out_of_range_are_refused(repository, overrides, message):
    with pytest.raises(UserError, match=message):
        check_mask_head(small_rcnn.config(repository, *overrides))


def test_an_unknown_head_lists_near_names(repository):
    with pytest.raises(UserError, match="no mask head 'MaskRCNNConvHead'; nearest: MaskRCNNConvUpsampleHead"):
        head(repository, OWN + "MASK_HEAD", "MaskRCNNConvHead")


def test_plain_weights_of_other_classes_leave_their_layer_as_it_is(repository, tmp_path):
    plain = build_model(small_rcnn.config(repository, "MODEL.ROI_HEADS.NUM_CLASSES", 5))
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    model = build_model(small_rcnn.config(repository, *QUALITY))
    head = model.roi_heads.mask_head.mask_head
    before = head.predictor.weight.detach().clone()
    DetectionCheckpointer(model).load(str(tmp_path / "plain.pth"), checkpointables=[])
    assert torch.equal(head.predictor.weight, before)
    assert torch.equal(head.mask_fcn1.weight, plain.roi_heads.mask_head.mask_fcn1.weight)
