"""BoundaryMaskHead as Detectron2 builds and calls it, and its modules."""

import math

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from detectron2.layers import ROIAlign, ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads.mask_head import build_mask_head
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from rcnnkit.config_masks import check_mask_head
from rcnnkit.errors import UserError
from rcnnkit.modeling.mask_heads.boundary_stages import DetailBranch, OwnClassLogits, RefiningStage, pool_cells
from rcnnkit.modeling.partial_labels import learn_from_labels_only
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import detected, sampled

HEAD = "MODEL.ROI_MASK_HEAD."
OWN = HEAD + "BOUNDARY."
BOUNDARY = (
    "MODEL.KEYPOINT_ON", False, HEAD + "NAME", "BoundaryMaskHead", HEAD + "POOLER_TYPE", "",
    OWN + "DETAIL_DIM", 4, OWN + "DICE_WEIGHT", 1.0,
)  # fmt: skip
JUDGED = (
    HEAD + "NAME", "MaskQualityHead", HEAD + "QUALITY.MASK_HEAD", "BoundaryMaskHead",
    HEAD + "QUALITY.NUM_CONV", 1, HEAD + "QUALITY.CONV_DIM", 4, HEAD + "QUALITY.FC_DIM", 8,
)  # fmt: skip
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
LOSSES = {"loss_mask", "loss_mask_boundary"}


def config(repository, *overrides):
    return small_rcnn.config(repository, *BOUNDARY, *overrides)


def head(repository, *overrides, channels=8):
    shapes = {name: ShapeSpec(channels=channels, stride=stride) for name, stride in STRIDES.items()}
    return build_mask_head(config(repository, *overrides), shapes)


