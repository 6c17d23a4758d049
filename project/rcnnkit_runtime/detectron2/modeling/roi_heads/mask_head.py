"""The mask head of Mask R-CNN (arXiv 1703.06870): one mask per box and class.

Shape letters: B boxes of the whole batch, K foreground classes, C channels, S side of the predicted mask.
"""

from typing import Any

import torch
import torch.nn.functional as F
from fvcore.nn import weight_init
from torch import nn
from torch.nn.modules import module as module_hooks

from detectron2.config import configurable
from detectron2.layers import Conv2d, ConvTranspose2d, ShapeSpec, cat, get_norm  # noqa: F401 - get_norm as in Detectron2
from detectron2.layers.wrappers import channels_last_if_faster
from detectron2.modeling.roi_heads.conv_stack import add_conv_stack
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from detectron2.utils.registry import Registry

__all__ = ["BaseMaskRCNNHead", "MaskRCNNConvUpsampleHead", "ROI_MASK_HEAD_REGISTRY", "build_mask_head"]

ROI_MASK_HEAD_REGISTRY = Registry("ROI_MASK_HEAD")
ROI_MASK_HEAD_REGISTRY.__doc__ = """
Mask heads, chosen by MODEL.ROI_MASK_HEAD.NAME: called as `head(cfg, input_shape)`, they map the features of B boxes
and their Instances to a dict of losses in training, to Instances with `pred_masks` otherwise.
"""


def _own_class_channel(mask_logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """(B, K or 1, S, S) → (B, S, S): the channel of each box's class; the only one where masks are class-agnostic."""
    if mask_logits.shape[1] == 1:
        return mask_logits[:, 0]
    return mask_logits[torch.arange(len(classes), device=classes.device), classes]


def _log_mask_stats(mask_logits: torch.Tensor, gt_masks: torch.Tensor) -> None:
    """Put pixel accuracy and the rates of false positives and negatives of (B, S, S) masks into the event storage."""
    wrong = (mask_logits > 0.0) != gt_masks
    num_positive = gt_masks.sum().item()
    num_wrong = wrong.sum().item()
    num_missed = (wrong & gt_masks).sum().item()
    num_negative = gt_masks.numel() - num_positive

    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / max(wrong.numel(), 1.0))
    storage.put_scalar("mask_rcnn/false_positive", (num_wrong - num_missed) / max(num_negative, 1.0))
    storage.put_scalar("mask_rcnn/false_negative", num_missed / max(num_positive, 1.0))


def _put_mask_images(mask_logits: torch.Tensor, gt_masks: torch.Tensor) -> None:
    """Put a picture of each predicted mask beside its ground truth into the event storage."""
    storage = get_event_storage()
    pairs = torch.cat([mask_logits.sigmoid(), gt_masks.to(mask_logits.dtype)], dim=2)
    for index, pair in enumerate(pairs):
        storage.put_image(f"Left: mask prediction;   Right: mask GT ({index})", pair[None].expand(3, -1, -1))


def mask_rcnn_loss(pred_mask_logits: torch.Tensor, instances: list[Instances], vis_period: int = 0) -> torch.Tensor:
    """Mean binary cross-entropy of the masks of the true classes.

    Args:
        pred_mask_logits: (B, K, S, S), or (B, 1, S, S) where masks are class-agnostic.
        instances: per image, the boxes of the logits in the same order: `proposal_boxes`, `gt_classes`, `gt_masks`.
        vis_period: put pictures of the masks into the event storage every so many iterations; 0: never.

    Returns:
        scalar; 0 with a gradient path where there are no boxes.
    """
    side = pred_mask_logits.shape[2]
    if pred_mask_logits.shape[3] != side:
        raise ValueError(f"mask_rcnn_loss: masks must be square, got {tuple(pred_mask_logits.shape[2:])}")

    occupied = [per_image for per_image in instances if len(per_image)]
    if not occupied:
        return pred_mask_logits.sum() * 0

    gt_masks = cat(
        [
            p.gt_masks.crop_and_resize(p.proposal_boxes.tensor, side).to(device=pred_mask_logits.device)
            for p in occupied
        ],
        dim=0,
    )
    gt_classes = cat([p.gt_classes.to(torch.int64) for p in occupied], dim=0)
    mask_logits = _own_class_channel(pred_mask_logits, gt_classes)

    # a mask may be soft: what counts and draws is its half-way line
    gt_masks_bool = gt_masks if gt_masks.dtype == torch.bool else gt_masks > 0.5
    _log_mask_stats(mask_logits.detach(), gt_masks_bool)
    if vis_period > 0 and get_event_storage().iter % vis_period == 0:
        _put_mask_images(mask_logits.detach(), gt_masks_bool)
    return F.binary_cross_entropy_with_logits(mask_logits, gt_masks.to(mask_logits.dtype), reduction="mean")


