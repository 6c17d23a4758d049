"""RoI heads as a whole: sampling, the hooks that projects override, training and inference with and without objects."""

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    StandardROIHeads,
    build_roi_heads,
    select_foreground_proposals,
)
from detectron2.modeling.roi_heads.roi_heads import select_proposals_with_visible_keypoints
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

SIZE = (64, 96)
FPN = {f"p{level}": ShapeSpec(channels=8, stride=2**level) for level in range(2, 6)}
C4 = {"res4": ShapeSpec(channels=64, stride=16)}


def config(name: str):
    cfg = get_cfg()
    model = cfg.MODEL
    model.ROI_HEADS.NAME = name
    model.ROI_HEADS.NUM_CLASSES = 3
    model.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 64
    model.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    model.MASK_ON = True
    model.ROI_MASK_HEAD.CONV_DIM = 8
    if name == "Res5ROIHeads":
        model.RESNETS.RES2_OUT_CHANNELS = 16
        model.RESNETS.WIDTH_PER_GROUP = 4
        return cfg, C4
    model.KEYPOINT_ON = True
    model.ROI_HEADS.IN_FEATURES = list(FPN)
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 1
    model.ROI_BOX_HEAD.FC_DIM = 16
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = name == "CascadeROIHeads"
    model.ROI_MASK_HEAD.NUM_CONV = 1
    model.ROI_KEYPOINT_HEAD.CONV_DIMS = [8]
    model.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 2
    return cfg, FPN


