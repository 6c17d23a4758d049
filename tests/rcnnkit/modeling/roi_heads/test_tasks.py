"""Which proposals a task learns from, a task of one's own by a name in the config, and modules that are replaced."""

import pytest
import torch
from torch import nn

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from rcnnkit.errors import UserError
from rcnnkit.modeling.roi_heads import ROI_TASK_REGISTRY, Branch, KeypointTask, MaskTask, RoITask
from rcnnkit.modeling.roi_heads.tasks import build_tasks
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import CASCADE, MULTI_TASK, ONE, TWO, full_batch, objects


@ROI_TASK_REGISTRY.register()
class AreaTask(RoITask):
    """The logarithm of a box's area, from the mean of its features."""

    name = "area"
    truth = "gt_boxes"
    label = "gt_has_area"

    @classmethod
    def build(cls, cfg, input_shape):
        return Branch(["p2"], None, AreaHead())


class AreaHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 1)

    def forward(self, features, instances):
        guess = self.linear(features["p2"].mean(dim=(2, 3)))[:, 0]
        if self.training:
            errors = [(g - p.gt_boxes.area().log()).abs() for g, p in zip(guess, instances)]
            return {"loss_area": torch.cat(errors).sum() / max(sum(len(p) for p in instances), 1) + guess.sum() * 0}
        for one, p in zip(guess, instances):
            p.pred_log_area = one.expand(len(p))
        return instances


def proposals(targets: Instances) -> Instances:
    """Foreground proposals: each object's own box, with its truth."""
    return Instances(targets.image_size, proposal_boxes=targets.gt_boxes, **targets.get_fields())


def test_only_labelled_objects_are_learnt_from():
    foreground = [
        proposals(objects(TWO, [True, False], [False, True])),
        proposals(objects(ONE)),  # an image of which nobody has labelled either
        proposals(objects([], [], [])),
        Instances(small_rcnn.SIZE, proposal_boxes=Boxes(torch.zeros(0, 4)), gt_classes=torch.zeros(0).long()),
    ]
    masks = MaskTask().learnable(foreground)
    assert [len(p) for p in masks] == [1, 0, 0, 0]
    assert masks[0].gt_boxes.tensor.tolist() == TWO[:1]
    with EventStorage():
        keypoints = KeypointTask().learnable(foreground)
    assert [len(p) for p in keypoints] == [1, 0, 0, 0]
    assert keypoints[0].gt_boxes.tensor.tolist() == TWO[1:]


def test_without_the_field_every_object_of_an_image_is_labelled():
    one = proposals(objects(TWO, [True, False], [True, True]))
    one.remove("gt_has_mask")
    assert len(MaskTask().learnable([one])[0]) == 2


def test_keypoints_are_learnt_where_one_lies_in_the_proposal():
    one = proposals(objects(TWO, keypoints=[True, True]))
    one.proposal_boxes = Boxes(torch.tensor([[20.0, 20.0, 40.0, 40.0], TWO[1]]))  # between the first one's corners
    with EventStorage():
        assert KeypointTask().learnable([one])[0].gt_boxes.tensor.tolist() == TWO[1:]


def test_the_divisor_is_the_number_of_labelled_objects(repository):
    """The mask loss of a batch of which one object has no mask is the mean over the two that have one."""
    model = build_model(small_rcnn.config(repository, *MULTI_TASK)).train()
    mask, heads = MaskTask(), model.roi_heads
    features = {f"p{i}": torch.randn(2, 8, 96 >> i, 128 >> i) for i in range(2, 6)}
    first, second = objects(TWO, [True, False]), objects(ONE, [True])
    with EventStorage():
        found = mask.losses(heads.branch(mask), features, [proposals(first), proposals(second)])["loss_mask"]
        alone = [
            mask.losses(heads.branch(mask), features, pair)["loss_mask"]
            for pair in ([proposals(first), proposals(second)[:0]], [proposals(first)[:0], proposals(second)])
        ]
    assert found.item() == pytest.approx((alone[0].item() + alone[1].item()) / 2, rel=1e-6)


