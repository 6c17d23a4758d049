"""MultiTaskRCNN: GeneralizedRCNN to the bit where all is labelled, and what it does where not all is."""

import pytest
import torch
from PIL import Image

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage
from rcnnkit.data.mapper import LabelMapper
from rcnnkit.errors import UserError
from rcnnkit.modeling.partial_labels import learn_from_labels_only
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import CASCADE, CASCADE_PLAIN, MULTI_TASK, ONE, TWO, full_batch, objects


def seeded(cfg):
    torch.manual_seed(0)
    return build_model(cfg)


def losses_of(model, items, seed: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    with EventStorage():
        return model.train()(items)


def detections(model, items) -> list:
    with torch.no_grad():
        return [found["instances"] for found in model.eval()(items)]


def assert_same_detections(found, expected):
    assert sum(len(one) for one in expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert list(one.get_fields()) == list(other.get_fields())
        for name, value in other.get_fields().items():
            tensors = [getattr(v, "tensor", v) for v in (one.get(name), value)]
            assert torch.equal(*tensors), name


KINDS = {
    "boxes": (("MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False), ()),
    "masks": (("MODEL.KEYPOINT_ON", False), ()),
    "keypoints": (("MODEL.MASK_ON", False), ()),
    "all": ((), ()),
    "cascade": (CASCADE_PLAIN, CASCADE),
    "trained on predicted boxes": (("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True), ()),
    "ROIPool": (tuple(f"MODEL.ROI_{h}_HEAD.POOLER_TYPE={'ROIPool'}" for h in ("BOX", "MASK", "KEYPOINT")), ()),
    "ROIAlign": (tuple(f"MODEL.ROI_{h}_HEAD.POOLER_TYPE={'ROIAlign'}" for h in ("BOX", "MASK", "KEYPOINT")), ()),
}


def overrides(kind) -> tuple[list, list]:
    """Of the plain model, and of the multi-task one."""
    common, own = KINDS[kind]
    common = [part for entry in common for part in (entry.split("=") if "=" in str(entry) else [entry])]
    return common, [*common, *MULTI_TASK, *own]


@pytest.mark.parametrize("kind", KINDS)
def test_is_generalized_rcnn_where_everything_is_labelled(repository, kind):
    plain, own = (seeded(small_rcnn.config(repository, *part)) for part in overrides(kind))
    assert list(own.state_dict()) == list(plain.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(), plain.state_dict().values()))
    expected, found = losses_of(plain, full_batch()), losses_of(own, full_batch())
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert all(loss > 0 for loss in found.values())
    sum(expected.values()).backward()
    sum(found.values()).backward()
    for one, other in zip(own.parameters(), plain.parameters()):
        assert torch.equal(one.grad, other.grad)
    assert_same_detections(detections(own, full_batch()), detections(plain, full_batch()))


def test_proposals_may_come_with_the_input(repository):
    given = ("MODEL.PROPOSAL_GENERATOR.NAME", "PrecomputedProposals")
    plain = seeded(small_rcnn.config(repository, *given))
    own = seeded(small_rcnn.config(repository, *MULTI_TASK, *given))
    items = full_batch()
    for item in items:
        item["proposals"] = Instances(small_rcnn.SIZE, proposal_boxes=Boxes(torch.tensor(TWO + ONE)))
        item["proposals"].objectness_logits = torch.zeros(3)
    expected, found = losses_of(plain, items), losses_of(own, items)
    assert list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)
    assert_same_detections(detections(own, items), detections(plain, items))
    assert own.proposal_generator is None and own.balance.tasks == ["box", "mask", "keypoint"]


@torch.no_grad()
def test_test_time_augmentation_takes_it(repository):
    test_time = ("TEST.AUG.MIN_SIZES", (96,), "TEST.AUG.FLIP", False, "MODEL.KEYPOINT_ON", False)
    found = []
    for more in ((), MULTI_TASK):
        cfg = small_rcnn.config(repository, *more, *test_time)
        augmented = GeneralizedRCNNWithTTA(cfg, seeded(cfg).eval())
        found.append([one["instances"] for one in augmented([{**full_batch()[0], "height": 96, "width": 128}])])
    assert_same_detections(found[1], found[0])


def test_training_is_drawn_where_asked(repository):
    model = seeded(small_rcnn.config(repository, *MULTI_TASK, "VIS_PERIOD", 1, "MODEL.MASK_ON", False))
    with EventStorage() as storage:
        model.train()(full_batch())
        assert len(storage._vis_data) == 1


def test_checkpoints_load_into_one_another(repository, tmp_path):
    plain = seeded(small_rcnn.config(repository))
    own = build_model(small_rcnn.config(repository, *MULTI_TASK))
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    rest = DetectionCheckpointer(own).load(str(tmp_path / "plain.pth"))
    assert not rest
    expected = detections(plain, full_batch())
    assert_same_detections(detections(own, full_batch()), expected)
    DetectionCheckpointer(own, str(tmp_path)).save("own")
    again = build_model(small_rcnn.config(repository))
    DetectionCheckpointer(again).load(str(tmp_path / "own.pth"))
    assert_same_detections(detections(again, full_batch()), expected)


def test_roi_pooling_kinds_differ(repository):
    found = {}
    for kind in ("ROIPool", "ROIAlign", "all"):
        found[kind] = losses_of(seeded(small_rcnn.config(repository, *overrides(kind)[1])), full_batch())["loss_mask"]
    assert len({loss.item() for loss in found.values()}) == 3


def test_given_boxes_get_masks_and_keypoints(repository):
    model = build_model(small_rcnn.config(repository, *MULTI_TASK)).eval()
    items = full_batch()[:1]
    with torch.no_grad():
        first = model.inference(items, do_postprocess=False)
        given = [one[:3] for one in first]
        for one in given:
            for name in ("pred_masks", "pred_keypoints", "pred_keypoint_heatmaps"):
                one.remove(name)
        again = model.inference(items, given, do_postprocess=False)[0]
    torch.testing.assert_close(again.pred_masks, first[0][:3].pred_masks)
    torch.testing.assert_close(again.pred_keypoints, first[0][:3].pred_keypoints)


def test_objects_with_a_box_only_change_neither_mask_nor_keypoint_loss(repository):
    model = seeded(small_rcnn.config(repository, *MULTI_TASK))
    some = small_rcnn.batch(objects(TWO, [True, False], [True, False]), objects(ONE, [True], [False]))
    every = small_rcnn.batch(objects(TWO, [True, True], [True, True]), objects(ONE, [True], [True]))
    found, full = losses_of(model, some), losses_of(model, every)
    for name in ("loss_cls", "loss_box_reg", "loss_rpn_cls", "loss_rpn_loc"):
        assert torch.equal(found[name], full[name])
    assert found["loss_mask"] != full["loss_mask"] and found["loss_keypoint"] != full["loss_keypoint"]
    assert found["loss_mask"] > 0 and found["loss_keypoint"] > 0


def test_partly_labelled_plain_models_learn_the_same_where_the_trainer_hides_the_rest(repository):
    """Trainer calls `learn_from_labels_only`: without ignored regions it is all that MultiTaskRCNN does with them."""
    plain, own = (seeded(small_rcnn.config(repository, *part)) for part in overrides("all"))
    some = small_rcnn.batch(objects(TWO, [True, False], [False, True]), objects(ONE, [True], [True]))
    expected, found = losses_of(learn_from_labels_only(plain), some), losses_of(own, some)
    assert found.keys() == expected.keys()
    for name, loss in found.items():
        torch.testing.assert_close(loss, expected[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("fields", [True, False])
def test_a_batch_without_labels_costs_exactly_0_and_every_parameter_has_a_gradient(repository, fields):
    model = seeded(small_rcnn.config(repository, *MULTI_TASK))
    none = ([False, False], [False, False]) if fields else ()
    losses = losses_of(model, small_rcnn.batch(objects(TWO, *none)))
    assert losses["loss_mask"].item() == losses["loss_keypoint"].item() == 0
    sum(losses.values()).backward()
    heads = [model.roi_heads.mask_head, model.roi_heads.keypoint_head]
    for parameter in (p for head in heads for p in head.parameters()):
        assert parameter.grad is not None and not parameter.grad.any()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("heads", [(), CASCADE])
def test_nothing_is_background_in_an_ignored_image(repository, heads):
    """All of the image is ignored: only what overlaps the object is learnt from."""
    model = seeded(small_rcnn.config(repository, *MULTI_TASK, *heads))
    items = small_rcnn.batch(objects(ONE, [True], [True]))
    plain = losses_of(model, items)
    items[0]["ignored"] = Boxes(torch.tensor([[0.0, 0.0, 128.0, 96.0]]))
    with EventStorage() as storage:
        losses = model(items)
    latest = {name: value for name, (value, _) in storage.latest().items()}
    assert latest["roi_head/num_bg_samples"] == 0 and latest["roi_head/num_fg_samples"] > 0
    assert latest["rpn/num_neg_anchors"] == 0 and latest["rpn/num_pos_anchors"] > 0
    assert torch.isfinite(torch.stack(list(losses.values()))).all()
    assert losses["loss_rpn_cls"] < plain["loss_rpn_cls"]


@pytest.mark.parametrize("heads", [(), CASCADE])
def test_an_ignored_image_without_objects_costs_nothing(repository, heads):
    model = seeded(small_rcnn.config(repository, *MULTI_TASK, *heads))
    crowd = Boxes(torch.tensor([[0.0, 0.0, 128.0, 96.0]]))
    items = small_rcnn.batch(objects(ONE, [True], [True]), objects([], [], []))
    items[1]["ignored"] = crowd
    losses = losses_of(model, items)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_the_mapper_s_crowds_reach_the_model(repository, tmp_path):
    Image.new("RGB", (128, 96)).save(tmp_path / "picture.png")
    annotation = {"bbox": [0, 0, 128, 96], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 1}
    record = {"file_name": str(tmp_path / "picture.png"), "annotations": [annotation]}
    data = ("DATASETS.TRAIN", ("shapes_train",), "INPUT.MIN_SIZE_TRAIN", (96,))
    cfg = small_rcnn.config(repository, *MULTI_TASK, *data)
    with EventStorage() as storage:
        seeded(cfg).train()([LabelMapper(cfg, True)(record)])
    assert storage.latest()["rpn/num_neg_anchors"][0] == storage.latest()["roi_head/num_bg_samples"][0] == 0


def test_ignored_regions_beside_a_plain_rpn_and_plain_heads_do_no_harm(repository):
    model = seeded(small_rcnn.config(repository, "MODEL.META_ARCHITECTURE", "MultiTaskRCNN"))
    items = small_rcnn.batch(objects(ONE, [True], [True]))
    expected = losses_of(model, items)
    items[0]["ignored"] = Boxes(torch.tensor([[0.0, 0.0, 128.0, 96.0]]))
    found = losses_of(model, items)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_weights_of_the_tasks(repository):
    weights = ("RCNNKIT.TASK_WEIGHTS", [["mask", 2.0], ["rpn", 0.5]])
    cfgs = [small_rcnn.config(repository, *MULTI_TASK, *more) for more in ((), weights)]
    plain, weighed = (losses_of(seeded(cfg), full_batch()) for cfg in cfgs)
    factors = {"loss_mask": 2.0, "loss_rpn_cls": 0.5, "loss_rpn_loc": 0.5}
    for name, loss in plain.items():
        assert weighed[name].item() == pytest.approx(loss.item() * factors.get(name, 1.0), rel=1e-6)


def test_weights_that_are_learnt(repository):
    model = seeded(small_rcnn.config(repository, *MULTI_TASK, "RCNNKIT.TASK_BALANCE", "uncertainty"))
    plain = losses_of(seeded(small_rcnn.config(repository, *MULTI_TASK)), full_batch())
    learnt = losses_of(model, full_batch())
    assert list(learnt) == [*plain, "loss_balance"]
    assert all(torch.equal(learnt[name], plain[name]) for name in plain)  # σ = 1 at first
    assert learnt["loss_balance"].item() == 0
    sum(learnt.values()).backward()
    assert set(model.balance.log_variance.keys()) == {"rpn", "box", "mask", "keypoint"}
    mask = plain["loss_mask"].item()
    assert model.balance.log_variance["mask"].grad.item() == pytest.approx(0.5 - mask, rel=1e-5)


def test_a_weight_of_no_task_is_told(repository):
    cfg = small_rcnn.config(repository, *MULTI_TASK, "RCNNKIT.TASK_WEIGHTS", [["masks", 2.0]])
    with pytest.raises(UserError, match=r"RCNNKIT\.TASK_WEIGHTS.*'masks'.*mask"):
        build_model(cfg)
