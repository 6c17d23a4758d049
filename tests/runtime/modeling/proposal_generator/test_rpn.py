import math

import pytest
import torch

from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import (
    RPN,
    RPN_HEAD_REGISTRY,
    StandardRPNHead,
    build_proposal_generator,
    proposal_utils,
)
from detectron2.modeling.proposal_generator import rpn as rpn_module
from detectron2.structures import Boxes, ImageList, Instances
from detectron2.utils.events import EventStorage

SIZES = [(32, 32), (28, 32)]


def make_rpn(**options):
    cfg = get_cfg()
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3"]
    for name, value in options.items():
        cfg.MODEL.RPN[name] = value
    torch.manual_seed(0)
    shapes = {"p2": ShapeSpec(channels=4, stride=4), "p3": ShapeSpec(channels=4, stride=8)}
    return build_proposal_generator(cfg, shapes)


def inputs():
    torch.manual_seed(1)
    features = {"p2": torch.rand(2, 4, 8, 8), "p3": torch.rand(2, 4, 4, 4)}
    return ImageList(torch.zeros(2, 3, 32, 32), SIZES), features


def ground_truth(*boxes_per_image):
    return [
        Instances(size, gt_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)))
        for size, boxes in zip(SIZES, boxes_per_image)
    ]


# On the cell grids, so that each is exactly one anchor.
ONE_EACH = ([[4.0, 4.0, 12.0, 12.0]], [[8.0, 8.0, 24.0, 24.0]])


@pytest.mark.parametrize(
    ("conv_dims", "keys"),
    [((-1,), ["conv.weight", "conv.bias"]), ((8, -1), ["conv.conv0.weight", "conv.conv0.bias", "conv.conv1.weight"])],
)
def test_head_keys_and_shapes(conv_dims, keys):
    head = StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=conv_dims)
    assert list(head.state_dict())[: len(keys)] == keys
    logits, deltas = head([torch.zeros(2, 4, 5, 6)])
    assert logits[0].shape == (2, 3, 5, 6)
    assert deltas[0].shape == (2, 12, 5, 6)
    assert head.anchor_deltas.bias.abs().sum() == 0


def test_head_refuses_empty_convolutions():
    with pytest.raises(AssertionError, match="positive"):
        StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=(0,))
    with pytest.raises(AssertionError, match="empty"):
        StandardRPNHead(in_channels=4, num_anchors=3, conv_dims=())


def test_head_is_found_by_name():
    assert RPN_HEAD_REGISTRY.get("StandardRPNHead") is StandardRPNHead
    with pytest.raises(KeyError, match="StandardRPNHead"):
        make_rpn(HEAD_NAME="StandardRPNHed")


def test_precomputed_proposals_need_no_generator():
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "PrecomputedProposals"
    assert build_proposal_generator(cfg, {}) is None


def test_labels_and_matched_boxes():
    rpn = make_rpn(BATCH_SIZE_PER_IMAGE=1000, POSITIVE_FRACTION=1.0)
    _, features = inputs()
    anchors = rpn.anchor_generator([features["p2"], features["p3"]])
    labels, boxes = rpn.label_and_sample_anchors(anchors, ground_truth(*ONE_EACH))
    # Anchor 18 is centred on (8, 8) at stride 4; 64 + 10 on (16, 16) at stride 8.
    assert labels[0].tolist().index(1) == 2 * 8 + 2
    assert labels[1].tolist().index(1) == 64 + 2 * 4 + 2
    assert boxes[0][18].tolist() == [4, 4, 12, 12]
    assert labels[0].dtype == torch.int8


def test_anchors_over_the_border_are_ignored():
    rpn = make_rpn(BATCH_SIZE_PER_IMAGE=1000, BOUNDARY_THRESH=0)
    _, features = inputs()
    anchors = rpn.anchor_generator([features["p2"], features["p3"]])
    labels, _ = rpn.label_and_sample_anchors(anchors, ground_truth([], []))
    # The far border itself is outside. Centres 4..24 of side 8 fit (4..20 in height 28), 8 and 16 of side 16.
    assert [(label == 0).sum().item() for label in labels] == [6 * 6 + 2 * 2, 6 * 5 + 2 * 2]


def test_losses_by_hand():
    rpn = make_rpn(BATCH_SIZE_PER_IMAGE=100, POSITIVE_FRACTION=1.0)
    anchors = [Boxes(torch.tensor([[0.0, 0, 8, 8], [8, 0, 16, 8], [16, 0, 24, 8]]))]
    logits = [torch.zeros(1, 3)]
    deltas = [torch.zeros(1, 3, 4)]
    labels = [torch.tensor([1, 0, -1], dtype=torch.int8)]
    boxes = [torch.tensor([[2.0, 0, 10, 8]]).expand(3, 4)]
    with EventStorage() as storage:
        losses = rpn.losses(anchors, logits, labels, deltas, boxes)
        assert storage.latest()["rpn/num_pos_anchors"][0] == 1
        assert storage.latest()["rpn/num_neg_anchors"][0] == 1
    assert losses["loss_rpn_cls"].item() == pytest.approx(2 * math.log(2) / 100)
    assert losses["loss_rpn_loc"].item() == pytest.approx(0.25 / 100)


