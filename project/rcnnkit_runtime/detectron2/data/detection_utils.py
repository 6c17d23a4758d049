"""What a dataset mapper is made of: reading images, transforming annotations, turning them into Instances.

Shapes: H×W image, N objects, K keypoints. Boxes are absolute pixels; image_size is (h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch
from fvcore.transforms.transform import CropTransform, HFlipTransform, Transform, TransformList

from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks, polygons_to_bitmask

from . import transforms as T
from .catalog import MetadataCatalog, nearest_first
from .image_reading import (  # noqa: F401 - the public API has all of them in this module
    _M_RGB2YUV,
    _M_YUV2RGB,
    ImageReadError,
    _apply_exif_orientation,
    convert_image_to_rgb,
    convert_PIL_to_numpy,
    read_image,
)

__all__ = [
    "ImageReadError",
    "SizeMismatchError",
    "annotations_to_instances",
    "build_augmentation",
    "build_transform_gen",
    "check_image_size",
    "convert_image_to_rgb",
    "create_keypoint_hflip_indices",
    "filter_empty_instances",
    "read_image",
    "transform_instance_annotations",
    "transform_proposals",
]


class SizeMismatchError(ValueError):
    """An image is not as large as its record says."""


def check_image_size(dataset_dict: dict, image: np.ndarray) -> None:
    """Fill in the record's "width" and "height", or raise SizeMismatchError if they are not those of `image`."""
    h, w = image.shape[:2]
    expected = (dataset_dict.get("width", w), dataset_dict.get("height", h))
    if expected != (w, h):
        name = dataset_dict.get("file_name", "an image")
        raise SizeMismatchError(
            f"{name}: the image has (width, height) ({w}, {h}), "
            f"the record (image_id {dataset_dict.get('image_id', 'unknown')}) says {expected}; correct the annotations"
        )
    dataset_dict.setdefault("width", w)
    dataset_dict.setdefault("height", h)


def transform_proposals(dataset_dict, image_shape, transforms, *, proposal_topk, min_box_size=0):
    """Replace the record's precomputed proposals by `dataset_dict["proposals"]`, Instances in the transformed image.

    Args:
        dataset_dict: with "proposal_boxes" (N, 4), "proposal_objectness_logits" (N,), "proposal_bbox_mode"; without
            the first nothing is done.
        image_shape: (h, w) after the transforms.
        transforms: Transform or TransformList.
        proposal_topk: how many are kept, in their order.
        min_box_size: narrower or flatter ones are dropped.
    """
    if "proposal_boxes" not in dataset_dict:
        return
    xyxy = BoxMode.convert(dataset_dict.pop("proposal_boxes"), dataset_dict.pop("proposal_bbox_mode"), BoxMode.XYXY_ABS)
    boxes = Boxes(torch.as_tensor(transforms.apply_box(xyxy)))
    logits = torch.as_tensor(dataset_dict.pop("proposal_objectness_logits").astype("float32"))
    boxes.clip(image_shape)
    keep = boxes.nonempty(threshold=min_box_size)
    proposals = Instances(image_shape)
    proposals.proposal_boxes = boxes[keep][:proposal_topk]
    proposals.objectness_logits = logits[keep][:proposal_topk]
    dataset_dict["proposals"] = proposals


def get_bbox(annotation: dict) -> Any:
    """The annotation's box as absolute XYXY, in the type that it has (list, tuple or array of 4)."""
    return BoxMode.convert(annotation["bbox"], annotation["bbox_mode"], BoxMode.XYXY_ABS)


def _transform_segmentation(segmentation: Any, transforms: Transform | TransformList) -> Any:
    if isinstance(segmentation, list):
        # always a copy: transforms write into the coordinates
        polygons = [np.array(polygon, dtype=np.float64).reshape(-1, 2) for polygon in segmentation]
        return [polygon.reshape(-1) for polygon in transforms.apply_polygons(polygons)]
    if isinstance(segmentation, dict):
        return transforms.apply_segmentation(mask_util.decode(segmentation))
    raise ValueError(
        f"a segmentation is a {type(segmentation).__name__}; transforms know polygons (a list of x, y lists or arrays) "
        "and COCO's run lengths (a dict)"
    )


