"""Loaders for training and testing, and the record lists that they run over."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.utils.data as torchdata

from detectron2.config import configurable
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import _log_api_usage

from .catalog import DatasetCatalog, MetadataCatalog
from .common import AspectRatioGroupedDataset, DatasetFromList, MapDataset, ToIterableDataset
from .dataset_mapper import DatasetMapper
from .detection_utils import check_metadata_consistency
from .record_lists import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    load_proposals_into_dataset,
    print_instances_class_histogram,
)
from .samplers import InferenceSampler, RandomSubsetTrainingSampler, RepeatFactorTrainingSampler, TrainingSampler

__all__ = [
    "build_batch_data_loader",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "get_detection_dataset_dicts",
    "load_proposals_into_dataset",
    "print_instances_class_histogram",
]

logger = logging.getLogger(__name__)


def _with_proposals(lists: list[list[dict]], names: list[str], proposal_files: Sequence[str]) -> list[list[dict]]:
    """Each dataset's records with the proposals of its file."""
    if len(names) != len(proposal_files):
        raise AssertionError(f"{len(names)} datasets but {len(proposal_files)} proposal files")
    return [load_proposals_into_dataset(records, file) for records, file in zip(lists, proposal_files)]


def _check_classes(records: list[dict], names: list[str]) -> None:
    """Require one list of class names, and log how many objects each has; class names are optional."""
    class_names = MetadataCatalog.get(names[0]).get("thing_classes")
    if class_names is not None:
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(records, class_names)


