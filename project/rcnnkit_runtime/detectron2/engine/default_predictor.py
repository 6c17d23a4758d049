"""Inference on one image at a time."""

from typing import Any

import numpy as np
import torch

import detectron2.data.transforms as T
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model


class DefaultPredictor:
    """Builds a config's model with its weights, on its device, and runs it on single BGR images.

    Attributes:
        metadata: of the first data set of DATASETS.TEST, if any.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg)
        self.model.eval()
        if len(cfg.DATASETS.TEST):
            self.metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(cfg.MODEL.WEIGHTS)
        self.aug = T.ResizeShortestEdge([cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = cfg.INPUT.FORMAT
        assert self.input_format in ("RGB", "BGR"), f"INPUT.FORMAT is {self.input_format!r}, but RGB or BGR is needed."

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """
        Args:
            original_image: H × W × 3, BGR, uint8.

        Returns:
            The model's output for this image, e.g. {"instances": Instances} in the image's own pixels.
        """
        with torch.no_grad():
            height, width = original_image.shape[:2]
            image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
            image = self.aug.get_transform(image).apply_image(image)
            tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)).astype("float32", copy=False))
            return self.model([{"image": tensor.to(self.cfg.MODEL.DEVICE), "height": height, "width": width}])[0]