@pytest.mark.parametrize("boxes", [([], []), ([[4.0, 4.0, 12.0, 12.0]], [])])
@pytest.mark.parametrize("loss_type", ["smooth_l1", "giou", "diou", "ciou"])
def test_images_without_objects_train(boxes, loss_type):
    rpn = make_rpn(BBOX_REG_LOSS_TYPE=loss_type)
    with EventStorage():
        proposals, losses = rpn(*inputs(), ground_truth(*boxes))
    assert len(proposals) == 2
    assert set(losses) == {"loss_rpn_cls", "loss_rpn_loc"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    assert rpn.rpn_head.anchor_deltas.weight.grad is not None
    assert not proposals[0].objectness_logits.requires_grad


def test_loss_weights():
    torch.manual_seed(0)
    with EventStorage():
        one = make_rpn(BATCH_SIZE_PER_IMAGE=1000)(*inputs(), ground_truth(*ONE_EACH))[1]
        weighted = make_rpn(BATCH_SIZE_PER_IMAGE=1000, LOSS_WEIGHT=2.0, BBOX_REG_LOSS_WEIGHT=3.0)
        more = weighted(*inputs(), ground_truth(*ONE_EACH))[1]
    assert more["loss_rpn_cls"].item() == pytest.approx(2 * one["loss_rpn_cls"].item(), rel=1e-5)
    assert more["loss_rpn_loc"].item() == pytest.approx(6 * one["loss_rpn_loc"].item(), rel=1e-5)


def test_training_needs_ground_truth():
    with pytest.raises(AssertionError, match="gt_instances"):
        make_rpn()(*inputs())


def test_diverged_training_stops():
    rpn = make_rpn()
    with torch.no_grad():
        rpn.rpn_head.anchor_deltas.bias.fill_(math.nan)
    with EventStorage(), pytest.raises(FloatingPointError):
        rpn(*inputs(), ground_truth(*ONE_EACH))
    proposals, _ = rpn.eval()(*inputs())
    assert [len(x) for x in proposals] == [0, 0]


def test_candidates_decode_as_all_anchors_would():
    rpn = make_rpn(PRE_NMS_TOPK_TEST=20, POST_NMS_TOPK_TEST=10, NMS_THRESH=0.9).eval()
    with torch.no_grad():
        for parameter in rpn.rpn_head.parameters():
            parameter.normal_(std=0.5)
    images, features = inputs()
    maps = [features["p2"], features["p3"]]
    logits, deltas = rpn.rpn_head(maps)
    logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
    deltas = [x.permute(0, 2, 3, 1).flatten(1, 2) for x in deltas]
    decoded = rpn._decode_proposals(rpn.anchor_generator(maps), deltas)
    assert [tuple(x.shape) for x in decoded] == [(2, 64, 4), (2, 16, 4)]

    proposals, losses = rpn(images, features)
    assert losses == {}
    for index, result in enumerate(proposals):
        assert len(result) > 0
        assert result.objectness_logits.diff().max() <= 0
        height, width = SIZES[index]
        clipped = torch.cat(decoded, dim=1)[index].clamp(min=0)
        clipped = torch.minimum(clipped, torch.tensor([width, height, width, height]).float())
        all_logits = torch.cat(logits, dim=1)[index]
        for box, logit in zip(result.proposal_boxes.tensor, result.objectness_logits):
            torch.testing.assert_close(box, clipped[(all_logits == logit).nonzero()[0, 0]])


def test_subclasses_may_replace_the_decoding():
    class Fixed(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            return [torch.tensor([1.0, 2.0, 3.0, 4.0]).expand(x.shape) for x in pred_anchor_deltas]

    rpn = make_rpn().eval()
    rpn.__class__ = Fixed
    proposals, _ = rpn(*inputs())
    # One per level survives NMS.
    assert proposals[0].proposal_boxes.tensor.tolist() == [[1, 2, 3, 4], [1, 2, 3, 4]]


def lively_rpn(**options):
    rpn = make_rpn(PRE_NMS_TOPK_TEST=20, POST_NMS_TOPK_TEST=10, **options).eval()
    with torch.no_grad():
        for parameter in rpn.rpn_head.parameters():
            parameter.normal_(std=0.5)
    return rpn


def equal(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a.proposal_boxes.tensor, b.proposal_boxes.tensor)
        assert torch.equal(a.objectness_logits, b.objectness_logits)
    return True


@pytest.mark.parametrize("on_the_object", [False, True])
def test_replaced_decoding_gets_all_anchors_of_all_images(on_the_object):
    rpn = lively_rpn()
    expected, _ = rpn(*inputs())
    seen = []

    class Watched(RPN):
        def _decode_proposals(self, anchors, pred_anchor_deltas):
            seen.extend((len(a), tuple(d.shape)) for a, d in zip(anchors, pred_anchor_deltas))
            return RPN._decode_proposals(self, anchors, pred_anchor_deltas)

    if on_the_object:
        rpn._decode_proposals = lambda *args: Watched._decode_proposals(rpn, *args)
    else:
        rpn.__class__ = Watched
    found, _ = rpn(*inputs())
    assert seen == [(64, (2, 64, 4)), (16, (2, 16, 4))]
    assert equal(found, expected)


def test_patched_choice_of_proposals_is_called_with_everything(monkeypatch):
    rpn = lively_rpn(NMS_THRESH=0.6)
    expected, _ = rpn(*inputs())
    calls = []

    def watched(*args):
        calls.append(args)
        return proposal_utils.find_top_rpn_proposals(*args)

    monkeypatch.setattr(rpn_module, "find_top_rpn_proposals", watched)
    found, _ = rpn(*inputs())
    ((boxes, logits, *settings),) = calls
    assert [tuple(x.shape) for x in boxes] == [(2, 64, 4), (2, 16, 4)]
    assert [tuple(x.shape) for x in logits] == [(2, 64), (2, 16)]
    assert settings == [SIZES, 0.6, 20, 10, 0.0, False]
    assert equal(found, expected)