def transform_instance_annotations(
    annotation: dict, transforms: Any, image_size: tuple[int, int], *, keypoint_hflip_indices: Any = None
) -> dict:
    """Apply transforms to the box, segmentation and keypoints of one object, in place.

    Args:
        annotation: one of a record's annotations.
        transforms: TransformList or a list of transforms.
        image_size: (h, w) after the transforms.
        keypoint_hflip_indices: (K,), see create_keypoint_hflip_indices.

    Returns:
        The same dict: "bbox" (4,) float XYXY inside the image with "bbox_mode" XYXY_ABS; "segmentation" a list of flat
        polygons, or an (h, w) mask where it was RLE; "keypoints" (K, 3).
    """
    if isinstance(transforms, (tuple, list)):
        transforms = TransformList(list(transforms))
    box = transforms.apply_box(np.array([get_bbox(annotation)], dtype=np.float64))[0].clip(min=0)
    annotation["bbox"] = np.minimum(box, [image_size[1], image_size[0], image_size[1], image_size[0]])
    annotation["bbox_mode"] = BoxMode.XYXY_ABS
    if "segmentation" in annotation:
        moved = _transform_segmentation(annotation["segmentation"], transforms)
        if isinstance(moved, np.ndarray) and tuple(moved.shape[:2]) != tuple(image_size):
            raise AssertionError(f"the mask became {moved.shape[:2]}, the image {tuple(image_size)} (h, w)")
        annotation["segmentation"] = moved
    if "keypoints" in annotation:
        annotation["keypoints"] = transform_keypoint_annotations(
            annotation["keypoints"], transforms, image_size, keypoint_hflip_indices
        )
    return annotation


def transform_keypoint_annotations(
    keypoints: Any, transforms: Any, image_size: tuple[int, int], keypoint_hflip_indices: Any = None
) -> np.ndarray:
    """Apply transforms to the keypoints of one object; what leaves the image becomes "not labelled" (0, 0, 0).

    Args:
        keypoints: 3K numbers, (x, y, visibility) each; a copy is made.
        transforms: TransformList.
        image_size: (h, w) after the transforms.
        keypoint_hflip_indices: (K,), which keypoint takes each one's place in a mirrored image.

    Returns:
        (K, 3) float64.
    """
    points = np.array(keypoints, dtype=np.float64).reshape(-1, 3)
    xy = transforms.apply_coords(points[:, :2])
    inside = ((xy >= 0) & (xy <= (image_size[1], image_size[0]))).all(axis=1)
    points[:, :2] = xy
    points[~inside, 2] = 0

    flips = sum(isinstance(t, HFlipTransform) for t in getattr(transforms, "transforms", [transforms]))
    if flips % 2 == 1:
        if keypoint_hflip_indices is None:
            raise ValueError("a flip swaps left and right keypoints: keypoint_hflip_indices is needed")
        if len(points) != len(keypoint_hflip_indices):
            raise ValueError(
                f"an object has {len(points)} keypoints, keypoint_hflip_indices {len(keypoint_hflip_indices)}"
            )
        points = points[np.asarray(keypoint_hflip_indices, dtype=np.int64)]
    points[points[:, 2] == 0] = 0
    return points


def _to_bitmask(segmentation: Any, image_size: tuple[int, int]) -> torch.Tensor:
    """Polygons, RLE or an (h, w) array → (h, w) tensor."""
    if isinstance(segmentation, list):
        mask = polygons_to_bitmask(segmentation, *image_size)
    elif isinstance(segmentation, dict):
        mask = mask_util.decode(segmentation)
    elif isinstance(segmentation, np.ndarray):
        if segmentation.ndim != 2:
            raise AssertionError(f"a mask array has the axes (h, w), this one has {segmentation.ndim}")
        mask = segmentation
    else:
        raise ValueError(
            f"a segmentation is a {type(segmentation).__name__}; bit masks are made of polygons (a list of x, y lists "
            "or arrays), COCO's run lengths (a dict) and binary arrays (h, w)"
        )
    return torch.from_numpy(np.ascontiguousarray(mask))