def feature_maps(shapes):
    return {
        name: torch.randn(2, shape.channels, SIZE[0] // shape.stride, SIZE[1] // shape.stride, requires_grad=True)
        for name, shape in shapes.items()
    }


def proposals(num: int) -> list[Instances]:
    corner = torch.rand(2, num, 2) * 40
    boxes = torch.cat([corner, corner + 4 + torch.rand(2, num, 2) * 30], dim=2)
    return [Instances(SIZE, proposal_boxes=Boxes(b), objectness_logits=torch.zeros(num)) for b in boxes]


def objects(num: int) -> Instances:
    boxes = torch.tensor([[4.0, 4, 30, 40], [50, 10, 90, 60]])[:num]
    masks = torch.zeros(num, *SIZE, dtype=torch.bool)
    keypoints = torch.zeros(num, 2, 3)
    for index, (x0, y0, x1, y1) in enumerate(boxes.int().tolist()):
        masks[index, y0 : (y0 + y1) // 2, x0:x1] = True
        keypoints[index] = torch.tensor([x0 + 2.0, y0 + 3.0, 2.0])
    return Instances(
        SIZE,
        gt_boxes=Boxes(boxes),
        gt_classes=torch.arange(num),
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(keypoints),
    )


@pytest.mark.parametrize("name", ["StandardROIHeads", "Res5ROIHeads", "CascadeROIHeads"])
@pytest.mark.parametrize("num_objects", [(2, 1), (2, 0), (0, 0)])
@pytest.mark.parametrize("num_proposals", [6, 0])
def test_training_gives_finite_losses_and_a_gradient_everywhere(name, num_objects, num_proposals):
    cfg, shapes = config(name)
    heads = build_roi_heads(cfg, shapes).train()
    features = feature_maps(shapes)
    with EventStorage() as storage:
        _, losses = heads(None, features, proposals(num_proposals), [objects(num) for num in num_objects])
        assert {"roi_head/num_fg_samples", "roi_head/num_bg_samples"} <= set(storage.latest())
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    missing = [key for key, parameter in heads.named_parameters() if parameter.grad is None]
    assert missing == []
    assert all(feature.grad is not None for feature in features.values())
    if num_objects == (0, 0):
        assert all(loss.item() == 0.0 for key, loss in losses.items() if "loss_cls" not in key)


@pytest.mark.parametrize("name", ["StandardROIHeads", "Res5ROIHeads", "CascadeROIHeads"])
@pytest.mark.parametrize("num_proposals", [6, 0])
def test_inference_sets_every_field(name, num_proposals):
    cfg, shapes = config(name)
    heads = build_roi_heads(cfg, shapes).eval()
    features = feature_maps(shapes)
    with torch.no_grad():
        instances, losses = heads(None, features, proposals(num_proposals))
    assert losses == {}
    fields = {"pred_boxes", "scores", "pred_classes", "pred_masks"}
    if name != "Res5ROIHeads":
        fields |= {"pred_keypoints", "pred_keypoint_heatmaps"}
    for per_image in instances:
        assert set(per_image.get_fields()) == fields
        assert (len(per_image) > 0) == (num_proposals > 0)
        assert per_image.pred_masks.shape[1] == 1


@pytest.mark.parametrize("name", ["StandardROIHeads", "Res5ROIHeads"])
def test_given_boxes_get_the_masks_of_the_forward_pass(name):
    cfg, shapes = config(name)
    heads = build_roi_heads(cfg, shapes).eval()
    features = feature_maps(shapes)
    with torch.no_grad():
        instances, _ = heads(None, features, proposals(5))
        given = [Instances(SIZE, pred_boxes=i.pred_boxes, pred_classes=i.pred_classes) for i in instances]
        again = heads.forward_with_given_boxes(features, given)
    for a, b in zip(instances, again):
        torch.testing.assert_close(a.pred_masks, b.pred_masks)
    with pytest.raises(RuntimeError, match="inference"):
        heads.train().forward_with_given_boxes(features, given)


def test_labels_and_truth_of_the_sample():
    cfg, shapes = config("StandardROIHeads")
    heads = build_roi_heads(cfg, shapes)
    boxes = Boxes(torch.tensor([[4.0, 4, 30, 38], [70, 0, 95, 20]]))
    given = Instances(SIZE, proposal_boxes=boxes, objectness_logits=torch.zeros(2))
    with EventStorage() as storage:
        (sampled,) = heads.label_and_sample_proposals([given], [objects(2)])
        stats = {name: value for name, (value, _) in storage.latest().items()}
    # two objects join: three foreground boxes come first, then the background box
    assert stats == {"roi_head/num_fg_samples": 3.0, "roi_head/num_bg_samples": 1.0}
    assert sorted(sampled.gt_classes[:3].tolist()) == [0, 0, 1]
    assert sampled.gt_classes[3].item() == 3
    rows = sampled.gt_classes == 0
    assert sampled.gt_boxes.tensor[rows].tolist() == [[4.0, 4, 30, 40]] * 2
    assert sampled.has("gt_masks")
    assert sampled.has("gt_keypoints")


def test_sample_keeps_its_size_and_share():
    cfg, shapes = config("StandardROIHeads")
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 8
    heads = build_roi_heads(cfg, shapes)
    labels = torch.tensor([1] * 10 + [0] * 10 + [-1] * 5)
    rows, classes = heads._sample_proposals(torch.zeros(25, dtype=torch.int64), labels, torch.tensor([2]))
    assert classes.tolist() == [2] * 2 + [3] * 6  # a quarter of 8 is foreground
    assert (labels[rows] >= 0).all()
    assert len(set(rows.tolist())) == 8


def test_train_on_pred_boxes_moves_the_proposals():
    cfg, shapes = config("StandardROIHeads")
    cfg.MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES = True
    heads = build_roi_heads(cfg, shapes).train()
    torch.nn.init.constant_(heads.box_predictor.bbox_pred.bias, 1.0)
    given = proposals(4)
    with EventStorage():
        sampled, _ = heads(None, feature_maps(shapes), given, [objects(0), objects(0)])
    for before, after in zip(given, sampled):
        widths = [
            (b[:, 2] - b[:, 0]).sort().values for b in (before.proposal_boxes.tensor, after.proposal_boxes.tensor)
        ]
        assert (widths[1] > widths[0]).all()
        assert not after.proposal_boxes.tensor.requires_grad


def test_foreground_is_neither_background_nor_ignored():
    given = [Instances(SIZE, gt_classes=torch.tensor([0, 3, -1, 2])), Instances(SIZE, gt_classes=torch.tensor([3]))]
    foreground, masks = select_foreground_proposals(given, bg_label=3)
    assert [p.gt_classes.tolist() for p in foreground] == [[0, 2], []]
    assert masks[0].tolist() == [True, False, False, True]


def test_visible_keypoints_at_the_border_count():
    points = torch.tensor([[10.0, 10, 2], [20, 20, 1], [9.9, 15, 2], [15, 15, 0]])[:, None]
    given = Instances(
        SIZE, proposal_boxes=Boxes(torch.tensor([[10.0, 10, 20, 20]] * 4)), gt_keypoints=Keypoints(points)
    )
    given.index = torch.arange(4)
    with EventStorage() as storage:
        kept, none = select_proposals_with_visible_keypoints([given, given[torch.zeros(4, dtype=torch.bool)]])
        assert storage.latest()["keypoint_head/num_fg_samples"][0] == 2.0
    assert kept.index.tolist() == [0, 1]
    assert len(none) == 0


def test_a_subclass_overrides_branches():
    class Boxless(StandardROIHeads):
        def _forward_box(self, features, proposals):
            return {"loss_own": torch.tensor(1.0)} if self.training else super()._forward_box(features, proposals)

        def _forward_mask(self, features, instances):
            return {} if self.training else instances

        @classmethod
        def _init_keypoint_head(cls, cfg, input_shape):
            return {}

    cfg, shapes = config("StandardROIHeads")
    heads = Boxless(cfg, shapes).train()
    assert not heads.keypoint_on
    with EventStorage():
        _, losses = heads(None, feature_maps(shapes), proposals(3), [objects(1), objects(1)])
    assert list(losses) == ["loss_own"]


def test_heads_without_pooler_get_the_feature_maps():
    cfg, shapes = config("StandardROIHeads")
    cfg.MODEL.KEYPOINT_ON = False
    heads = build_roi_heads(cfg, shapes).eval()
    heads.mask_pooler = None
    seen = {}
    heads.mask_head.forward = lambda x, instances: seen.update(x) or instances
    features = feature_maps(shapes)
    heads._forward_mask(features, [])
    assert seen == features


def test_unknown_name_lists_the_registry():
    cfg, shapes = config("StandardROIHeads")
    cfg.MODEL.ROI_HEADS.NAME = "StandardRoIHeads"
    with pytest.raises(KeyError, match="StandardRoIHeads"):
        build_roi_heads(cfg, shapes)
    assert {"StandardROIHeads", "Res5ROIHeads", "CascadeROIHeads"} <= {name for name, _ in ROI_HEADS_REGISTRY}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.ROI_HEADS.IN_FEATURES", ["res4", "res5"], "one feature map"),
        ("MODEL.KEYPOINT_ON", True, "no keypoint head"),
        ("MODEL.RESNETS.DEFORM_ON_PER_STAGE", [False, False, False, True], "DEFORM_ON_PER_STAGE"),
    ],
)
def test_res5_refuses_what_it_cannot(key, value, message):
    cfg, shapes = config("Res5ROIHeads")
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_roi_heads(cfg, shapes)
