"""Test-time augmentation: one picture at several sizes and mirrored, the detections of all merged.

Shape letters: V views (augmented copies) of a picture, R boxes, K keypoints, S side of a heatmap, M side of a mask.

Boxes of all views meet in the picture's own frame and pass one NMS. The boxes that remain are sent back into every
view, and masks and keypoints predicted for them there are averaged: masks as probabilities, keypoints as heatmaps. A
mirrored view's masks and heatmaps are mirrored back first, and its left and right keypoints change places.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from fvcore.transforms import HFlipTransform, NoOpTransform, Transform, TransformList
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detectron2.config import configurable
from detectron2.data.detection_utils import create_keypoint_hflip_indices, read_image
from detectron2.data.transforms import RandomFlip, ResizeShortestEdge, ResizeTransform, apply_augmentations
from detectron2.layers import batched_nms
from detectron2.modeling.meta_arch import GeneralizedRCNN
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances, heatmaps_to_keypoints

__all__ = ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"]


class DatasetMapperTTA:
    """Makes the views of a picture: each of the sizes and, if wanted, each of them mirrored."""

    @configurable
    def __init__(self, min_sizes: list[int], max_size: int, flip: bool):
        """
        Args:
            min_sizes: lengths of the shorter side in pixels.
            max_size: bound of the longer side.
            flip: add the mirrored view of each size.
        """
        self.min_sizes = min_sizes
        self.max_size = max_size
        self.flip = flip

    @classmethod
    def from_config(cls, cfg) -> dict:
        options = cfg.TEST.AUG
        return {"min_sizes": options.MIN_SIZES, "max_size": options.MAX_SIZE, "flip": options.FLIP}

    def __call__(self, dataset_dict: dict) -> list[dict]:
        """
        Args:
            dataset_dict: `image` (C, H, W), and `height`, `width`: the frame in which results are wanted.

        Returns:
            V copies of it, each with its own `image`, and `transforms` from the wanted frame into it.
        """
        picture = dataset_dict["image"].permute(1, 2, 0).numpy()
        shape, wanted = picture.shape, (dataset_dict["height"], dataset_dict["width"])
        to_picture = NoOpTransform() if shape[:2] == wanted else ResizeTransform(*wanted, *shape[:2])
        views = []
        for min_size in self.min_sizes:
            resize = ResizeShortestEdge(min_size, self.max_size)
            plans: list[list] = [[resize], [resize, RandomFlip(prob=1.0)]] if self.flip else [[resize]]
            for plan in plans:
                image, transforms = apply_augmentations(plan, np.copy(picture))
                view = copy.copy(dataset_dict)
                view["transforms"] = to_picture + transforms
                view["image"] = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
                views.append(view)
        return views


class GeneralizedRCNNWithTTA(nn.Module):
    """A `GeneralizedRCNN` under test-time augmentation; called like it, in inference only."""

    def __init__(self, cfg, model: nn.Module, tta_mapper=None, batch_size: int = 3):
        """
        Args:
            cfg: the model's config; TEST.AUG and the data sets' keypoints are read.
            model: the model, or a distributed wrapper of it.
            tta_mapper: maps a picture's dict to the list of its views; None: a DatasetMapperTTA of the config.
            batch_size: so many views go through the model together.
        """
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            model = model.module
        if not isinstance(model, GeneralizedRCNN):
            raise TypeError(f"test-time augmentation is for GeneralizedRCNN, got {type(model).__name__}")
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError("test-time augmentation has no views of proposals: set MODEL.LOAD_PROPOSALS False")
        self.cfg = cfg.clone()
        self.model = model
        self.tta_mapper = DatasetMapperTTA(cfg) if tta_mapper is None else tta_mapper
        self.batch_size = batch_size

    @contextmanager
    def _turn_off_roi_heads(self, attrs: Sequence[str]) -> Iterator[None]:
        """Sets the named switches of the RoI heads that exist to False inside a `with` block."""
        heads = self.model.roi_heads
        saved = {name: getattr(heads, name) for name in attrs if hasattr(heads, name)}
        try:
            for name in saved:
                setattr(heads, name, False)
            yield
        finally:
            for name, value in saved.items():
                setattr(heads, name, value)

    def _batch_inference(
        self, batched_inputs: list[dict], detected_instances: list[Instances] | None = None
    ) -> list[Instances]:
        """The model's results of each view in the view's frame, `batch_size` views at a time."""
        outputs: list[Instances] = []
        for start in range(0, len(batched_inputs), self.batch_size):
            chunk = slice(start, start + self.batch_size)
            given = None if detected_instances is None else detected_instances[chunk]
            outputs.extend(self.model.inference(batched_inputs[chunk], given, do_postprocess=False))
        return outputs

    def __call__(self, batched_inputs: list[dict]) -> list[dict]:
        """
        Args:
            batched_inputs: as of `GeneralizedRCNN`; a dict without `image` is read from its `file_name`.

        Returns:
            as `GeneralizedRCNN`.
        """
        return [self._inference_one_image(self._with_image(single)) for single in batched_inputs]

    def _with_image(self, single: dict) -> dict:
        single = copy.copy(single)
        if "image" not in single:
            picture = read_image(single.pop("file_name"), self.model.input_format)
            single["image"] = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        single.setdefault("height", single["image"].shape[1])
        single.setdefault("width", single["image"].shape[2])
        return single

    def _inference_one_image(self, input: dict) -> dict:
        """{"instances": detections in the frame (`height`, `width`)} of one picture's dict."""
        size = input["height"], input["width"]
        augmented_inputs, tfms = self._get_augmented_inputs(input)
        with self._turn_off_roi_heads(["mask_on", "keypoint_on"]):
            merged = self._merge_detections(*self._get_augmented_boxes(augmented_inputs, tfms), size)
        if self.cfg.MODEL.MASK_ON or self.cfg.MODEL.KEYPOINT_ON:
            given = self._rescale_detected_boxes(augmented_inputs, merged, tfms)
            outputs = self._batch_inference(augmented_inputs, given)
            if self.cfg.MODEL.MASK_ON:
                merged.pred_masks = self._reduce_pred_masks(outputs, tfms)
            if self.cfg.MODEL.KEYPOINT_ON:
                merged.pred_keypoint_heatmaps = self._reduce_pred_keypoint_heatmaps(outputs, tfms)
                points = heatmaps_to_keypoints(merged.pred_keypoint_heatmaps, merged.pred_boxes.tensor)
                merged.pred_keypoints = points[:, :, [0, 1, 3]]
        return {"instances": detector_postprocess(merged, *size)}

    def _get_augmented_inputs(self, input: dict) -> tuple[list[dict], list[Transform]]:
        """The V views, and the transform from the wanted frame into each."""
        augmented_inputs = self.tta_mapper(input)
        return augmented_inputs, [view.pop("transforms") for view in augmented_inputs]

    def _get_augmented_boxes(
        self, augmented_inputs: list[dict], tfms: list[Transform]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Boxes (R, 4) of all views in the wanted frame, their scores (R,) and classes (R,)."""
        outputs = self._batch_inference(augmented_inputs)
        boxes = []
        for output, tfm in zip(outputs, tfms):
            found = output.pred_boxes.tensor
            moved = tfm.inverse().apply_box(found.cpu().numpy())
            boxes.append(torch.from_numpy(moved).to(found))
        scores = torch.cat([output.scores for output in outputs])
        classes = torch.cat([output.pred_classes for output in outputs])
        return torch.cat(boxes), scores, classes

    def _merge_detections(
        self, all_boxes: torch.Tensor, all_scores: torch.Tensor, all_classes: torch.Tensor, shape_hw: tuple[int, int]
    ) -> Instances:
        """NMS within each class over the boxes of all views, clipped; the best DETECTIONS_PER_IMAGE."""
        boxes = Boxes(all_boxes.clone())
        boxes.clip(shape_hw)
        keep = batched_nms(boxes.tensor, all_scores, all_classes, self.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST)
        if self.cfg.TEST.DETECTIONS_PER_IMAGE >= 0:
            keep = keep[: self.cfg.TEST.DETECTIONS_PER_IMAGE]
        return Instances(shape_hw, pred_boxes=boxes[keep], scores=all_scores[keep], pred_classes=all_classes[keep])

    def _rescale_detected_boxes(
        self, augmented_inputs: list[dict], merged_instances: Instances, tfms: list[Transform]
    ) -> list[Instances]:
        """The merged boxes in the frame of each view."""
        boxes = merged_instances.pred_boxes.tensor
        views = []
        for view, tfm in zip(augmented_inputs, tfms):
            moved = torch.from_numpy(tfm.apply_box(boxes.cpu().numpy())).to(boxes)
            views.append(
                Instances(
                    tuple(view["image"].shape[1:3]),
                    pred_boxes=Boxes(moved),
                    pred_classes=merged_instances.pred_classes,
                    scores=merged_instances.scores,
                )
            )
        return views

    def _reduce_pred_masks(self, outputs: list[Instances], tfms: list[Transform]) -> torch.Tensor:
        """Mean (R, 1, M, M) of the views' mask probabilities; leaves `outputs` as they are."""
        masks = [
            output.pred_masks.flip(dims=[3]) if _is_mirrored(tfm) else output.pred_masks
            for output, tfm in zip(outputs, tfms)
        ]
        return torch.stack(masks).mean(dim=0)

    def _reduce_pred_keypoint_heatmaps(self, outputs: list[Instances], tfms: list[Transform]) -> torch.Tensor:
        """Mean (R, K, S, S) of the views' heatmap logits, mirrored ones mirrored back, left and right exchanged."""
        heatmaps = []
        for output, tfm in zip(outputs, tfms):
            logits = output.pred_keypoint_heatmaps
            if _is_mirrored(tfm):
                partners = create_keypoint_hflip_indices(self.cfg.DATASETS.TRAIN)
                logits = logits[:, partners].flip(dims=[3])
            heatmaps.append(logits)
        return torch.stack(heatmaps).mean(dim=0)


def _is_mirrored(tfm: Transform) -> bool:
    """Whether an odd number of horizontal flips is among the transforms."""
    parts = tfm.transforms if isinstance(tfm, TransformList) else [tfm]
    return sum(isinstance(part, HFlipTransform) for part in parts) % 2 == 1
