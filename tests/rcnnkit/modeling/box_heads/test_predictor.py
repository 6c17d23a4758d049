"""Each loss in the RoI heads of Detectron2 and of rcnnkit: the layers stay, the loss is another, files go both ways."""

import copy
import math

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from rcnnkit.errors import UserError
from rcnnkit.modeling.box_heads import ClassBalancedLoss, ClassLossOutputLayers, SeesawLoss, use_class_loss
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import CASCADE, CASCADE_PLAIN, MULTI_TASK, full_batch

HEADS = {
    "StandardROIHeads": (),
    "TaskROIHeads": MULTI_TASK,
    "CascadeROIHeads": CASCADE_PLAIN,
    "CascadeTaskROIHeads": (*MULTI_TASK, *CASCADE),
}
LOSSES = ("class_balanced", "seesaw")
COUNTS = [100, 10, 1]


def config(repository, kind: str, heads: str):
    return small_rcnn.config(repository, *HEADS[heads], "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", kind)


def built(cfg, counts=COUNTS):
    torch.manual_seed(0)
    return use_class_loss(build_model(cfg), cfg, counts).train()


def losses_of(model) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    with EventStorage():
        return model(full_batch())


def predictors(model) -> list:
    own = model.roi_heads.box_predictor
    return list(own) if isinstance(own, torch.nn.ModuleList) else [own]


def trained(model, steps: int = 3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(losses_of(model).values()).backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("kind", LOSSES)
class TestEveryRoIHeads:
    def test_trains_and_only_the_class_loss_is_another(self, repository, kind, heads):
        plain, own = (built(config(repository, loss, heads)) for loss in ("cross_entropy", kind))
        assert all(type(one) is ClassLossOutputLayers for one in predictors(own))
        expected, found = losses_of(plain), losses_of(own)
        assert list(found) == list(expected)
        other = {name for name in found if not torch.equal(found[name], expected[name])}
        # the stages after the first one have the same boxes, for no weight has changed yet
        assert other == {name for name in found if name.startswith("loss_cls")}
        before = copy.deepcopy(own.state_dict())
        assert all(torch.isfinite(loss) for loss in losses_of(trained(own)).values())
        for name in (n for n in before if "cls_score" in n or "bbox_pred" in n):
            assert not torch.equal(before[name], own.state_dict()[name]), name

    def test_files_go_both_ways(self, repository, tmp_path, kind, heads):
        plain, own = (trained(built(config(repository, loss, heads)), 1) for loss in ("cross_entropy", kind))
        for name, model, other in (("own", own, plain), ("plain", plain, own)):
            DetectionCheckpointer(model, str(tmp_path)).save(name)
            DetectionCheckpointer(other).load(str(tmp_path / f"{name}.pth"))
            with torch.no_grad():
                expected, found = (one.eval()(full_batch())[0]["instances"] for one in (model, other))
            assert len(found) and torch.equal(found.scores, expected.scores)


def test_cross_entropy_is_detectron2s_own_path(repository):
    cfg = small_rcnn.config(repository)
    assert cfg.MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE == "cross_entropy"
    model = build_model(cfg)
    predictor = model.roi_heads.box_predictor
    assert use_class_loss(model, cfg, []) is model
    assert model.roi_heads.box_predictor is predictor and type(predictor) is FastRCNNOutputLayers


@pytest.mark.parametrize("heads", ["StandardROIHeads", "CascadeROIHeads"])
def test_seesaw_counts_what_training_sees_and_keeps_it(repository, tmp_path, heads):
    model = built(config(repository, "seesaw", heads))
    losses_of(model)
    first = [one.class_loss.class_counts.clone() for one in predictors(model)]
    assert all((counts > 0).tolist() == [True, True, False] for counts in first)  # classes of the two objects
    losses_of(model)
    assert all(torch.equal(one.class_loss.class_counts, 2 * was) for one, was in zip(predictors(model), first))
    with torch.no_grad():
        model.eval()(full_batch())
    DetectionCheckpointer(model, str(tmp_path)).save("counted")
    again = built(config(repository, "seesaw", heads))
    DetectionCheckpointer(again).load(str(tmp_path / "counted.pth"))
    assert all(torch.equal(one.class_loss.class_counts, 2 * was) for one, was in zip(predictors(again), first))


def test_counts_by_hand():
    loss = SeesawLoss(3, 0.8, 2.0)
    logits = torch.zeros(4, 4)
    loss(logits, torch.tensor([0, 0, 2, 3]))
    loss(logits[:1], torch.tensor([2]))
    assert loss.class_counts.tolist() == [2, 0, 2]
    loss.eval()(logits[:1], torch.tensor([0]))
    assert loss.class_counts.tolist() == [2, 0, 2]


def test_the_class_loss_has_its_weight():
    predictor = ClassLossOutputLayers(
        ShapeSpec(channels=2),
        class_loss=ClassBalancedLoss([1, 1, 1], 0.0),
        box2box_transform=Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
        num_classes=3,
        loss_weight={"loss_cls": 3.0, "loss_box_reg": 5.0},
    )
    boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]] * 2))
    sampled = Instances((8, 8), proposal_boxes=boxes, gt_boxes=boxes, gt_classes=torch.tensor([1, 3]))
    with EventStorage():
        losses = predictor.losses((torch.zeros(2, 4), torch.zeros(2, 12)), [sampled])
    # equal scores of three classes and the background cost ln 4; the only box of an object is where it should be
    assert losses["loss_cls"].item() == pytest.approx(3 * math.log(4))
    assert losses["loss_box_reg"].item() == 0


