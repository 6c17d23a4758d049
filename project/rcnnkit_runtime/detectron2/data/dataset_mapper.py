"""The default mapper: one dataset record → one model input."""

from __future__ import annotations

import logging
from typing import Any

import cv2
import numpy as np
import torch

from detectron2.config import configurable

from . import detection_utils as utils
from . import transforms as T

__all__ = ["DatasetMapper"]

# What an annotation of a record may hold that only some tasks need.
_MASK_KEY, _KEYPOINT_KEY = "segmentation", "keypoints"


class DatasetMapper:
    """Read a record's image, augment it with its annotations, and return the model's input.

    The record given is not changed. Returns the record with "image" (C, H, W) tensor, and in training "instances"
    (Instances in the augmented image); "sem_seg" (H, W) int64 and "proposals" where the record has them.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ):
        """
        Args:
            is_train: give instances.
            augmentations: policies or transforms, applied in order.
            image_format: as in detection_utils.read_image.
            use_instance_mask: keep segmentations.
            use_keypoint: keep keypoints.
            instance_mask_format: "polygon" or "bitmask".
            keypoint_hflip_indices: see create_keypoint_hflip_indices.
            precomputed_proposal_topk: load this many proposals of the record.
            recompute_boxes: take boxes from the augmented masks, which fit tighter after a crop.
        """
        if recompute_boxes and not use_instance_mask:
            raise AssertionError("recompute_boxes requires instance masks")
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.use_instance_mask = use_instance_mask
        self.instance_mask_format = instance_mask_format
        self.use_keypoint = use_keypoint
        self.keypoint_hflip_indices = keypoint_hflip_indices
        self.proposal_topk = precomputed_proposal_topk
        self.recompute_boxes = recompute_boxes
        mode = "training" if is_train else "inference"
        logging.getLogger(__name__).info(f"[DatasetMapper] Augmentations used in {mode}: {augmentations}")

    @classmethod
    def from_config(cls, cfg, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        recompute_boxes = False
        if cfg.INPUT.CROP.ENABLED and is_train:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
            recompute_boxes = cfg.MODEL.MASK_ON
        arguments = {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "use_keypoint": cfg.MODEL.KEYPOINT_ON,
            "recompute_boxes": recompute_boxes,
        }
        if cfg.MODEL.KEYPOINT_ON:
            arguments["keypoint_hflip_indices"] = utils.create_keypoint_hflip_indices(cfg.DATASETS.TRAIN)
        if cfg.MODEL.LOAD_PROPOSALS:
            arguments["precomputed_proposal_topk"] = (
                cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN
                if is_train
                else cfg.DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST
            )
        return arguments

    def _owned(self, annotation: dict) -> dict:
        """A copy of the annotation that may be changed, without what no task needs; values are never written into."""
        unused: tuple[str, ...] = () if self.use_instance_mask else (_MASK_KEY,)
        unused += () if self.use_keypoint else (_KEYPOINT_KEY,)
        owned = {key: value for key, value in annotation.items() if key not in unused}
        if self.use_keypoint and self.keypoint_hflip_indices is not None and not len(owned.get(_KEYPOINT_KEY, ())):
            # classes without keypoints train beside classes with: nothing of theirs is labelled
            owned[_KEYPOINT_KEY] = np.zeros((len(self.keypoint_hflip_indices), 3))
        return owned

    def _transform_annotations(self, dataset_dict: dict, transforms: Any, image_shape: tuple[int, int]) -> None:
        """Replace the record's annotations by "instances"; crowd regions are left out."""
        annotations = [
            utils.transform_instance_annotations(
                self._owned(annotation), transforms, image_shape, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            for annotation in dataset_dict.pop("annotations")
            if annotation.get("iscrowd", 0) == 0
        ]
        instances = utils.annotations_to_instances(annotations, image_shape, mask_format=self.instance_mask_format)
        if self.recompute_boxes and instances.has("gt_masks"):
            instances.gt_boxes = instances.gt_masks.get_bounding_boxes()
        dataset_dict["instances"] = utils.filter_empty_instances(instances)

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: a record of the standard format.

        Returns:
            The model's input; see the class.
        """
        dataset_dict = dict(dataset_dict)
        image = utils.read_image(dataset_dict["file_name"], format=self.image_format)
        utils.check_image_size(dataset_dict, image)

        sem_seg = None
        if "sem_seg_file_name" in dataset_dict:
            sem_seg = utils.read_image(dataset_dict.pop("sem_seg_file_name"), "L").squeeze(2)

        aug_input = T.AugInput(image, sem_seg=sem_seg)
        transforms = self.augmentations(aug_input)
        image, sem_seg = aug_input.image, aug_input.sem_seg
        image_shape = image.shape[:2]

        dataset_dict["image"] = _to_channels_first(image)
        if sem_seg is not None:
            dataset_dict["sem_seg"] = torch.as_tensor(sem_seg.astype("long"))
        if self.proposal_topk is not None:
            utils.transform_proposals(dataset_dict, image_shape, transforms, proposal_topk=self.proposal_topk)
        if not self.is_train:
            dataset_dict.pop("annotations", None)
            return dataset_dict
        if "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image_shape)
        return dataset_dict


def _to_channels_first(image: np.ndarray) -> torch.Tensor:
    """(H, W, C) array → contiguous (C, H, W) tensor that owns its memory, which the loader shares cheaply."""
    if image.ndim == 2:
        image = image[:, :, None]
    if image.dtype != np.uint8 or image.shape[2] != 3:
        return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))
    # a mirrored image is a reversed view, slow to copy: split it unmirrored, mirror the planes
    is_mirrored = image.strides[1] < 0
    if is_mirrored:
        image = image[:, ::-1]
    planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    cv2.split(np.ascontiguousarray(image), list(planes))
    tensor = torch.from_numpy(planes)
    return tensor.flip(2) if is_mirrored else tensor
