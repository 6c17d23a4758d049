"""The loaders of a run: which images are drawn, how often, and what the mapper leaves out of them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch.utils.data import Dataset, IterableDataset, Sampler

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.detection_utils import check_metadata_consistency
from detectron2.data.samplers import RepeatFactorTrainingSampler
from detectron2.utils import comm
from rcnnkit.data.label_counts import count_classes, count_labels, is_object
from rcnnkit.data.mapper import LabelMapper
from rcnnkit.data.thin_images import check_thin_images
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)


def build_train_loader(cfg: CfgNode) -> Iterable[list[dict]]:
    """An endless loader of training batches with rcnnkit's mapper; see `RCNNKIT.NEGATIVES` for what is drawn.

    Raises:
        UserError: an image of which a resize may leave no pixel; or what the mapper and the sampler refuse.
    """
    records = training_records(cfg)
    if not isinstance(records, list):  # a torch Dataset that someone registered: its own order, its own filter
        mapper = build_training_mapper(cfg, records)
        return TellingLoader(build_detection_train_loader(cfg, mapper=mapper, dataset=records), 0)
    sampler = build_training_sampler(cfg, records)
    # serialised once: the loader and the mapper read the same memory, which forked workers share
    shared = DatasetFromList(records, copy=False)
    mapper = build_training_mapper(cfg, shared)
    check_thin_images(records, mapper.augmentations.augs)
    loader = build_detection_train_loader(cfg, mapper=mapper, dataset=shared, sampler=sampler)
    return TellingLoader(loader, -(-len(records) // comm.get_world_size()))


def build_training_mapper(cfg: CfgNode, records: Sequence[dict] | Dataset) -> LabelMapper:
    """The mapper of a training; it keeps the records only where an augmentation puts several images together.

    Raises:
        UserError: it does, but the records have an order of their own, from which none can be drawn.
    """
    own = cfg.RCNNKIT.AUGMENTATION
    if not (own.COPY_PASTE.PROB or own.MOSAIC.PROB):
        return LabelMapper(cfg, True)
    if isinstance(records, IterableDataset):
        raise UserError(
            "RCNNKIT.AUGMENTATION.COPY_PASTE and MOSAIC draw any image of the training set, but DATASETS.TRAIN "
            f"{', '.join(cfg.DATASETS.TRAIN)} gives its images in one order only; set their PROB to 0"
        )
    return LabelMapper(cfg, True, other_records=records)


def build_test_loader(cfg: CfgNode, dataset_name: str) -> Iterable[list[dict]]:
    """A loader of each image once, read as in training."""
    return build_detection_test_loader(cfg, dataset_name, mapper=LabelMapper(cfg, False))


def training_records(cfg: CfgNode):
    """The records of `DATASETS.TRAIN`.

    Data sets that rcnnkit read keep their images without objects; of others `DATALOADER.FILTER_EMPTY_ANNOTATIONS` and
    `MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE` decide, as in Detectron2.
    """
    names = list(cfg.DATASETS.TRAIN)
    proposals = list(cfg.DATASETS.PROPOSAL_FILES_TRAIN) if cfg.MODEL.LOAD_PROPOSALS else [None] * len(names)
    parts = []
    for name, proposal_file in zip(names, proposals, strict=True):
        own = MetadataCatalog.get(name).get("data_format") is not None
        few = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON and not own else 0
        parts.append(
            get_detection_dataset_dicts(
                name,
                filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS and not own,
                min_keypoints=few,
                proposal_files=[proposal_file] if proposal_file else None,
            )
        )
        if isinstance(parts[-1], list):
            logger.info("%s: %s", name, count_labels(parts[-1]).describe())
    if not all(isinstance(part, list) for part in parts):
        return parts[0] if len(parts) == 1 else torch.utils.data.ConcatDataset(parts)
    if all(MetadataCatalog.get(name).get("thing_classes") is not None for name in names):
        check_metadata_consistency("thing_classes", names)
    return [record for part in parts for record in part]


def training_class_counts(cfg: CfgNode) -> list[int]:
    """Number of objects of each class in what is trained on.

    Raises:
        UserError: an iterable data set, which cannot be counted.
    """
    records = training_records(cfg)
    if not isinstance(records, list):
        raise UserError(
            f"MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE: class_balanced counts objects, but {', '.join(cfg.DATASETS.TRAIN)} "
            "is not a list of records; set it to seesaw, which counts while training"
        )
    counts = count_classes(records, cfg.MODEL.ROI_HEADS.NUM_CLASSES)
    logger.info("objects of each class, by which the box loss is balanced: %s", ", ".join(map(str, counts)))
    return counts


def build_training_sampler(cfg: CfgNode, records: list[dict]) -> Sampler | None:
    """The sampler that `RCNNKIT.NEGATIVES` asks for; None: the one of `DATALOADER.SAMPLER_TRAIN` as it is.

    Raises:
        UserError: a ratio is asked for, but no image has an object.
    """
    if cfg.RCNNKIT.NEGATIVES < 0:
        return None
    if cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.get("REPEAT_SQRT", True)
        )
    else:
        factors = torch.ones(len(records))
    return RepeatFactorTrainingSampler(with_negatives(factors, records, cfg.RCNNKIT.NEGATIVES))


def with_negatives(factors: torch.Tensor, records: list[dict], ratio: float) -> torch.Tensor:
    """Repeat factors under which images without objects are drawn `ratio` times as often as those with.

    Args:
        factors: (N,) repeat factors of the records; those of images with objects stay.
        records: of N images. Crowd regions and objects to be ignored are no objects.
        ratio: draws of images without objects per draw of one with, at least 0.

    Returns:
        (N,) float32

    Raises:
        UserError: no image has an object.
    """
    empty = torch.tensor([not any(map(is_object, record.get("annotations", ()))) for record in records])
    if empty.all():
        raise UserError(f"DATASETS.TRAIN: none of the {len(records)} images has an object to learn")
    count = int(empty.sum())
    shares = factors.clone().float()
    if count:
        share = float(ratio * shares[~empty].sum() / count)
        shares[empty] = share
        logger.info("images without objects: %d of %d, each drawn %.3g times per pass", count, len(records), share)
    elif ratio:
        logger.warning("RCNNKIT.NEGATIVES is %g, but every image has objects: there is none to draw", ratio)
    return shares


class TellingLoader:
    """A training loader that tells what the mapper left out: each reason when it is first met, all after one pass.

    Args:
        loader: yields lists of items of a `LabelMapper`.
        pass_length: images of one pass over the data in this process; 0: no totals are told.
    """

    def __init__(self, loader: Iterable[list[dict]], pass_length: int):
        self.loader = loader
        self.pass_length = pass_length
        self._left_out: Counter = Counter()
        self._found: Counter = Counter()

    def __iter__(self) -> Iterator[list[dict]]:
        for batch in self.loader:
            for item in batch:
                self._take(item)
            yield batch

    def _take(self, item: dict) -> None:
        left_out = item.pop("left_out", {})
        if self._found["images"] >= self.pass_length > 0:
            return
        for reason, count in left_out.items():
            if reason not in self._left_out:
                logger.info("%s: left out: %d %s (first met; totals follow)", item.get("file_name"), count, reason)
            self._left_out[reason] += count
        self._found["images"] += 1
        instances = item.get("instances")
        if instances is not None:
            self._found["objects"] += len(instances)
            for field, what in (("gt_has_mask", "with a mask"), ("gt_has_keypoints", "with keypoints")):
                if instances.has(field):
                    self._found[what] += int(instances.get(field).sum())
        if self._found["images"] == self.pass_length:
            self._tell()

    def _tell(self) -> None:
        parts = [f"{self._found[what]} {what}" for what in ("with a mask", "with keypoints") if what in self._found]
        logger.info(
            "the first %d images: %d objects to learn%s; left out: %s",
            self.pass_length,
            self._found["objects"],
            f" ({', '.join(parts)})" if parts else "",
            ", ".join(f"{count} {reason}" for reason, count in self._left_out.items()) or "nothing",
        )
