"""Heads see, in training, only the boxes of objects that have masks (keypoints) labelled."""

import pytest
import torch
from torch import nn

from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, Instances, PolygonMasks
from detectron2.utils.events import EventStorage
from rcnnkit.modeling.partial_labels import HAS_MASK, labelled_boxes, learn_from_labels_only, select_labelled

SQUARE = [torch.tensor([2.0, 2.0, 10.0, 2.0, 10.0, 10.0, 2.0, 10.0]).numpy()]


def proposals(*labelled: bool | None) -> Instances:
    """One box per entry; None in the first place: without the field."""
    instances = Instances((20, 20))
    instances.proposal_boxes = Boxes(torch.tensor([[0.0, 0.0, 12.0, 12.0]] * len(labelled)).reshape(-1, 4))
    instances.gt_classes = torch.arange(len(labelled)) % 2
    if None not in labelled:
        instances.gt_masks = PolygonMasks([SQUARE if has else [] for has in labelled])
        instances.gt_has_mask = torch.tensor(labelled, dtype=torch.bool)
    else:
        instances.gt_masks = PolygonMasks([SQUARE for _ in labelled])
    return instances


@pytest.fixture
def model():
    torch.manual_seed(0)
    head = MaskRCNNConvUpsampleHead(ShapeSpec(channels=4), num_classes=2, conv_dims=[4, 4])
    model = nn.Module()
    model.roi_heads = nn.Module()
    model.roi_heads.mask_head = head
    return model


def mask_loss(model, features, instances) -> torch.Tensor:
    with EventStorage():
        return model.roi_heads.mask_head(features, instances)["loss_mask"]


def test_boxes_without_a_label_add_nothing_to_the_loss_nor_to_its_divisor(model):
    features = torch.randn(5, 4, 7, 7)
    labelled_only = [proposals(True, True)[1:], proposals(True, True, True)[1:]]
    expected = mask_loss(model, features[[1, 3, 4]], labelled_only)
    learn_from_labels_only(model)
    found = mask_loss(model, features, [proposals(False, True), proposals(False, True, True)])
    assert torch.equal(found, expected)
    assert found.requires_grad and found.item() > 0


def test_a_batch_without_any_label_gives_a_loss_of_0_with_a_gradient(model):
    learn_from_labels_only(model)
    loss = mask_loss(model, torch.randn(2, 4, 7, 7), [proposals(False, False)])
    loss.backward()
    assert loss.item() == 0
    assert not model.roi_heads.mask_head.predictor.weight.grad.any()


def test_without_the_field_every_object_counts(model):
    features, instances = torch.randn(3, 4, 7, 7), [proposals(None), proposals(None, None)]
    expected = mask_loss(model, features, instances)
    assert torch.equal(mask_loss(learn_from_labels_only(model), features, instances), expected)
    mixed = [proposals(None), proposals(False, True)]
    assert labelled_boxes(mixed, HAS_MASK).tolist() == [True, False, True]
    assert [len(p) for p in select_labelled(mixed, HAS_MASK)] == [1, 1]


def test_inference_is_not_touched(model):
    head = learn_from_labels_only(model).roi_heads.mask_head.eval()
    predicted = Instances((20, 20), pred_boxes=Boxes(torch.zeros(2, 4)), pred_classes=torch.tensor([0, 1]))
    predicted.gt_has_mask = torch.tensor([False, True])
    assert head(torch.randn(2, 4, 7, 7), [predicted])[0].pred_masks.shape == (2, 1, 14, 14)


def test_feature_maps_by_name_are_passed_on(model):
    class Head(nn.Module):
        def forward(self, features, instances):
            return features, [len(p) for p in instances]

    model.roi_heads.mask_head = Head()
    learn_from_labels_only(model)
    features = {"p2": torch.zeros(1)}
    assert model.roi_heads.mask_head(features, [proposals(False, True)]) == (features, [1])


def test_models_without_such_heads_stay_as_they_are():
    learn_from_labels_only(nn.Linear(1, 1))
