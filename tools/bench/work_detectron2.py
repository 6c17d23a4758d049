"""Mask R-CNN R50-FPN through Detectron2's public API: the same code for either engine."""

from pathlib import Path

import torch

from bench.inputs import NUM_CLASSES, PIXEL_MEAN, PIXEL_STD, picture, truth, weights

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_1x.yaml"


def build_model(proposals: int) -> torch.nn.Module:
    """The model with the benchmark's weights; strides in the 3x3 convolutions, as torchvision has them."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_file(str(CONFIG))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = proposals
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = list(PIXEL_MEAN), list(PIXEL_STD)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    model = build_model(cfg)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and "cell_anchors" not in name and not name.startswith("pixel_"):
                tensor.copy_(weights(name, tuple(tensor.shape)))
    return model


class Inference:
    """One picture through the model, masks pasted into it."""

    def __init__(self, height: int, width: int, proposals: int, **_: object) -> None:
        self.model = build_model(proposals).eval()
        self.inputs = [{"image": picture(height, width, seed=0), "height": height, "width": width}]
        self.seen: dict[str, int] = {}
        self.hooks = [
            self.model.roi_heads.box_predictor.register_forward_hook(self._count_scores),
            self.model.roi_heads.mask_head.register_forward_pre_hook(self._count_masks),
        ]

    def _count_scores(self, _module, _inputs, outputs) -> None:
        self.seen["boxes_scored"] = len(outputs[0])
        self.seen["pairs_above_threshold"] = int((outputs[0].softmax(1)[:, :-1] > 0.05).sum())

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
            output = self.model(self.inputs)[0]["instances"]
        assert output.pred_masks.shape[1:] == self.inputs[0]["image"].shape[1:]


class Training:
    """One step on two pictures: forward, backward, SGD."""

    def __init__(self, height: int, width: int, proposals: int, objects: int) -> None:
        from detectron2.structures import Boxes, Instances, PolygonMasks

        self.model = build_model(proposals).train()
        # So small a rate that every step does the same work.
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=1e-9, momentum=0.9, weight_decay=1e-4)
        self.inputs = []
        for seed in (1, 2):
            objects_of_picture = truth(height, width, objects, seed)
            instances = Instances((height, width))
            instances.gt_boxes = Boxes(objects_of_picture["boxes"])
            instances.gt_classes = objects_of_picture["classes"]
            instances.gt_masks = PolygonMasks([[polygon] for polygon in objects_of_picture["polygons"]])
            self.inputs.append({"image": picture(height, width, seed), "instances": instances})

    def warm_up(self) -> dict:
        return {"loss": self.run()}

    def run(self) -> float:
        from detectron2.utils.events import EventStorage

        torch.manual_seed(0)
        with EventStorage():
            losses = self.model(self.inputs)
        total = sum(losses.values())
        self.optimizer.zero_grad()
        total.backward()
        self.optimizer.step()
        return total.item()