def get_detection_dataset_dicts(
    names: str | list[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: list[str] | None = None,
    check_consistency: bool = True,
):
    """Load the records of registered datasets, one list of all.

    Args:
        names: a name or several.
        filter_empty: drop images without (non-crowd) annotations.
        min_keypoints: drop images with fewer labelled keypoints.
        proposal_files: a file of precomputed proposals for each dataset.
        check_consistency: require equal classes, and log the class histogram.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise AssertionError("no dataset is named: DATASETS.TRAIN or DATASETS.TEST is empty")
    lists = [DatasetCatalog.get(name) for name in names]
    if isinstance(lists[0], torchdata.Dataset):
        if len(lists) > 1:
            # ConcatDataset keeps a torch Dataset lazy; filters work on lists of records only
            return torchdata.ConcatDataset(lists)  # type: ignore[arg-type]
        return lists[0]
    for name, records in zip(names, lists):
        if not len(records):
            raise AssertionError(f"dataset '{name}' has no records")
    if proposal_files:
        lists = _with_proposals(lists, names, proposal_files)
    records = [record for one in lists for record in one]
    if "annotations" in records[0]:
        if filter_empty:
            records = filter_images_with_only_crowd_annotations(records)
        if min_keypoints > 0:
            records = filter_images_with_few_keypoints(records, min_keypoints)
        if check_consistency:
            _check_classes(records, names)
    if not records:
        raise AssertionError(f"no record of {', '.join(names)} passes the filters")
    return records


def _batch_size_per_process(total_batch_size, single_gpu_batch_size) -> int:
    if single_gpu_batch_size:
        if total_batch_size:
            raise ValueError(
                "total_batch_size and single_gpu_batch_size say the same thing; set one and leave the other 0"
            )
        return single_gpu_batch_size
    world_size = get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size != 0:
        raise AssertionError(
            f"total_batch_size {total_batch_size} is not a positive multiple of the {world_size} processes"
        )
    return total_batch_size // world_size


def _is_iterable(dataset, sampler) -> bool:
    """Whether the data set gives an order of its own; then it has no sampler."""
    iterable = isinstance(dataset, torchdata.IterableDataset)
    if iterable and sampler is not None:
        raise AssertionError("an iterable dataset gives its own order: leave sampler None")
    return iterable


def _mapped(dataset, mapper) -> Any:
    """Records (a list or a data set) as a data set of what `mapper` makes of them."""
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    return dataset if mapper is None else MapDataset(dataset, mapper)


def build_batch_data_loader(
    dataset,
    sampler,
    total_batch_size,
    *,
    aspect_ratio_grouping=False,
    num_workers=0,
    collate_fn=None,
    drop_last: bool = True,
    single_gpu_batch_size=None,
    prefetch_factor=2,
    persistent_workers=False,
    pin_memory=False,
    seed=None,
    **kwargs,
):
    """A loader of batches for one process of the group.

    Args:
        dataset: map-style with `sampler`, or iterable without.
        sampler: indices, already this process' share; None for an iterable dataset.
        total_batch_size: over all processes; a multiple of their number.
        aspect_ratio_grouping: batches of images of like orientation; items must be dicts with "width", "height".
        num_workers: loader processes; 0 loads in this one.
        collate_fn: list of items → batch; None leaves the list.
        drop_last: drop an incomplete last batch.
        single_gpu_batch_size: this process' batch size, instead of total_batch_size.
        prefetch_factor, persistent_workers, pin_memory, kwargs: as in torch.utils.data.DataLoader.
        seed: seed of the loader's generator, hence of its workers.
    """
    batch_size = _batch_size_per_process(total_batch_size, single_gpu_batch_size)
    if not _is_iterable(dataset, sampler):
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)

    options: dict[str, Any] = {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "worker_init_fn": worker_init_reset_seed,
        "generator": None,
        **kwargs,
    }
    if num_workers > 0:
        options["prefetch_factor"] = prefetch_factor
        options["persistent_workers"] = persistent_workers
    if seed is not None:
        options["generator"] = torch.Generator()
        options["generator"].manual_seed(seed)

    if not aspect_ratio_grouping:
        return torchdata.DataLoader(
            dataset,
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=trivial_batch_collator if collate_fn is None else collate_fn,
            **options,
        )
    if not drop_last:
        raise AssertionError("aspect_ratio_grouping yields whole batches only: it needs drop_last")
    one_by_one = torchdata.DataLoader(dataset, batch_size=None, collate_fn=trivial_batch_collator, **options)
    batches = AspectRatioGroupedDataset(one_by_one, batch_size)
    return batches if collate_fn is None else MapDataset(batches, collate_fn)


def _get_train_datasets_repeat_factors(cfg) -> dict[str, float]:
    """DATASETS.TRAIN_REPEAT_FACTOR as {name: factor}; 1 for those that it does not name."""
    factors = dict.fromkeys(cfg.DATASETS.TRAIN, 1.0)
    given = {entry[0]: float(entry[1]) for entry in cfg.DATASETS.get("TRAIN_REPEAT_FACTOR", ())}
    unknown = [name for name in given if name not in factors]
    if unknown:
        raise AssertionError(f"DATASETS.TRAIN_REPEAT_FACTOR names '{unknown[0]}', which is not in DATASETS.TRAIN")
    return factors | given


def _build_weighted_sampler(cfg, enable_category_balance: bool = False) -> RepeatFactorTrainingSampler:
    """Repeat each dataset by its factor and, if asked, each image by those of its categories within its dataset."""
    factor_of = _get_train_datasets_repeat_factors(cfg)
    parts = []
    for name in cfg.DATASETS.TRAIN:
        # each on its own, so that lengths and category frequencies are those of the dataset
        records = get_detection_dataset_dicts(
            [name],
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
        )
        factors = torch.full((len(records),), factor_of[name])
        if enable_category_balance:
            factors *= RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
                records, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
            )
        parts.append(factors)
    return RepeatFactorTrainingSampler(torch.cat(parts))


def _train_sampler_from_config(cfg, dataset):
    name = cfg.DATALOADER.SAMPLER_TRAIN
    logger.info(f"DATALOADER.SAMPLER_TRAIN: {name}")
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset))
    if name == "RepeatFactorTrainingSampler":
        factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
            dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
        )
        return RepeatFactorTrainingSampler(factors)
    if name == "RandomSubsetTrainingSampler":
        ratio = cfg.DATALOADER.get("RANDOM_SUBSET_RATIO")
        if ratio is None:  # a key that projects add, as with Detectron2
            raise ValueError(
                "DATALOADER.RANDOM_SUBSET_RATIO is not set; RandomSubsetTrainingSampler needs it, in (0, 1]"
            )
        return RandomSubsetTrainingSampler(len(dataset), ratio)
    if name == "WeightedTrainingSampler":
        return _build_weighted_sampler(cfg)
    if name == "WeightedCategoryTrainingSampler":
        return _build_weighted_sampler(cfg, enable_category_balance=True)
    raise ValueError(
        f"DATALOADER.SAMPLER_TRAIN: unknown sampler '{name}'; there are TrainingSampler, RepeatFactorTrainingSampler, "
        "RandomSubsetTrainingSampler, WeightedTrainingSampler, WeightedCategoryTrainingSampler"
    )


def _train_loader_from_config(cfg, mapper=None, *, dataset=None, sampler=None) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
        _log_api_usage("dataset." + cfg.DATASETS.TRAIN[0])
    if mapper is None:
        mapper = DatasetMapper(cfg, True)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = _train_sampler_from_config(cfg, dataset)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset,
    *,
    mapper,
    sampler=None,
    total_batch_size,
    aspect_ratio_grouping=True,
    num_workers=0,
    collate_fn=None,
    **kwargs,
):
    """An endless loader of training batches; call it with a config, or with the arguments below.

    Args:
        dataset: records, or a torch Dataset (map-style or iterable).
        mapper: record → item; None for the records themselves.
        sampler: TrainingSampler when None; must be None for an iterable dataset.
        total_batch_size, aspect_ratio_grouping, num_workers, collate_fn, kwargs: see build_batch_data_loader.

    Returns:
        An iterable over list[item], or what collate_fn makes of it.
    """
    dataset = _mapped(dataset, mapper)
    if not _is_iterable(dataset, sampler):
        if sampler is None:
            sampler = TrainingSampler(len(dataset))
        if not isinstance(sampler, torchdata.Sampler):
            raise AssertionError(f"sampler must be a torch Sampler, got {type(sampler).__name__}")
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(cfg, dataset_name, mapper=None) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    proposal_files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        proposal_files = [cfg.DATASETS.PROPOSAL_FILES_TEST[list(cfg.DATASETS.TEST).index(name)] for name in names]
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=proposal_files)
    if mapper is None:
        mapper = DatasetMapper(cfg, False)
    sampler = None if isinstance(dataset, torchdata.IterableDataset) else InferenceSampler(len(dataset))
    return {"dataset": dataset, "mapper": mapper, "num_workers": cfg.DATALOADER.NUM_WORKERS, "sampler": sampler}


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: list[Any] | torchdata.Dataset,
    *,
    mapper: Callable[[dict[str, Any]], Any],
    sampler: torchdata.Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> torchdata.DataLoader:
    """A loader that yields each record once, in order; call it with a config and a dataset's name, or as below.

    Args:
        dataset: records, or a torch Dataset.
        mapper: record → item; None for the records themselves.
        sampler: InferenceSampler when None, which splits the records among the processes.
        batch_size: items per batch and process.
        num_workers: loader processes.
        collate_fn: list of items → batch; None leaves the list.
    """
    items = _mapped(dataset, mapper)
    if not _is_iterable(items, sampler) and sampler is None:
        sampler = InferenceSampler(len(items))
    return torchdata.DataLoader(
        items,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=trivial_batch_collator if collate_fn is None else collate_fn,
    )


def trivial_batch_collator(batch: Iterable[Any]) -> Any:
    """The items as they are."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed Python, numpy and torch of a loader worker from torch's seed of the loader and the worker's number."""
    initial_seed = torch.initial_seed() % 2**31
    seed_all_rng(initial_seed + worker_id)