def maps(images: int, channels: int = 8) -> dict[str, torch.Tensor]:
    height, width = small_rcnn.SIZE
    return {name: torch.randn(images, channels, height // stride, width // stride) for name, stride in STRIDES.items()}


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("side", [8, 28])
def test_points_are_what_roi_align_samples(channels, side):
    x = torch.randn(3, channels, 12, 16, dtype=torch.float64, requires_grad=True)
    boxes = [[0, 0.0, 0.0, 32.0, 24.0], [0, 3.3, 4.1, 9.7, 20.9], [2, 20.0, 5.0, 32.0, 7.5], [2, 5.0, 5.0, 5.0, 5.0]]
    rois = torch.tensor(boxes, dtype=torch.float64)
    pooled = pool_cells(x, rois, ROIAlign((side, side), 0.5, 0, aligned=True))
    expected = roi_align(x, rois, (side, side), 0.5, 0, True)
    # torchvision takes no sample of a box without extent, of which nothing is learnt or shown
    assert torch.allclose(pooled[:3], expected[:3], atol=1e-9)
    weights = torch.randn_like(expected[:3])
    own, theirs = (torch.autograd.grad((y[:3] * weights).sum(), x)[0] for y in (pooled, expected))
    assert torch.allclose(own, theirs, atol=1e-9)


def test_pooling_without_boxes_keeps_the_gradient_path():
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    pooled = pool_cells(x, torch.zeros(0, 5), ROIAlign((8, 8), 0.5, 0, aligned=True))
    assert pooled.shape == (0, 4, 8, 8)
    pooled.sum().backward()
    assert not x.grad.any()


def test_the_logits_of_the_own_class():
    logits = OwnClassLogits(2, 3)
    logits.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    logits.bias.data = torch.tensor([0.0, 0.5, 0.0])
    x = torch.stack([torch.full((2, 2), 3.0), torch.full((2, 2), 5.0)]).expand(3, 2, 2, 2)
    assert logits(x, torch.tensor([2, 0, 1]))[:, 0, 1].tolist() == [8.0, 3.0, 5.5]
    agnostic = OwnClassLogits(2, 1)
    agnostic.weight.data = torch.tensor([[1.0, 2.0]])
    assert agnostic(x, torch.tensor([2, 0, 1]))[:, 1, 0].tolist() == [13.0] * 3


def test_the_detail_map_is_enlarged():
    assert DetailBranch(8, 4, 1, "")(torch.zeros(2, 8, 6, 5)).shape == (2, 4, 12, 10)
    assert DetailBranch(8, 4, 2, "")(torch.zeros(2, 8, 6, 5)).shape == (2, 4, 24, 20)
    assert DetailBranch(8, 4, 0, "")(torch.zeros(2, 8, 6, 5)).shape == (2, 4, 6, 5)


def test_the_gradient_of_a_stage():
    stage = RefiningStage(4, 3, 2, stride=2, side=4, num_classes=2, norm="").double()
    options = {"dtype": torch.float64, "requires_grad": True}
    x, logits = torch.randn(2, 4, 2, 2, **options), torch.randn(2, 2, 2, **options)
    detail = torch.randn(1, 3, 4, 4, **options)
    rois = torch.tensor([[0.0, 1.0, 1.0, 5.0, 6.0], [0.0, 0.0, 2.0, 7.0, 8.0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *inputs: stage(*inputs, rois, torch.tensor([0, 1])), (x, logits, detail))


@pytest.mark.parametrize("agnostic", [False, True])
def test_losses_reach_every_weight(repository, agnostic):
    own = head(repository, HEAD + "CLS_AGNOSTIC_MASK", agnostic).train()
    losses = own(maps(3), [sampled(3), sampled(0), sampled(1)])
    assert set(losses) == LOSSES and all(loss.dtype == torch.float32 and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own.parameters())
    assert own.logits.weight.shape == (1 if agnostic else 3, 8)
    classes = slice(0, 1) if agnostic else slice(0, 3)
    assert own.stages[0].logits.bias.grad[classes].all()


@pytest.mark.parametrize("norm", ["", "GN"])
def test_a_batch_without_boxes_costs_nothing_and_reaches_every_weight(repository, norm):
    sizes = (HEAD + "NORM", norm, HEAD + "CONV_DIM", 64, OWN + "DETAIL_DIM", 8)
    own = head(repository, *sizes, channels=32).train()
    losses = own(maps(2, 32), [sampled(0), sampled(0)])
    assert {name: loss.item() for name, loss in losses.items()} == dict.fromkeys(LOSSES, 0.0)
    sum(losses.values()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in own.parameters())


@pytest.mark.parametrize("agnostic", [False, True])
def test_masks_of_detections(repository, agnostic):
    own = head(repository, HEAD + "CLS_AGNOSTIC_MASK", agnostic).eval()
    with torch.no_grad():
        found = own(maps(3), [detected(3), detected(0), detected(2)])
        nothing = own(maps(1), [detected(0)])
    assert [tuple(p.pred_masks.shape) for p in found] == [(n, 1, 112, 112) for n in (3, 0, 2)]
    assert all(((p.pred_masks >= 0) & (p.pred_masks <= 1)).all() for p in found)
    assert nothing[0].pred_masks.shape == (0, 1, 112, 112)


def test_the_predicted_class_chooses_the_mask(repository):
    own = head(repository).eval()
    own.logits.bias.data = torch.tensor([-9.0, 0.0, 9.0])
    with torch.no_grad():
        masks = own(maps(1), [detected(3)])[0].pred_masks
    assert masks[:, 0].mean(dim=(1, 2)).tolist() == pytest.approx([0.0, 0.5, 1.0], abs=0.01)


def test_boxes_up_to_the_caps(repository):
    own = head(repository, "RCNNKIT.MAX_MASK_ROIS", 4, OWN + "MAX_FINE_ROIS", 3).train()
    seen = []
    for stage in own.stages:
        stage.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output[1].shape)))
    own(maps(2), [sampled(3), sampled(2)])
    assert seen == [(4, 28, 28), (3, 56, 56), (3, 112, 112)]


def half_full(count: int) -> Instances:
    """Proposals of one image, of each of which the object covers the left half."""
    instances = sampled(count)
    instances.proposal_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 40.0]] * count))
    instances.gt_masks = PolygonMasks([[np.array([8.0, 8.0, 24.0, 8.0, 24.0, 40.0, 8.0, 40.0])]] * count)
    return instances