def _masks_of(annos: Sequence[dict], image_size: tuple[int, int], mask_format: str) -> PolygonMasks | BitMasks:
    missing = [position for position, anno in enumerate(annos) if "segmentation" not in anno]
    if missing:
        raise ValueError(f"{len(missing)} of {len(annos)} annotations of an image have no 'segmentation', others do")
    segmentations = [anno["segmentation"] for anno in annos]
    if mask_format == "polygon":
        try:
            return PolygonMasks(segmentations)
        except ValueError as error:
            raise ValueError(
                "Failed to use mask_format=='polygon' from the given annotations! "
                "RLE masks need INPUT.MASK_FORMAT 'bitmask'"
            ) from error
    if mask_format != "bitmask":
        raise AssertionError(f"mask_format must be 'polygon' or 'bitmask', got {mask_format!r}")
    return BitMasks(torch.stack([_to_bitmask(segmentation, image_size) for segmentation in segmentations]))


def _keypoints_of(annos: Sequence[dict]) -> Keypoints:
    """(N, K, 3); an object without keypoints among others that have some gets K unlabelled ones."""
    points = [np.asarray(anno.get("keypoints", ()), dtype=np.float64).reshape(-1, 3) for anno in annos]
    num_keypoints = max(len(p) for p in points)
    filled = [p if len(p) else np.zeros((num_keypoints, 3)) for p in points]
    if any(len(p) != num_keypoints for p in filled):
        raise ValueError(
            f"objects of one image have different numbers of keypoints: {sorted({len(p) for p in filled})}"
        )
    return Keypoints(np.stack(filled))


def annotations_to_instances(annos: Sequence[dict], image_size: tuple[int, int], mask_format: str = "polygon"):
    """Turn transformed annotations into the Instances that models train on.

    Args:
        annos: "bbox", "bbox_mode", "category_id" and optionally "segmentation", "keypoints".
        image_size: (h, w).
        mask_format: "polygon" or "bitmask".

    Returns:
        Instances with gt_boxes (N, 4) XYXY float32, gt_classes (N,) int64, and where annotated gt_masks (PolygonMasks
        or BitMasks) and gt_keypoints (N, K, 3).
    """
    target = Instances(image_size)
    if len(annos):
        xyxy = [BoxMode.convert(anno["bbox"], anno["bbox_mode"], BoxMode.XYXY_ABS) for anno in annos]
        boxes = torch.from_numpy(np.asarray(xyxy, dtype=np.float32).reshape(-1, 4))
    else:
        boxes = torch.zeros((0, 4))
    target.gt_boxes = Boxes(boxes)
    target.gt_classes = torch.tensor([int(anno["category_id"]) for anno in annos], dtype=torch.int64)
    if any("segmentation" in anno for anno in annos):
        target.gt_masks = _masks_of(annos, image_size, mask_format)
    if any(len(anno.get("keypoints", ())) for anno in annos):
        target.gt_keypoints = _keypoints_of(annos)
    return target


def filter_empty_instances(
    instances, by_box: bool = True, by_mask: bool = True, box_threshold: float = 1e-5, return_mask: bool = False
):
    """Drop objects whose box or mask is empty.

    Args:
        instances: with gt_boxes, maybe gt_masks.
        by_box: drop boxes with an edge of at most `box_threshold` pixels.
        by_mask: drop empty masks.
        box_threshold: pixels.
        return_mask: give the (N,) bool of what was kept, too.
    """
    if not (by_box or by_mask):
        raise AssertionError("filter_empty_instances: one of by_box and by_mask has to be True")
    tests = []
    if by_box:
        tests.append(instances.gt_boxes.nonempty(threshold=box_threshold))
    if by_mask and instances.has("gt_masks"):
        tests.append(instances.gt_masks.nonempty())
    if not tests:
        return instances
    keep = tests[0]
    for test in tests[1:]:
        keep = keep & test.to(keep.device)
    kept = instances if bool(keep.all()) and not return_mask else instances[keep]
    return (kept, keep) if return_mask else kept