def test_a_predictor_of_ones_own_is_refused(repository):
    class OwnOutputLayers(FastRCNNOutputLayers):
        pass

    cfg = config(repository, "seesaw", "StandardROIHeads")
    model = build_model(cfg)
    model.roi_heads.box_predictor.__class__ = OwnOutputLayers
    with pytest.raises(UserError, match=r"CLS_LOSS_TYPE: 'seesaw' .* StandardROIHeads is OwnOutputLayers; set it to"):
        use_class_loss(model, cfg, COUNTS)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("kind", ["smooth_l1", "giou", "diou", "ciou"])
def test_every_box_loss_trains_every_roi_heads(repository, kind, heads):
    """Detectron2's own losses of the box head and the RPN: they differ from one another, and the weights move."""
    keys = ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "MODEL.RPN.BBOX_REG_LOSS_TYPE")
    cfg = small_rcnn.config(repository, *HEADS[heads], *(part for key in keys for part in (key, kind)))
    model = built(cfg)
    found = losses_of(model)
    of_boxes = {name for name in found if name.startswith(("loss_box_reg", "loss_rpn_loc"))}
    assert len(of_boxes) == (4 if "Cascade" in heads else 2) and all(found[name] > 0 for name in of_boxes)
    plain = losses_of(built(small_rcnn.config(repository, *HEADS[heads])))
    assert all((found[name] == plain[name]) == (kind == "smooth_l1") for name in of_boxes)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trained(model)
    moved = {name for name, value in model.named_parameters() if not torch.equal(before[name], value)}
    assert {name for name in before if "bbox_pred" in name or "anchor_deltas" in name} <= moved


@pytest.mark.parametrize("kind", ["ROIPool", "ROIAlign", "ROIAlignV2"])
def test_every_pooling_trains_in_task_roi_heads(repository, kind):
    types = [part for head in ("BOX", "MASK", "KEYPOINT") for part in (f"MODEL.ROI_{head}_HEAD.POOLER_TYPE", kind)]
    model = built(small_rcnn.config(repository, *MULTI_TASK, *types))
    poolers = (model.roi_heads.box_pooler, model.roi_heads.mask_pooler, model.roi_heads.keypoint_pooler)
    for pooler in poolers:
        for level in pooler.level_poolers:
            assert ("Pool" in type(level).__name__) == (kind == "ROIPool")
            assert getattr(level, "aligned", None) in ({"ROIAlign": False, "ROIAlignV2": True}.get(kind), None)
    before = {name: value.clone() for name, value in model.backbone.named_parameters()}
    assert all(torch.isfinite(loss) for loss in losses_of(trained(model)).values())
    assert not any(torch.equal(before[name], value) for name, value in model.backbone.named_parameters())


def test_processes_that_train_together_count_together(monkeypatch):
    monkeypatch.setattr("rcnnkit.modeling.box_heads.predictor.comm.get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda seen: seen.add_(torch.tensor([0, 5])))
    loss = SeesawLoss(2, 0.8, 2.0)
    loss(torch.zeros(1, 3), torch.tensor([0]))
    assert loss.class_counts.tolist() == [1, 5]
