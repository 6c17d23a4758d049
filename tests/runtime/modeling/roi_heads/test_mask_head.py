"""Mask head: loss, inference and the short cut of the predictor."""

import math

import pytest
import torch

from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.roi_heads.mask_head import (
    BaseMaskRCNNHead,
    MaskRCNNConvUpsampleHead,
    _tiled_mask_logits,
    mask_rcnn_inference,
    mask_rcnn_loss,
)
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage


def head(num_classes: int = 5) -> MaskRCNNConvUpsampleHead:
    built = MaskRCNNConvUpsampleHead(ShapeSpec(channels=4), num_classes=num_classes, conv_dims=[6, 6])
    with torch.no_grad():
        built.predictor.bias.copy_(torch.linspace(-1, 1, num_classes))
        built.predictor.weight.normal_()
    return built.eval()


def predicted(*classes: int) -> Instances:
    return Instances((20, 20), pred_classes=torch.tensor(classes, dtype=torch.int64))


def test_loss_and_statistics_by_hand():
    # the object fills the left half of a 4×4 box; the true class's logits are +large left, 0 right
    bitmask = torch.zeros(1, 8, 8)
    bitmask[0, :, :4] = 1
    instances = Instances(
        (8, 8),
        proposal_boxes=Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]])),
        gt_classes=torch.tensor([1]),
        gt_masks=BitMasks(bitmask),
    )
    logits = torch.full((1, 2, 4, 4), -7.0)
    logits[0, 1, :, :2] = 50.0
    logits[0, 1, :, 2:] = 0.0
    logits[0, 1, 0, 3] = 1e-6  # counts as foreground: one false positive of eight
    with EventStorage() as storage:
        loss = mask_rcnn_loss(logits, [instances], vis_period=1)
        stats = {name: value for name, (value, _) in storage.latest().items()}
        images = [(name, image.shape) for name, image, _ in storage._vis_data]
    assert loss.item() == pytest.approx(0.5 * math.log(2.0), rel=1e-5)
    assert stats == {
        "mask_rcnn/accuracy": 1 - 1 / 16,
        "mask_rcnn/false_positive": 1 / 8,
        "mask_rcnn/false_negative": 0.0,
    }
    assert images == [("Left: mask prediction;   Right: mask GT (0)", (3, 4, 8))]


def test_loss_without_boxes_has_a_gradient():
    logits = torch.zeros(0, 3, 4, 4, requires_grad=True)
    loss = mask_rcnn_loss(logits, [Instances((8, 8)), Instances((8, 8))][:0])
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None


def test_inference_takes_the_predicted_class():
    logits = torch.zeros(3, 2, 1, 1)
    logits[0, 1] = logits[1, 0] = math.log(3.0)
    instances = [predicted(1, 1), predicted(0)]
    mask_rcnn_inference(logits, instances)
    assert instances[0].pred_masks.flatten().tolist() == pytest.approx([0.75, 0.5])
    assert instances[1].pred_masks.shape == (1, 1, 1, 1)


def test_class_agnostic_inference():
    instances = [predicted(7)]
    mask_rcnn_inference(torch.zeros(1, 1, 2, 2), instances)
    assert instances[0].pred_masks.tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]


@pytest.mark.parametrize("classes", [[(3, 0), (4,)], [(), ()], [(2, 2, 1), ()]])
def test_own_class_rows_equal_the_whole_predictor(classes):
    built = head()
    x = torch.randn(sum(map(len, classes)), 4, 7, 7)
    quick, whole = [predicted(*c) for c in classes], [predicted(*c) for c in classes]
    with torch.no_grad():
        built(x, quick)
        mask_rcnn_inference(built.layers(x), whole)
    for a, b in zip(quick, whole):
        assert a.pred_masks.shape == (len(a), 1, 14, 14)
        torch.testing.assert_close(a.pred_masks, b.pred_masks, rtol=0, atol=1e-6)


def test_overridden_layers_and_hooks_are_respected():
    class Negated(MaskRCNNConvUpsampleHead):
        def layers(self, x):
            return -super().layers(x)

    negated = Negated(ShapeSpec(channels=4), num_classes=5, conv_dims=[6, 6]).eval()
    hooked = head()
    negated.load_state_dict(hooked.state_dict())
    hooked.predictor.register_forward_hook(lambda module, args, output: -output)
    x = torch.randn(2, 4, 7, 7)
    a, b = [predicted(1, 3)], [predicted(1, 3)]
    negated(x, a)
    hooked(x, b)
    torch.testing.assert_close(a[0].pred_masks, b[0].pred_masks)


