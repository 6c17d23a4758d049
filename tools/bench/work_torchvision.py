"""Mask R-CNN R50-FPN of torchvision with the same weights, pictures and truth as the other peers."""

import torch
from pycocotools import mask as coco_mask
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from bench.inputs import NUM_CLASSES, PIXEL_MEAN, PIXEL_STD, picture, truth, weights

# torchvision's name of a layer → Detectron2's; the first prefix that fits is replaced.
LAYERS = {
    "backbone.fpn.inner_blocks.": "backbone.fpn_lateral",
    "backbone.fpn.layer_blocks.": "backbone.fpn_output",
    "backbone.body.conv1.": "backbone.bottom_up.stem.conv1.",
    "backbone.body.bn1.": "backbone.bottom_up.stem.conv1.norm.",
    "rpn.head.conv.0.0.": "proposal_generator.rpn_head.conv.",
    "rpn.head.cls_logits.": "proposal_generator.rpn_head.objectness_logits.",
    "rpn.head.bbox_pred.": "proposal_generator.rpn_head.anchor_deltas.",
    "roi_heads.box_head.fc6.": "roi_heads.box_head.fc1.",
    "roi_heads.box_head.fc7.": "roi_heads.box_head.fc2.",
    "roi_heads.box_predictor.": "roi_heads.box_predictor.",
    "roi_heads.mask_predictor.conv5_mask.": "roi_heads.mask_head.deconv.",
    "roi_heads.mask_predictor.mask_fcn_logits.": "roi_heads.mask_head.predictor.",
}


def detectron2_name(name: str) -> str:
    """Detectron2's name of an entry of torchvision's state dict."""
    for prefix, replacement in LAYERS.items():
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            if prefix.startswith("backbone.fpn."):
                level, _, entry = rest.split(".")
                return f"{replacement}{int(level) + 2}.{entry}"
            return replacement + rest
    parts = name.split(".")
    if name.startswith("backbone.body.layer"):
        stage, block, layer = f"res{int(parts[2][len('layer') :]) + 1}", parts[3], parts[4]
        if layer == "downsample":
            layer = {"0": "shortcut", "1": "shortcut.norm"}[parts[5]]
        else:
            layer = layer.replace("bn", "conv") + (".norm" if layer.startswith("bn") else "")
        return f"backbone.bottom_up.{stage}.{block}.{layer}.{parts[-1]}"
    if name.startswith("roi_heads.mask_head."):
        return f"roi_heads.mask_head.mask_fcn{int(parts[2]) + 1}.{parts[-1]}"
    raise KeyError(f"no counterpart of torchvision's {name} is known; the benchmark needs an update")


def entry(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The values of one entry; torchvision counts the background as class 0 in every per-class layer."""
    counterpart = detectron2_name(name)
    rows = shape[0] if shape else 0
    if "cls_score" in counterpart:
        values = weights(counterpart, shape)
        return torch.cat([values[-1:], values[:-1]])
    if "box_predictor.bbox_pred" in counterpart or "mask_head.predictor" in counterpart:
        background_rows = rows // (NUM_CLASSES + 1)
        values = weights(counterpart, (rows - background_rows, *shape[1:]))
        return torch.cat([values[:background_rows], values])
    return weights(counterpart, shape)


def build_model(height: int, width: int, proposals: int) -> MaskRCNN:
    """The model with the benchmark's weights; it takes the picture at its own size."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    model = MaskRCNN(
        backbone,
        NUM_CLASSES + 1,
        min_size=min(height, width),
        max_size=max(height, width),
        rpn_post_nms_top_n_test=proposals,
        rpn_post_nms_top_n_train=proposals,
        image_mean=PIXEL_MEAN,
        image_std=PIXEL_STD,
    )
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(entry(name, tuple(tensor.shape)))
    return model


class Inference:
    """One picture through the model, masks pasted into it."""

    def __init__(self, height: int, width: int, proposals: int, **_: object) -> None:
        self.model = build_model(height, width, proposals).eval()
        self.inputs = [picture(height, width, seed=0)]
        self.seen: dict[str, int] = {}
        self.hooks = [
            self.model.roi_heads.box_predictor.register_forward_hook(self._count_scores),
            self.model.roi_heads.mask_head.register_forward_pre_hook(self._count_masks),
        ]

    def _count_scores(self, _module, _inputs, outputs) -> None:
        self.seen["boxes_scored"] = len(outputs[0])
        self.seen["pairs_above_threshold"] = int((outputs[0].softmax(1)[:, 1:] > 0.05).sum())

    def _count_masks(self, _module, inputs) -> None:
        self.seen["detections_in_mask_head"] = len(inputs[0])

    def warm_up(self) -> dict:
        """One untimed run that counts what passes through the heads."""
        self.run()
        for hook in self.hooks:
            hook.remove()
        return self.seen

    def run(self) -> None:
        with torch.inference_mode():
            output = self.model(self.inputs)[0]
        assert output["masks"].shape[2:] == self.inputs[0].shape[1:]


class Training:
    """One step on two pictures: forward, backward, SGD."""

    def __init__(self, height: int, width: int, proposals: int, objects: int) -> None:
        self.model = build_model(height, width, proposals).train()
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-9, momentum=0.9, weight_decay=1e-4)
        self.images, self.targets = [], []
        for seed in (1, 2):
            objects_of_picture = truth(height, width, objects, seed)
            runs = coco_mask.frPyObjects(objects_of_picture["polygons"], height, width)
            self.images.append(picture(height, width, seed))
            self.targets.append(
                {
                    "boxes": objects_of_picture["boxes"],
                    "labels": objects_of_picture["classes"] + 1,
                    "masks": torch.from_numpy(coco_mask.decode(runs)).permute(2, 0, 1).contiguous(),
                }
            )

    def warm_up(self) -> dict:
        return {"loss": self.run()}

    def run(self) -> float:
        torch.manual_seed(0)
        losses = self.model(self.images, self.targets)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return total.item()