def create_keypoint_hflip_indices(dataset_names: str | Sequence[str]) -> list[int]:
    """For each keypoint, the index of the one that takes its place in a mirrored image.

    Args:
        dataset_names: datasets whose metadata have equal keypoint_names and keypoint_flip_map.
    """
    names_of_sets = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    check_metadata_consistency("keypoint_names", names_of_sets)
    check_metadata_consistency("keypoint_flip_map", names_of_sets)
    metadata = MetadataCatalog.get(names_of_sets[0])
    names = list(metadata.keypoint_names)
    partner = dict(metadata.keypoint_flip_map)
    partner.update({right: left for left, right in metadata.keypoint_flip_map})
    unknown = sorted(name for name in partner if name not in names)
    if unknown:
        nearest = nearest_first(unknown[0], names)[0]
        raise ValueError(
            f"dataset '{metadata.name}': keypoint_flip_map names '{unknown[0]}', "
            f"which keypoint_names does not have (nearest: '{nearest}')"
        )
    return [names.index(partner.get(name, name)) for name in names]


def get_fed_loss_cls_weights(dataset_names: str | Sequence[str], freq_weight_power: float = 1.0) -> torch.Tensor:
    """Sampling weights of the federated loss, (num_classes,): the classes' image counts to the power given."""
    names_of_sets = [dataset_names] if isinstance(dataset_names, str) else list(dataset_names)
    check_metadata_consistency("class_image_count", names_of_sets)
    counts = sorted(MetadataCatalog.get(names_of_sets[0]).class_image_count, key=lambda entry: entry["id"])
    return torch.tensor([float(entry["image_count"]) for entry in counts]) ** freq_weight_power


def gen_crop_transform_with_instance(crop_size, image_size, instance: dict) -> CropTransform:
    """A random window that contains the centre of one object.

    Args:
        crop_size: (h, w), no larger than the image.
        image_size: (h, w).
        instance: an annotation with "bbox" and "bbox_mode".
    """
    size = np.asarray(crop_size, dtype=np.int32)
    if (size > image_size).any():
        raise AssertionError(f"the crop {size.tolist()} is larger than the image {list(image_size)} (h, w)")
    x0, y0, x1, y1 = get_bbox(instance)
    center_yx = np.array([(y0 + y1) * 0.5, (x0 + x1) * 0.5])
    if center_yx[0] >= image_size[0] or center_yx[1] >= image_size[1]:
        raise AssertionError(
            f"the box {[x0, y0, x1, y1]} has its centre outside of the image {tuple(image_size)} (h, w)"
        )
    lowest = np.maximum(np.floor(center_yx).astype(np.int32) - size, 0)
    highest = np.minimum(np.asarray(image_size, dtype=np.int32) - size, np.ceil(center_yx).astype(np.int32))
    top = np.random.randint(lowest[0], highest[0] + 1)  # noqa: NPY002 — the seeded generator of the worker
    left = np.random.randint(lowest[1], highest[1] + 1)  # noqa: NPY002
    return CropTransform(left, top, int(size[1]), int(size[0]))


def check_metadata_consistency(key: str, dataset_names: Sequence[str]) -> None:
    """Raise ValueError unless the metadata `key` is the same in all datasets, AttributeError where one lacks it."""
    values = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names, values):
        if value != values[0]:
            raise ValueError(
                f"metadata '{key}' is not the same in all datasets: dataset '{dataset_names[0]}': {values[0]}; "
                f"dataset '{name}': {value}"
            )


def build_augmentation(cfg, is_train: bool) -> list[T.Augmentation]:
    """The default policies of INPUT.*: a resize, and in training a flip."""
    if is_train:
        sizes, longest, style = cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    else:
        sizes, longest, style = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice"
    augmentations: list[T.Augmentation] = [T.ResizeShortestEdge(sizes, longest, style)]
    if is_train and cfg.INPUT.RANDOM_FLIP != "none":
        if cfg.INPUT.RANDOM_FLIP not in ("horizontal", "vertical"):
            raise ValueError(f"INPUT.RANDOM_FLIP must be horizontal, vertical or none, got {cfg.INPUT.RANDOM_FLIP!r}")
        is_horizontal = cfg.INPUT.RANDOM_FLIP == "horizontal"
        augmentations.append(T.RandomFlip(horizontal=is_horizontal, vertical=not is_horizontal))
    return augmentations


build_transform_gen = build_augmentation