def _set_pred_masks(masks: torch.Tensor, pred_instances: list[Instances]) -> None:
    for per_image, per_image_masks in zip(pred_instances, masks.split([len(p) for p in pred_instances], dim=0)):
        per_image.pred_masks = per_image_masks


def mask_rcnn_inference(pred_mask_logits: torch.Tensor, pred_instances: list[Instances]) -> None:
    """Set `pred_masks` of each image's instances: (boxes, 1, S, S), the probability of the predicted class's mask.

    Args:
        pred_mask_logits: (B, K, S, S), or (B, 1, S, S) where masks are class-agnostic.
        pred_instances: per image, the boxes of the logits in the same order, with `pred_classes`.
    """
    if pred_mask_logits.shape[1] > 1:
        classes = cat([per_image.pred_classes for per_image in pred_instances])
        pred_mask_logits = _own_class_channel(pred_mask_logits, classes)[:, None]
    _set_pred_masks(pred_mask_logits.sigmoid(), pred_instances)


def _tiled_mask_logits(
    x: torch.Tensor, deconv: nn.ConvTranspose2d, weight: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Deconvolution with kernel and stride 2, ReLU, and one row of a 1×1 convolution per box, tile by tile.

    Args:
        x: (B, C, S/2, S/2), fastest in channels-last layout.
        deconv: C to D channels.
        weight, bias: (B, D) and (B,), the row of each box.

    Returns:
        (B, 1, S, S)
    """
    num_boxes, _, height, width = x.shape
    channels = deconv.out_channels
    # channels of the product: (row in the tile, column in the tile, D)
    kernel = deconv.weight.permute(2, 3, 1, 0).reshape(4 * channels, -1, 1, 1)
    kernel_bias = None if deconv.bias is None else deconv.bias.repeat(4)
    tiles = F.conv2d(x, kernel, kernel_bias).relu_()
    features = tiles.permute(0, 2, 3, 1).reshape(num_boxes, height * width * 4, channels)
    logits = torch.baddbmm(bias[:, None, None], features, weight[:, :, None])
    return logits.view(num_boxes, height, width, 2, 2).transpose(2, 3).reshape(num_boxes, 1, height * 2, width * 2)


def _is_plain(layer: Any, kind: type[nn.Module]) -> bool:
    """Whether calling `layer` does what `kind.forward` does and nothing else: no subclass, hook or replaced method."""
    return (
        type(layer) is kind
        # a method may be replaced on one object alone
        and not {"forward", "_conv_forward", "_convolve", "_output_padding"} & vars(layer).keys()
        and not (layer._forward_hooks or layer._forward_pre_hooks)
        and not (layer._backward_hooks or layer._backward_pre_hooks)
        and not (module_hooks._global_forward_hooks or module_hooks._global_forward_pre_hooks)
    )


class BaseMaskRCNNHead(nn.Module):
    """What all Mask R-CNN heads share: loss and inference on the logits that `layers` computes."""

    @configurable
    def __init__(self, *, loss_weight: float = 1.0, vis_period: int = 0):
        """
        Args:
            loss_weight: factor of the loss.
            vis_period: put pictures of the masks into the event storage every so many iterations; 0: never.
        """
        super().__init__()
        self.loss_weight = loss_weight
        self.vis_period = vis_period

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        return {"vis_period": cfg.VIS_PERIOD}

    def forward(self, x: torch.Tensor, instances: list[Instances]):
        """
        Args:
            x: features of the B boxes of all images.
            instances: per image, the boxes of the features in the same order.

        Returns:
            in training, {"loss_mask": scalar}; otherwise `instances` with `pred_masks`, (boxes, 1, S, S), set.
        """
        logits = self.layers(x)
        if self.training:
            return {"loss_mask": mask_rcnn_loss(logits, instances, self.vis_period) * self.loss_weight}
        mask_rcnn_inference(logits, instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        """Mask logits (B, K or 1, S, S) of the features of B boxes."""
        raise NotImplementedError(f"{type(self).__name__} must define layers(x)")


@ROI_MASK_HEAD_REGISTRY.register()
class MaskRCNNConvUpsampleHead(BaseMaskRCNNHead, nn.Sequential):
    """3×3 convolutions, a deconvolution that doubles the side, and a 1×1 convolution to one channel per class."""

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, num_classes: int, conv_dims: list[int], conv_norm: Any = "", **kwargs
    ):
        """
        Args:
            input_shape: shape of the pooled feature; only its channels are read.
            num_classes: number of foreground classes; 1 for class-agnostic masks.
            conv_dims: output channels of each convolution; the last is the deconvolution's.
            conv_norm: norm of the convolutions, as `detectron2.layers.get_norm` reads it.
            **kwargs: arguments of BaseMaskRCNNHead.
        """
        super().__init__(**kwargs)
        if not conv_dims:
            raise ValueError("MaskRCNNConvUpsampleHead: conv_dims must hold at least the deconvolution's channels")

        self.conv_norm_relus = add_conv_stack(self, "mask_fcn", input_shape.channels, conv_dims[:-1], conv_norm)
        channels: Any = conv_dims[-2] if len(conv_dims) > 1 else input_shape.channels
        self.deconv = ConvTranspose2d(channels, conv_dims[-1], kernel_size=2, stride=2)
        weight_init.c2_msra_fill(self.deconv)
        self.add_module("deconv_relu", nn.ReLU())
        self.predictor: Any = Conv2d(conv_dims[-1], num_classes, kernel_size=1)
        nn.init.normal_(self.predictor.weight, std=0.001)
        nn.init.zeros_(self.predictor.bias)  # type: ignore[arg-type]

    @classmethod
    def from_config(cls, cfg, input_shape: ShapeSpec) -> dict[str, Any]:
        head = cfg.MODEL.ROI_MASK_HEAD
        return {
            **super().from_config(cfg, input_shape),
            "input_shape": input_shape,
            # one more for the deconvolution
            "conv_dims": [head.CONV_DIM] * (head.NUM_CONV + 1),
            "conv_norm": head.NORM,
            "num_classes": 1 if head.CLS_AGNOSTIC_MASK else cfg.MODEL.ROI_HEADS.NUM_CLASSES,
        }

    def forward(self, x: torch.Tensor, instances: list[Instances]):  # type: ignore[override]
        if self.training or not self._predicts_by_rows():
            return super().forward(x, instances)
        classes = cat([per_image.pred_classes for per_image in instances])
        _set_pred_masks(self._own_class_logits(x, classes).sigmoid(), instances)
        return instances

    def layers(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x = layer(x)
        return x

    def _predicts_by_rows(self) -> bool:
        """Whether the last layer is the plain 1×1 convolution, so that one class's logits are one row of it."""
        predictor: Any = self.predictor
        return (
            type(self).layers is MaskRCNNConvUpsampleHead.layers
            and _is_plain(predictor, Conv2d)
            and predictor.out_channels > 1
            and predictor.kernel_size == predictor.stride == predictor.dilation == (1, 1)
            and predictor.padding in ((0, 0), "valid", "same")
            and predictor.groups == 1
            and predictor.norm is None
            and predictor.activation is None
            and not torch.jit.is_tracing()
            and predictor is self[-1]
        )

    def _upsamples_by_tiles(self, layers: list[nn.Module], x: torch.Tensor) -> bool:
        """Whether deconvolution and ReLU are the plain ones, so that each input pixel makes a 2×2 tile of its own."""
        deconv: Any = self.deconv
        return (
            layers[-2:] == [deconv, self.deconv_relu]
            and _is_plain(deconv, nn.ConvTranspose2d)
            and _is_plain(self.deconv_relu, nn.ReLU)
            and deconv.kernel_size == deconv.stride == (2, 2)
            and deconv.padding == deconv.output_padding == (0, 0)
            and deconv.dilation == (1, 1)
            and deconv.groups == 1
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled(x.device.type)
        )

    def _own_class_logits(self, x: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
        """(B, 1, S, S) logits of each box's own class: the predictor's other rows are never computed."""
        layers = list(self)[:-1]
        weight = self.predictor.weight.flatten(1)[classes]
        bias = weight.new_zeros(len(weight)) if self.predictor.bias is None else self.predictor.bias[classes]
        if self._upsamples_by_tiles(layers, x):
            x = channels_last_if_faster(x)
            for layer in layers[:-2]:
                x = layer(x)
            return _tiled_mask_logits(x, self.deconv, weight, bias)
        for layer in layers:
            x = layer(x)
        logits = torch.baddbmm(bias[:, None, None], weight[:, None], x.flatten(2))
        return logits.view(x.shape[0], 1, *x.shape[2:])


def build_mask_head(cfg, input_shape: ShapeSpec) -> nn.Module:
    """The mask head that MODEL.ROI_MASK_HEAD.NAME names."""
    return ROI_MASK_HEAD_REGISTRY.get(cfg.MODEL.ROI_MASK_HEAD.NAME)(cfg, input_shape)