@pytest.mark.parametrize("heads", [(), CASCADE])
def test_a_new_task_is_a_name_in_the_config(repository, heads):
    tasks = ("RCNNKIT.ROI_TASKS", ("AreaTask", "KeypointTask", "MaskTask"), "MODEL.KEYPOINT_ON", False)
    model = build_model(small_rcnn.config(repository, *MULTI_TASK, *heads, *tasks)).train()
    assert [task.name for task in model.roi_heads.tasks] == ["area", "mask"]
    assert model.roi_heads.area_on and model.roi_heads.mask_on and not model.roi_heads.keypoint_on
    with torch.no_grad():
        model.roi_heads.area_head.linear.weight.zero_()
        model.roi_heads.area_head.linear.bias.zero_()
    items = small_rcnn.batch(objects(ONE, [True], [True]))
    with EventStorage():
        losses = model(items)
    assert losses["loss_area"].item() == pytest.approx(torch.tensor(3600.0).log().item(), rel=1e-6)  # 60 × 60
    with torch.no_grad():
        found = model.eval()(items)[0]["instances"]
    assert len(found) and not found.pred_log_area.any() and found.has("pred_masks")


def test_a_replaced_head_is_used(repository):
    model = build_model(small_rcnn.config(repository, *MULTI_TASK)).eval()

    class Half(nn.Module):
        def forward(self, x, instances):
            for p in instances:
                p.pred_masks = torch.full((len(p), 1, 28, 28), 0.25)
            return instances

    model.roi_heads.mask_head = Half()
    with torch.no_grad():
        found = model.inference(full_batch()[:1], do_postprocess=False)[0]
    assert len(found) and (found.pred_masks == 0.25).all()


def test_a_task_that_is_not_there_is_told(repository):
    cfg = small_rcnn.config(repository, "RCNNKIT.ROI_TASKS", ("MaskTusk",))
    with pytest.raises(UserError, match=r"RCNNKIT\.ROI_TASKS: no task 'MaskTusk'; nearest: MaskTask"):
        build_tasks(cfg)


def test_given_boxes_are_for_inference_and_training_needs_targets(repository):
    heads = build_model(small_rcnn.config(repository, *MULTI_TASK)).roi_heads.train()
    with pytest.raises(RuntimeError, match="inference"):
        heads.forward_with_given_boxes({}, [])
    with pytest.raises(ValueError, match="training needs targets"):
        heads(None, {}, [])


@pytest.mark.parametrize("heads", [(), CASCADE])
def test_a_task_is_switched_off_as_detectron2s_branches_are(repository, heads):
    model = build_model(small_rcnn.config(repository, *MULTI_TASK, *heads)).train()
    model.roi_heads.keypoint_on = False
    with EventStorage():
        assert "loss_keypoint" not in model(full_batch())
    model.roi_heads.mask_on = False
    with torch.no_grad():
        found = model.eval()(full_batch())[0]["instances"]
    assert len(found) and not found.has("pred_masks") and not found.has("pred_keypoints")


def test_masks_are_learnt_from_so_many_boxes_whatever_the_head(repository):
    model = build_model(small_rcnn.config(repository, *MULTI_TASK, "RCNNKIT.MAX_MASK_ROIS", 2)).train()
    seen = []
    model.roi_heads.mask_pooler.register_forward_pre_hook(lambda _, arguments: seen.append(sum(map(len, arguments[1]))))
    with EventStorage():
        model(full_batch())
    assert seen == [2]


def test_a_point_that_the_class_does_not_have_is_not_found_by_detectron2s_head_either(repository):
    has = ("MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS", [[0], [0, 1], []], "MODEL.MASK_ON", False)
    model = build_model(small_rcnn.config(repository, *MULTI_TASK, *has)).eval()
    boxes = Boxes(torch.tensor([*TWO, *ONE]))
    given = Instances(small_rcnn.SIZE, pred_boxes=boxes, pred_classes=torch.tensor([0, 1, 2]))
    features = {f"p{i}": torch.randn(1, 8, 96 >> i, 128 >> i) for i in range(2, 6)}
    with torch.no_grad():
        [found] = model.roi_heads.forward_with_given_boxes(features, [given])
    assert (found.pred_keypoints[..., 2] > 0).tolist() == [[True, False], [True, True], [False, False]]


def test_a_task_twice_is_told(repository):
    cfg = small_rcnn.config(repository, "RCNNKIT.ROI_TASKS", ("MaskTask", "MaskTask"))
    with pytest.raises(UserError, match=r"RCNNKIT\.ROI_TASKS: 'MaskTask' is there twice"):
        build_tasks(cfg)
