"""From a record to a model's input, where objects may have a box only, a box and a mask, or a box and keypoints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import torch

from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, Keypoints, PolygonMasks, polygons_to_bitmask
from rcnnkit.data.augmentation import AffineTransform, Combination, LabelledImage, build_policies
from rcnnkit.data.images import MAX_IMAGE_PIXELS, WHITE_16BIT, read_image
from rcnnkit.data.thin_images import resized, too_thin
from rcnnkit.errors import UserError

# Why an annotation is not among the instances.
CROWD = "crowd regions"
IGNORED = "objects marked to be ignored"
EMPTY_BOX = "boxes without area in the image"
EMPTY_MASK = "objects whose mask has no pixel in the image"
HIDDEN = "objects of which other images hide all or nearly all"
SHORT_POLYGON = "polygons of fewer than three points"


class LabelMapper(DatasetMapper):
    """Detectron2's mapper, for objects that are labelled in part.

    Images are read by rcnnkit's rules (orientation, grey, alpha, 16 bit). In training "instances" have, beside
    `gt_boxes` and `gt_classes`:

    - with `use_instance_mask`: `gt_masks` of every object, empty where none is labelled, and `gt_has_mask` (N,) bool;
    - with `use_keypoint`: `gt_keypoints` (N, K, 3) of every object, all 0 where none are labelled, and
      `gt_has_keypoints` (N,) bool: at least one is, and lies in the augmented image.

    A loss learns only from the objects that these fields mark; without the field, from all. What has to be left out is
    counted in the item: `item["left_out"]`, a dictionary {reason: number}, absent where nothing is. Crowd regions and
    objects marked to be ignored are no instances; `item["ignored"]`, Boxes (M, 4) in pixels of the augmented image,
    tells where they are, absent where the record has none.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        white_16bit: int = WHITE_16BIT,
        augment_with_boxes: bool = False,
        ignored_class: int = 255,
        combinations: Sequence[Combination] = (),
        other_records: Any = (),
        **detectron2_arguments: Any,
    ):
        """
        Args:
            is_train: give instances.
            max_image_pixels: larger images are refused before they are decoded.
            white_16bit: value of 16-bit grey that becomes white.
            augment_with_boxes: augmentations see the objects' boxes, (N, 4) XYXY as `AugInput.boxes`, in training.
            ignored_class: value of "sem_seg" where a rotation, shear or shift shows what is outside of the image.
            combinations: what puts the augmented image and other ones together, in order; in training. Masks need the
                format "bitmask".
            other_records: where the other ones come from: anything with a length whose items are records. Only read
                from, one record at a time.
            **detectron2_arguments: those of DatasetMapper.
        """
        super().__init__(is_train, **detectron2_arguments)
        self.max_image_pixels = max_image_pixels
        self.white_16bit = white_16bit
        self.augment_with_boxes = augment_with_boxes
        self.ignored_class = ignored_class
        self.combinations = list(combinations)
        self.other_records = other_records
        if self.combinations and not len(other_records):
            raise UserError(
                "RCNNKIT.AUGMENTATION.COPY_PASTE and MOSAIC need other images: give the mapper other_records, as "
                "rcnnkit.data.loading.build_train_loader does, or set their PROB to 0"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        arguments = super().from_config(cfg, is_train)
        if is_train:
            policies = build_policies(cfg, arguments["augmentations"])
            arguments["augmentations"] = policies.augmentations
            arguments["augment_with_boxes"] = policies.read_boxes
            arguments["combinations"] = policies.combinations
            arguments["recompute_boxes"] |= policies.change_outlines and cfg.MODEL.MASK_ON
        return {
            **arguments,
            "max_image_pixels": cfg.RCNNKIT.MAX_IMAGE_PIXELS,
            "white_16bit": cfg.RCNNKIT.WHITE_16BIT,
            "ignored_class": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: a record of the standard format; it is not changed.

        Returns:
            The record without its annotations, with "image" (C, H, W) and in training "instances".
        """
        item, image = self._augmented(dataset_dict)
        if self.combinations and "instances" in item:
            image = self._combined(item, image)
        # a copy: a flip leaves negative strides, which a side of one pixel keeps in numpy's eyes contiguous
        item["image"] = torch.from_numpy(image.transpose(2, 0, 1).copy())
        return item

    def _augmented(self, dataset_dict: dict) -> tuple[dict, np.ndarray]:
        """The item without its image, and that (H, W, C)."""
        item = dict(dataset_dict)
        annotations = item.pop("annotations", None)
        image = read_image(
            item["file_name"], self.image_format, max_pixels=self.max_image_pixels, white_16bit=self.white_16bit
        )
        utils.check_image_size(item, image)
        sem_seg = None
        if "sem_seg_file_name" in item:
            sem_seg = utils.read_image(item.pop("sem_seg_file_name"), "L").squeeze(2)
        augmented = T.AugInput(image, boxes=self._seen_boxes(annotations), sem_seg=sem_seg)
        transforms = self._transformed(augmented, item)
        size = augmented.image.shape[:2]
        if augmented.sem_seg is not None:
            item["sem_seg"] = self._segmentation(augmented.sem_seg, transforms, image.shape[:2])
        if self.proposal_topk is not None:
            utils.transform_proposals(item, size, transforms, proposal_topk=self.proposal_topk)
        if self.is_train and annotations is not None:
            ignored = [one for one in annotations if one.get("iscrowd", 0) or one.get("ignore", 0)]
            if ignored:
                item["ignored"] = _ignored_boxes(ignored, transforms, size)
            item["instances"], left_out = self._instances(annotations, transforms, size, item)
            if left_out:
                item["left_out"] = dict(left_out)
        return item, augmented.image

    def _transformed(self, augmented: T.AugInput, item: dict) -> T.TransformList:
        """What the augmentations have done; of a thin image they may leave no pixel, which is told."""
        whole = augmented.image.shape[:2]
        try:
            transforms = self.augmentations(augmented)
        except (ValueError, ArithmeticError, RuntimeError) as error:
            # the image is as it was before the transform that failed
            if all(resized(augmented.image.shape[:2], self.augmentations.augs)):
                raise
            raise too_thin(item["file_name"], whole) from error
        if not augmented.image.size:
            raise too_thin(item["file_name"], whole)
        return transforms

    def _segmentation(self, moved: np.ndarray, transforms: T.TransformList, before: tuple[int, int]) -> torch.Tensor:
        """(H, W) int64 classes; to be ignored where a transform that fills masks with 0 shows what is outside."""
        classes = moved.astype("long")
        classes[transforms.apply_segmentation(np.ones(before, dtype=np.uint8)) == 0] = self.ignored_class
        return torch.as_tensor(classes)

    def _combined(self, item: dict, image: np.ndarray) -> np.ndarray:
        """Put the item and others together: its labels are changed, its image (H, W, C) is returned."""
        if "sem_seg" in item:
            raise UserError(
                f"{item['file_name']}: has a segmentation of the whole image, which RCNNKIT.AUGMENTATION.COPY_PASTE "
                "and MOSAIC do not change; set their PROB to 0"
            )
        # Detectron2 seeds this generator, in each worker, for its own augmentations
        rng = np.random.default_rng(np.random.randint(2**31))  # noqa: NPY002
        combined = _labelled(item, image)
        lost = 0
        for combine in self.combinations:
            combined, hidden = combine(combined, lambda: self._another(rng), rng)
            lost += hidden
        item["instances"] = combined.instances
        item.pop("ignored", None)  # as it was before images were put together
        if combined.ignored is not None:
            item["ignored"] = combined.ignored
        if lost:
            item["left_out"] = {**item.get("left_out", {}), HIDDEN: lost}
        return combined.image

    def _another(self, rng: np.random.Generator) -> LabelledImage:
        """Any of the records, augmented by itself."""
        record = self.other_records[int(rng.integers(len(self.other_records)))]
        return _labelled(*self._augmented({**record, "annotations": record.get("annotations", [])}))

    def _seen_boxes(self, annotations: list[dict] | None) -> np.ndarray | None:
        if not (self.is_train and self.augment_with_boxes):
            return None
        objects = [one for one in annotations or () if not one.get("iscrowd", 0) and not one.get("ignore", 0)]
        return _boxes(objects).tensor.numpy()

    def _instances(
        self, annotations: list[dict], transforms: Any, size: tuple[int, int], item: dict
    ) -> tuple[Instances, Counter]:
        left_out: Counter = Counter()
        kept = []
        turned = any(isinstance(one, AffineTransform) for one in transforms.transforms)
        for annotation in annotations:
            if annotation.get("iscrowd", 0) or annotation.get("ignore", 0):
                left_out[CROWD if annotation.get("iscrowd", 0) else IGNORED] += 1
                continue
            owned = self._labels(annotation, item, left_out)
            points = _points_inside(owned) if turned and "segmentation" not in owned else None
            moved = utils.transform_instance_annotations(
                owned, transforms, size, keypoint_hflip_indices=self.keypoint_hflip_indices
            )
            if points is not None:
                _enclose(moved, transforms.apply_coords(points), size)
            kept.append(self._mirrored(moved, transforms))
        instances = Instances(size)
        instances.gt_boxes = _boxes(kept)
        instances.gt_classes = torch.tensor([one["category_id"] for one in kept], dtype=torch.int64)
        if self.use_instance_mask:
            self._add_masks(instances, kept)
        if self.use_keypoint:
            self._add_keypoints(instances, kept)
        return self._visible(instances, left_out), left_out

    def _mirrored(self, annotation: dict, transforms: T.TransformList) -> dict:
        """Let left and right keypoints change places where an odd number of vertical flips mirrored the image.

        Detectron2 has done so for the horizontal ones; a second mirror undoes the first.
        """
        flips = sum(isinstance(one, T.VFlipTransform) for one in transforms.transforms)
        if flips % 2 and "keypoints" in annotation:
            if self.keypoint_hflip_indices is None:
                raise ValueError("a flip swaps left and right keypoints: keypoint_hflip_indices is needed")
            annotation["keypoints"] = annotation["keypoints"][np.asarray(self.keypoint_hflip_indices)]
        return annotation

    def _labels(self, annotation: dict, item: dict, left_out: Counter) -> dict:
        """A copy of the annotation that transforms may write into, with what the tasks use and is labelled."""
        owned = {key: annotation[key] for key in ("bbox", "bbox_mode", "category_id")}
        where = f"{item['file_name']}: image {item.get('image_id', '?')}"
        segmentation = annotation.get("segmentation") if self.use_instance_mask else None
        if isinstance(segmentation, dict):
            if self.instance_mask_format == "polygon":
                raise UserError(f"{where} has a mask of run lengths, INPUT.MASK_FORMAT is polygon; set it to bitmask")
            owned["segmentation"] = _compressed(segmentation)
        elif segmentation is not None:
            polygons = [np.array(polygon, dtype=np.float64) for polygon in segmentation if len(polygon) >= 6]
            if len(polygons) < len(segmentation):
                left_out[SHORT_POLYGON] += len(segmentation) - len(polygons)
            if polygons:
                owned["segmentation"] = polygons
        keypoints = annotation.get("keypoints") if self.use_keypoint else None
        if keypoints is not None and len(keypoints):
            points = np.array(keypoints, dtype=np.float64)
            if self.keypoint_hflip_indices is not None and points.size != 3 * len(self.keypoint_hflip_indices):
                raise UserError(
                    f"{where} has an object with {points.size} numbers for keypoints, its data set names "
                    f"{len(self.keypoint_hflip_indices)} keypoints of 3 numbers each; correct the annotation"
                )
            owned["keypoints"] = points
        return owned

    def _add_masks(self, instances: Instances, annotations: list[dict]) -> None:
        segmentations = [annotation.get("segmentation") for annotation in annotations]
        if self.instance_mask_format == "polygon":
            instances.gt_masks = PolygonMasks([[] if polygons is None else polygons for polygons in segmentations])
        else:
            masks = np.zeros((len(segmentations), *instances.image_size), dtype=bool)
            for mask, segmentation in zip(masks, segmentations, strict=True):
                if isinstance(segmentation, np.ndarray):
                    mask[:] = segmentation
                elif segmentation:
                    mask[:] = polygons_to_bitmask(segmentation, *instances.image_size)
            instances.gt_masks = BitMasks(torch.from_numpy(masks))
        instances.gt_has_mask = torch.tensor([one is not None for one in segmentations], dtype=torch.bool)

    def _add_keypoints(self, instances: Instances, annotations: list[dict]) -> None:
        labelled = [annotation.get("keypoints") for annotation in annotations]
        counts = [len(points) for points in labelled if points is not None]
        count = len(self.keypoint_hflip_indices) if self.keypoint_hflip_indices is not None else max(counts, default=0)
        points = np.zeros((len(labelled), count, 3))
        for row, own in zip(points, labelled, strict=True):
            if own is not None:
                row[:] = own
        instances.gt_keypoints = Keypoints(points)
        instances.gt_has_keypoints = torch.from_numpy((points[:, :, 2] > 0).any(axis=1))

    def _visible(self, instances: Instances, left_out: Counter) -> Instances:
        """Without what the augmentation moved out of the image."""
        keep = torch.ones(len(instances), dtype=torch.bool)
        if instances.has("gt_masks"):
            has_mask = instances.gt_has_mask
            gone = has_mask & ~instances.gt_masks.nonempty()
            left_out.update({EMPTY_MASK: int(gone.sum())} if gone.any() else {})
            keep &= ~gone
            if self.recompute_boxes and len(instances):
                tight = instances.gt_masks.get_bounding_boxes().tensor
                boxes = torch.where((has_mask & keep)[:, None], tight, instances.gt_boxes.tensor)
                instances.gt_boxes = Boxes(boxes)
        empty = keep & ~instances.gt_boxes.nonempty(threshold=1e-5)
        left_out.update({EMPTY_BOX: int(empty.sum())} if empty.any() else {})
        keep &= ~empty
        return instances if keep.all() else instances[keep]


def _labelled(item: dict, image: np.ndarray) -> LabelledImage:
    return LabelledImage(image, item["instances"], item.get("ignored"))


def _points_inside(annotation: dict) -> np.ndarray | None:
    """(N, 2): the labelled keypoints that lie in the box; None where there are no keypoints."""
    if "keypoints" not in annotation:
        return None
    points = annotation["keypoints"].reshape(-1, 3)
    x0, y0, x1, y1 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    x, y, visible = points.T
    return points[(visible > 0) & (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1), :2]


def _enclose(annotation: dict, points: np.ndarray, size: tuple[int, int]) -> None:
    """Let the box of an object reach around those of the moved points (N, 2) that are in the image.

    A turned box follows the ellipse inside it, which leaves out what lay in its corners; of these keypoints are known.
    """
    x0, y0, x1, y1 = annotation["bbox"]
    seen = points[((points >= 0) & (points <= size[::-1])).all(axis=1)]
    if len(seen) and x1 > x0 and y1 > y0:
        annotation["bbox"] = np.concatenate(
            [np.minimum(seen.min(axis=0), (x0, y0)), np.maximum(seen.max(axis=0), (x1, y1))]
        )


def _ignored_boxes(annotations: list[dict], transforms: Any, size: tuple[int, int]) -> Boxes:
    """(M, 4) XYXY of the boxes in the augmented image; those that left it are not among them.

    Where a box is turned, the box around all of it: what is ignored must stay so, while an object's box shall be tight.
    """
    regions = []
    for x0, y0, x1, y1 in _boxes(annotations).tensor.double().tolist():
        if x1 > x0 and y1 > y0:
            corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
            pieces = transforms.apply_polygons([corners])
            points = np.concatenate(pieces) if pieces else np.zeros((1, 2))
            regions.append([*points.min(axis=0), *points.max(axis=0)])
    boxes = Boxes(torch.from_numpy(np.asarray(regions, dtype=np.float32).reshape(-1, 4)))
    boxes.clip(size)
    return boxes[boxes.nonempty()]


def _boxes(annotations: list[dict]) -> Boxes:
    """(N, 4) XYXY of their boxes."""
    boxes = [BoxMode.convert(one["bbox"], one["bbox_mode"], BoxMode.XYXY_ABS) for one in annotations]
    return Boxes(torch.from_numpy(np.asarray(boxes, dtype=np.float32).reshape(-1, 4)))


def _compressed(runs: dict) -> dict:
    """Run lengths as pycocotools decodes them; a list of counts is compressed."""
    if isinstance(runs["counts"], list):
        return mask_util.frPyObjects(runs, *runs["size"])
    return runs
