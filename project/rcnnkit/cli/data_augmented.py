"""`rcnnkit data show --augmented`: what the mapper of a training makes of the images."""

import argparse
import os
from collections.abc import Iterator

import numpy as np

from detectron2.data import MetadataCatalog
from detectron2.utils.env import seed_all_rng
from rcnnkit.data.loading import build_training_mapper, training_records
from rcnnkit.engine.setup import argument_parser, config_from_arguments
from rcnnkit.errors import UserError

EXAMPLE = "configs/quick/mask_rcnn_R_18_FPN_shapes.yaml"


def training_items(arguments: argparse.Namespace) -> Iterator[tuple[dict, list[str], str, str]]:
    """Items as the training gets them: `draws` of each of the images that are chosen.

    Yields:
        the item, the classes, INPUT.FORMAT, and what the image is called.

    Raises:
        UserError: no config, a config that no training could use, or data that it cannot read.
    """
    _check(arguments)
    name = arguments.path if arguments.split is None else f"{arguments.path}@{arguments.split}"
    given = [*arguments.opts, "DATASETS.TRAIN", repr((name,)), "DATASETS.TEST", "()"]
    cfg = config_from_arguments(argument_parser().parse_args(["--config-file", arguments.config_file, *given]))
    records = training_records(cfg)
    if not isinstance(records, list):
        raise UserError(f"{name}: is a torch data set, whose images cannot be chosen; name one that is a list")
    mapper = build_training_mapper(cfg, records)
    classes = list(MetadataCatalog.get(name).get("thing_classes", []))
    seed_all_rng(arguments.seed or 0)
    for index in chosen(len(records), arguments.count, arguments.seed):
        for draw in range(arguments.draws):
            place = f", draw {draw + 1}" if arguments.draws > 1 else ""
            title = os.path.basename(records[index]["file_name"]) + place
            yield mapper(records[index]), classes, cfg.INPUT.FORMAT, title


def chosen(total: int, count: int, seed: int | None) -> list[int]:
    """The first `count` of as many indices as there are, or with a seed random ones."""
    if seed is None:
        return list(range(total))[:count]
    return np.random.default_rng(seed).permutation(total)[:count].tolist()


def _check(arguments: argparse.Namespace) -> None:
    if not arguments.config_file:
        raise UserError(
            "--augmented: needs --config-file FILE, the config of the training, and KEY VALUE pairs where they differ; "
            f"for the embedded data shapes_train {EXAMPLE}"
        )
    if arguments.format != "auto" or arguments.images:
        raise UserError(
            "--format and --images: not with --augmented; a training reads them from an entry of DATASETS.CUSTOM, "
            "whose name then stands for PATH"
        )
    if arguments.worst:
        raise UserError("--worst: not with --augmented; the check sees the images as they are in the files")
    if len(arguments.opts) % 2:
        raise UserError(f"overrides come as KEY VALUE pairs, {arguments.opts[-1]!r} has no value")
    if arguments.draws < 1:
        raise UserError(f"--draws {arguments.draws}: give a number of draws of each image, 1 or more")