@pytest.mark.parametrize("loss_weight", [1.0, 3.0])
def test_the_losses_of_the_stages_by_hand(repository, loss_weight):
    own = head(repository, OWN + "DICE_WEIGHT", 0.0, OWN + "LOSS_WEIGHT", loss_weight).train()
    # Biases alone: the logits of a stage are those of the one before plus its own, so 0, ln 3, 0 and ln 3.
    layers = (own.logits, *(stage.logits for stage in own.stages))
    for layer, bias in zip(layers, (0.0, math.log(3), -math.log(3), math.log(3)), strict=True):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, bias)
    losses = own(maps(2), [half_full(2), half_full(1)])
    # Half of all cells are mask, and half of the band, which follows the outline of the target, for masks of one value
    # have none. Of such cells logits of 0 cost ln 2 each, logits of ln 3 (−ln ¾ − ln ¼) / 2 = 0.836988.
    # From coarse to fine the stages weigh ¼, ½, ¾ and 1.
    expected = {"loss_mask": 0.25 * math.log(2) + 0.5 * 0.836988, "loss_mask_boundary": 0.75 * math.log(2) + 0.836988}
    found = {name: loss.item() for name, loss in losses.items()}
    assert found == pytest.approx({name: loss * loss_weight for name, loss in expected.items()}, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_each_stage_begins_with_the_features_and_the_mask_of_the_one_before(repository, training):
    own = head(repository).train(training)
    given, made = [], []  # features and logits by turns
    own.convolutions.register_forward_hook(lambda module, inputs, output: made.append(output.clone()))
    own.logits.register_forward_hook(lambda module, inputs, output: made.append(output.clone()))
    for stage in own.stages:
        stage.register_forward_pre_hook(lambda module, inputs: given.extend(one.clone() for one in inputs[:2]))
        stage.register_forward_hook(lambda module, inputs, output: made.extend(one.clone() for one in output))
    own(maps(2), [sampled(2), sampled(1)] if training else [detected(2), detected(1)])
    assert len(given) == 6 and all(one.any() for one in made)
    assert all(torch.equal(*pair) for pair in zip(given, made[:6], strict=True))


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_stages_read_the_detail_map_at_its_own_stride(repository, stride):
    own = head(repository, OWN + "DETAIL_STRIDE", stride)
    detail = own.detail(maps(1)["p2"])
    height, width = small_rcnn.SIZE
    assert detail.shape[2:] == (height // stride, width // stride)
    assert [(s.pooler.spatial_scale, s.pooler.aligned) for s in own.stages] == [(1 / stride, True)] * 3


def test_names_of_the_weights(repository):
    names = set(head(repository).state_dict())
    assert {name.split(".")[0] for name in names} == {"convolutions", "detail", "logits", "stages"}
    assert {"logits.weight", "stages.2.logits.bias", "stages.0.reduce.weight", "stages.1.fuse.weight"} <= names


@pytest.mark.parametrize("roi_heads", ["StandardROIHeads", "TaskROIHeads", "CascadeROIHeads", "CascadeTaskROIHeads"])
@pytest.mark.parametrize("judged", [False, True])
def test_within_roi_heads(repository, roi_heads, judged):
    cfg = config(repository, "MODEL.ROI_HEADS.NAME", roi_heads, *(JUDGED if judged else ()))
    check_mask_head(cfg)
    model = build_model(cfg).train()
    with EventStorage():
        losses = model(small_rcnn.full_batch())
    assert {name for name in losses if "mask" in name} == LOSSES | ({"loss_mask_quality"} if judged else set())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.roi_heads.mask_head.parameters())
    with torch.no_grad():
        found = model.eval()(small_rcnn.full_batch())
    assert all(p["instances"].pred_masks.shape[1:] == small_rcnn.SIZE for p in found)
    assert all(p["instances"].has("mask_scores") == judged for p in found)


@pytest.mark.parametrize("roi_heads", ["StandardROIHeads", "TaskROIHeads"])
def test_objects_without_masks_teach_nothing(repository, roi_heads):
    model = build_model(config(repository, "MODEL.ROI_HEADS.NAME", roi_heads))
    model = learn_from_labels_only(model).train()
    with EventStorage():
        losses = model(small_rcnn.batch(small_rcnn.objects(small_rcnn.TWO, [False, False])))
        part = model(small_rcnn.batch(small_rcnn.objects(small_rcnn.TWO, [True, False])))
    assert all(losses[name].item() == 0 and losses[name].requires_grad for name in LOSSES)
    assert all(part[name].item() > 0 for name in LOSSES)


def test_the_quality_is_that_of_the_masks_of_all_boxes(repository):
    own = head(repository, OWN + "MAX_FINE_ROIS", 1).train()
    own.convolutions.eval()
    x, instances = maps(1), [sampled(3)]
    _, masks = own.losses_and_masks(x, instances)
    as_detected = [Instances(small_rcnn.SIZE, pred_boxes=instances[0].proposal_boxes, pred_classes=torch.arange(3))]
    with torch.no_grad():
        expected = own.eval()(x, as_detected)[0].pred_masks[:, 0]
    assert masks.shape == (3, 112, 112) and not masks.requires_grad
    assert torch.allclose(masks, expected, atol=1e-6)


def test_mixed_precision(repository):
    own = head(repository).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = own(maps(1), [sampled(2)])
        found = own.eval()(maps(1), [detected(2)])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert found[0].pred_masks.dtype == torch.float32


def test_some_steps_lower_the_loss(repository):
    torch.manual_seed(1)
    own, x, instances = head(repository, HEAD + "CONV_DIM", 16).train(), maps(1), [sampled(2)]
    optimizer = torch.optim.AdamW(own.parameters(), 0.01)
    totals = []
    for _ in range(15):
        loss = sum(own(x, instances).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(loss.item())
    assert totals[-1] < 0.6 * totals[0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([HEAD + "POOLER_TYPE", "ROIAlignV2"], r"POOLER_TYPE: 'ROIAlignV2'; .* set it to \"\""),
        ([HEAD + "NUM_CONV", 0], r"NUM_CONV: 0; BoundaryMaskHead needs 1 or more"),
        ([HEAD + "CONV_DIM", 12], r"CONV_DIM: 12; with NORM '' give a multiple of 8"),
        ([HEAD + "NORM", "GN", HEAD + "CONV_DIM", 32], r"CONV_DIM: 32; with NORM 'GN' give a multiple of 64"),
        ([OWN + "BAND_WIDTH", 0], r"BOUNDARY\.BAND_WIDTH: 0; give 1 or more"),
        ([OWN + "MAX_FINE_ROIS", -1], r"BOUNDARY\.MAX_FINE_ROIS: -1; give 0 or more"),
        ([OWN + "DETAIL_DIM", 0], r"BOUNDARY\.DETAIL_DIM: 0; give 1 or more"),
        ([OWN + "DICE_WEIGHT", -0.5], r"BOUNDARY\.DICE_WEIGHT: -0\.5; give a factor"),
        ([OWN + "LOSS_WEIGHT", float("inf")], r"BOUNDARY\.LOSS_WEIGHT: inf; give a factor"),
    ],
)
def test_keys_out_of_range_are_refused(repository, overrides, message):
    with pytest.raises(UserError, match=message):
        check_mask_head(config(repository, *overrides))


@pytest.mark.parametrize("stride", [3, 8])
def test_a_detail_stride_that_is_no_part_of_the_map_s(repository, stride):
    with pytest.raises(UserError, match=f"DETAIL_STRIDE: {stride}; give 4, the stride of p2"):
        head(repository, OWN + "DETAIL_STRIDE", stride)


def test_pooled_features_are_refused(repository):
    pooled = ShapeSpec(channels=8, height=14, width=14)
    with pytest.raises(UserError, match=r'from feature maps: set MODEL\.ROI_MASK_HEAD\.POOLER_TYPE ""'):
        build_mask_head(config(repository, HEAD + "POOLER_TYPE", "ROIAlignV2"), pooled)
    with pytest.raises(UserError, match="Res5ROIHeads hands over none; take an FPN"):
        build_mask_head(config(repository, "MODEL.ROI_HEADS.NAME", "Res5ROIHeads"), pooled)


def test_the_first_mask_is_not_part_of_the_last(repository):
    """The second one, which is learnt whole too, takes its place everywhere."""
    full, empty = (torch.full((1, side, side), value) for side, value in ((28, 9.0), (14, -9.0)))
    finer = [torch.full((1, side, side), -9.0) for side in (56, 112)]
    composed = head(repository)._composed([empty, full, *finer])
    assert composed.shape == (1, 112, 112) and (composed > 0.5).all()  # no outline, so no finer mask either
