"""Images of which a resize leaves no pixel: refused before a training, or in one line when they are met."""

import itertools

import numpy as np
import pytest
from PIL import Image

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data.loading import build_test_loader, build_train_loader
from rcnnkit.data.mapper import LabelMapper
from rcnnkit.data.thin_images import resized
from rcnnkit.errors import UserError
from tests.rcnnkit.runs import forget_data

NAME = "thin_images_train"
OBJECT = {"category_id": 0, "bbox": [10, 0, 60, 3], "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}


@pytest.fixture
def records(tmp_path):
    """An image of 900×3 pixels and one of 90×30, both with an object."""
    made = []
    for width, height in ((90, 30), (900, 3)):
        path = tmp_path / f"{width}x{height}.png"
        Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8)).save(path)
        made.append({"file_name": str(path), "height": height, "width": width, "image_id": 1, "annotations": [OBJECT]})
    return made


@pytest.fixture
def cfg(records):
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).set(data_format="coco", thing_classes=["thing"])
    made = get_cfg()
    add_rcnnkit_config(made)
    made.DATASETS.TRAIN, made.MODEL.ROI_HEADS.NUM_CLASSES = (NAME,), 1
    made.DATALOADER.NUM_WORKERS, made.SOLVER.IMS_PER_BATCH = 0, 1
    yield made
    forget_data(NAME)


@pytest.mark.parametrize(
    "augmentation, expected",
    [
        # 140 / 900 of 3 rows is 0.47, rounded to none; 150 / 900 is half a row, rounded up
        (T.ResizeShortestEdge([96, 128], 140, "choice"), (0, 140)),
        (T.ResizeShortestEdge([96, 128], 150, "choice"), (1, 150)),
        (T.ResizeShortestEdge([2, 128], 1000, "choice"), (2, 600)),  # the shortest edge asked for counts
        (T.ResizeShortestEdge([0], 140, "choice"), (3, 900)),  # 0: as it is
        (T.ResizeScale(0.1, 2.0, 1024, 1024), (0, 102)),  # 102.4 / 900 of 3 rows is 0.34
        (T.ResizeScale(0.5, 2.0, 1024, 700), (1, 350)),
        (T.RandomFlip(), (3, 900)),
    ],
)
def test_the_smallest_that_is_drawn(augmentation, expected):
    assert resized((3, 900), [augmentation]) == expected


def test_the_prediction_is_what_the_resize_does():
    for size in ((5, 700), (700, 5)):
        for augmentation in (T.ResizeShortestEdge(50, 333), T.ResizeScale(0.4, 0.4, 500, 600)):
            seen = T.AugInput(np.zeros((*size, 3), dtype=np.uint8))
            augmentation(seen)
            assert resized(size, [augmentation]) == seen.image.shape[:2]


@pytest.mark.parametrize("jitter", [True, False])
def test_a_training_refuses_them_before_it_begins(cfg, records, jitter):
    cfg.RCNNKIT.AUGMENTATION.SCALE_JITTER.ENABLED = jitter
    cfg.INPUT.MAX_SIZE_TRAIN = 140
    with pytest.raises(UserError, match=r"900x3\.png: is 900x3 \(width x height\), too thin.*can make it \d+x0; tile"):
        build_train_loader(cfg)
    records[1].update(height=4)  # the early look trusts the records, and 4 rows are enough of 140 / 900
    cfg.RCNNKIT.AUGMENTATION.SCALE_JITTER.ENABLED = False
    build_train_loader(cfg)


@pytest.mark.parametrize("image_format", ["BGR", "YUV-BT.601"])
@pytest.mark.parametrize("train", [True, False])
def test_the_mapper_names_the_file(records, image_format, train):
    """Whole pixels and floating-point ones, which are resized by other libraries."""
    mapper = LabelMapper(train, augmentations=[T.ResizeShortestEdge(96, 140)], image_format=image_format)
    assert mapper(records[0])["image"].shape == (3, 47, 140)
    with pytest.raises(UserError, match=r"900x3\.png: is 900x3 \(width x height\), too thin for the config"):
        mapper(records[1])


@pytest.mark.parametrize("resize", [[T.ResizeShortestEdge(96, 1333)], []])
def test_what_a_crop_leaves_is_looked_at_too(records, resize):
    """A tenth of three rows is none."""
    mapper = LabelMapper(True, augmentations=[T.RandomCrop("relative", (0.1, 0.5)), *resize], image_format="BGR")
    with np.errstate(all="ignore"), pytest.raises(UserError, match=r"900x3\.png: is 900x3 .* no pixel of it"):
        mapper(records[1])


def test_other_errors_of_augmentations_stay_what_they_are(records):
    class Failing(T.Augmentation):
        def get_transform(self, image):
            raise ValueError("of its own")

    with pytest.raises(ValueError, match="of its own"):
        LabelMapper(True, augmentations=[T.ResizeShortestEdge(96, 1333), Failing()], image_format="BGR")(records[1])


@pytest.mark.parametrize("build", [build_train_loader, lambda cfg: build_test_loader(cfg, NAME)])
def test_a_line_from_a_worker_is_one_line(cfg, records, build):
    """Without the worker's traceback, which torch puts before it."""
    cfg.DATALOADER.NUM_WORKERS, cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = 1, (96,), 140
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 96, 140
    for record in records:
        del record["height"], record["width"]  # so that nothing is known before the file is read
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    with pytest.raises(UserError) as told:
        list(itertools.islice(build(cfg), 4))
    assert str(told.value).startswith(records[1]["file_name"])
