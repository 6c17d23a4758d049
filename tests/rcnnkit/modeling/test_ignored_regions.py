"""What lies in ignored regions: by hand, in the RPN's sample, in the RoI heads' sample and in a cascade's stages."""

import pytest
import torch

from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from rcnnkit.modeling.ignored_regions import ImageTargets, in_ignored, targets_of
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import CASCADE, MULTI_TASK, objects

CPU = torch.device("cpu")


def boxes(*rows) -> Boxes:
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def targets(found: Instances, *ignored) -> ImageTargets:
    return ImageTargets(found.image_size, boxes(*ignored), **found.get_fields())


def test_by_hand():
    # 10 × 10 boxes: inside, half inside, a quarter, half in each of two regions, outside, and half out of the image,
    # whose part in the image is ignored
    found = boxes(
        [20, 20, 30, 30], [35, 20, 45, 30], [35, 35, 45, 45], [75, 20, 85, 30], [100, 0, 110, 10], [-5, 45, 5, 55]
    )
    regions = targets(objects([]), [10, 10, 40, 40], [70, 20, 80, 30], [80, 20, 90, 30], [0, 40, 20, 60])
    assert in_ignored(found, regions, 0.5).tolist() == [True, True, False, True, False, True]
    assert in_ignored(found, regions, 0.51).tolist() == [True, False, False, False, False, True]
    assert not in_ignored(found, regions, 1.1).any()
    assert found.tensor[-1].tolist() == [-5, 45, 5, 55]


def test_nothing_to_ignore():
    assert in_ignored(boxes([0, 0, 1, 1]), objects([]), 0.5) is None
    assert in_ignored(boxes([0, 0, 1, 1]), targets(objects([])), 0.5) is None
    assert in_ignored(boxes(), targets(objects([]), [0, 0, 1, 1]), 0.5).shape == (0,)
    assert not in_ignored(boxes([3, 3, 3, 3]), targets(objects([]), [0, 0, 9, 9]), 0.5).any()  # no area


def test_targets_keep_the_objects():
    item = {"instances": objects(small_rcnn.ONE, [True]), "ignored": boxes([1, 2, 3, 4])}
    found = targets_of(item, CPU)
    assert found.ignored.tensor.tolist() == [[1, 2, 3, 4]]
    assert list(found.get_fields()) == list(item["instances"].get_fields())
    assert len(found) == 1 and found.image_size == small_rcnn.SIZE
    del item["ignored"]
    assert type(targets_of(item, CPU)) is Instances


@pytest.fixture
def model(repository):
    return build_model(small_rcnn.config(repository, *MULTI_TASK)).train()


def test_rpn_samples_no_background_in_them(model):
    rpn = model.proposal_generator
    rpn.batch_size_per_image = 10_000  # all
    features = [torch.zeros(2, 8, 96 >> i, 128 >> i) for i in (2, 3, 4)]
    anchors = rpn.anchor_generator(features)
    one = objects(small_rcnn.ONE)
    crowd = targets(one, [0, 0, 64, 96])
    labels, matched = rpn.label_and_sample_anchors(anchors, [one, crowd])
    covered = in_ignored(Boxes.cat(anchors), crowd, 0.5)
    assert 0 < covered.sum() < len(covered)
    # what is an object stays one; background stays outside, and is not used inside; what was not used stays unused
    expected = torch.where(covered & (labels[0] == 0), -1, labels[0])
    assert torch.equal(labels[1], expected)
    assert (labels[1][covered] == 1).any()
    positive = labels[0] == 1
    assert torch.equal(matched[0][positive], matched[1][positive])
    without = rpn.label_and_sample_anchors(anchors, [targets(objects([]), [0, 0, 64, 96])])
    assert torch.equal(without[0][0] == -1, covered)
    assert without[1][0].shape == (len(covered), 4)


def test_the_rpn_s_boundary_is_kept(model):
    rpn = model.proposal_generator
    rpn.batch_size_per_image, rpn.anchor_boundary_thresh = 10_000, 0
    anchors = rpn.anchor_generator([torch.zeros(1, 8, 24, 32)])
    [labels], _ = rpn.label_and_sample_anchors(anchors, [targets(objects([]), [0, 0, 8, 8])])
    assert (labels[~anchors[0].inside_box(small_rcnn.SIZE, 0)] == -1).all()
    assert (labels == 0).any()


def test_roi_heads_sample_no_background_in_them(model):
    found = Instances(small_rcnn.SIZE, proposal_boxes=boxes([10, 10, 20, 20], [28, 31, 90, 90], [100, 60, 110, 80]))
    found.objectness_logits = torch.zeros(3)
    crowd = targets(objects(small_rcnn.ONE, [True]), [0, 0, 95, 95])
    with EventStorage():
        [drawn] = model.roi_heads.label_and_sample_proposals([found], [crowd])
        [plain] = model.roi_heads.label_and_sample_proposals([found], [objects(small_rcnn.ONE, [True])])
    # the second proposal and the object's own box, which joins the proposals, are objects; the third lies outside
    assert sorted(drawn.gt_classes.tolist()) == [0, 0, 3]
    assert sorted(plain.gt_classes.tolist()) == [0, 0, 3, 3]
    expected = [[28, 31, 90, 90], [30, 30, 90, 90], [100, 60, 110, 80]]
    assert sorted(drawn.proposal_boxes.tensor.tolist()) == expected
    assert sorted(plain.proposal_boxes.tensor.tolist()) == [[10, 10, 20, 20], *expected]


def test_later_stages_of_a_cascade_learn_no_background_in_them(repository):
    heads = build_model(small_rcnn.config(repository, *MULTI_TASK, *CASCADE)).roi_heads
    found = Instances(small_rcnn.SIZE, proposal_boxes=boxes([10, 10, 20, 20], [28, 31, 90, 90], [100, 60, 110, 80]))
    crowd = targets(objects(small_rcnn.ONE, [True]), [0, 0, 95, 95])
    with EventStorage():
        [labelled] = heads._match_and_label_boxes([found], 1, [crowd])
    assert labelled.gt_classes.tolist() == [0, 3]
    assert labelled.proposal_boxes.tensor.tolist() == [[28, 31, 90, 90], [100, 60, 110, 80]]