class _Negated(Conv2d):
    def forward(self, x):
        return -super().forward(x)


class _NegatedDeconv(torch.nn.ConvTranspose2d):
    def forward(self, x, output_size=None):
        return -super().forward(x, output_size)


def _with_hook(layer):
    layer.register_forward_hook(lambda module, args, output: -output)
    return layer


def _with_replaced_forward(layer):
    plain = layer.forward
    layer.forward = lambda x: -plain(x)
    return layer


@pytest.mark.parametrize(
    ("name", "make", "by_rows"),
    [
        ("predictor", lambda: Conv2d(6, 5, 1, bias=False), True),
        ("predictor", lambda: Conv2d(6, 5, 1, padding=1), False),
        ("predictor", lambda: Conv2d(6, 5, 1, stride=2), False),
        ("predictor", lambda: Conv2d(6, 6, 1, groups=2), False),
        ("predictor", lambda: _Negated(6, 5, 1), False),
        ("predictor", lambda: _with_hook(Conv2d(6, 5, 1)), False),
        ("predictor", lambda: _with_replaced_forward(Conv2d(6, 5, 1)), False),
        ("predictor", lambda: torch.nn.utils.parametrizations.weight_norm(Conv2d(6, 5, 1)), False),
        ("deconv", lambda: torch.nn.ConvTranspose2d(6, 6, 2, stride=2, bias=False), True),
        ("deconv", lambda: torch.nn.ConvTranspose2d(6, 6, 2, stride=2, padding=1), True),
        ("deconv", lambda: torch.nn.ConvTranspose2d(6, 6, 2, stride=2, output_padding=1), True),
        ("deconv", lambda: torch.nn.ConvTranspose2d(6, 6, 2, stride=2, groups=2), True),
        ("deconv", lambda: _NegatedDeconv(6, 6, 2, stride=2), True),
        ("deconv", lambda: _with_hook(torch.nn.ConvTranspose2d(6, 6, 2, stride=2)), True),
        ("deconv", lambda: _with_replaced_forward(torch.nn.ConvTranspose2d(6, 6, 2, stride=2)), True),
        ("deconv_relu", lambda: _with_hook(torch.nn.ReLU()), True),
    ],
)
def test_replaced_layers_do_what_they_do_alone(name, make, by_rows):
    built = head()
    setattr(built, name, make())
    quick, whole = [predicted(1, 3)], [predicted(1, 3)]
    x = torch.randn(2, 4, 7, 7)
    with torch.no_grad():
        assert built._predicts_by_rows() == by_rows
        built(x, quick)
        mask_rcnn_inference(built.layers(x), whole)
    torch.testing.assert_close(quick[0].pred_masks, whole[0].pred_masks, rtol=0, atol=1e-6)


def test_parameters_and_initialisation():
    built = MaskRCNNConvUpsampleHead(ShapeSpec(channels=64), num_classes=80, conv_dims=[64, 64])
    assert {name: tuple(p.shape) for name, p in built.named_parameters()} == {
        "mask_fcn1.weight": (64, 64, 3, 3),
        "mask_fcn1.bias": (64,),
        "deconv.weight": (64, 64, 2, 2),
        "deconv.bias": (64,),
        "predictor.weight": (80, 64, 1, 1),
        "predictor.bias": (80,),
    }
    assert built.mask_fcn1.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.05)
    assert built.predictor.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not built.predictor.bias.any()


def test_base_head_asks_for_layers():
    with pytest.raises(NotImplementedError, match="layers"):
        BaseMaskRCNNHead()(torch.zeros(1), [])


@pytest.mark.parametrize("num_boxes", [0, 3])
@pytest.mark.parametrize("bias", [True, False])
def test_tiled_upsampling_equals_deconvolution_and_predictor(num_boxes, bias):
    deconv = torch.nn.ConvTranspose2d(6, 5, kernel_size=2, stride=2, bias=bias)
    x, weight, row_bias = torch.randn(num_boxes, 6, 3, 4), torch.randn(num_boxes, 5), torch.randn(num_boxes)
    with torch.no_grad():
        expected = (deconv(x).relu() * weight[:, :, None, None]).sum(1, keepdim=True) + row_bias[:, None, None, None]
        torch.testing.assert_close(_tiled_mask_logits(x, deconv, weight, row_bias), expected, atol=1e-5, rtol=1e-5)
