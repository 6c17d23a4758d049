"""The embedded data set: same bytes from the same seed, whole or not at all, and annotations that fit the pictures."""

import json
import multiprocessing
import shutil
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.data import shapes
from rcnnkit.data.checks import check
from rcnnkit.data.shapes_scene import CLASSES, KEYPOINT_NAMES, SCALE, SceneObject, draw_scene
from rcnnkit.errors import UserError

FEW = {"train": 6, "val": 3}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets") / "shapes"
    assert shapes.ensure_shapes(root, splits=FEW)
    return root


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_and_other_seed_other_pictures(few, tmp_path):
    shapes.ensure_shapes(tmp_path / "again", splits=FEW)
    assert _files(tmp_path / "again") == _files(few)
    shapes.ensure_shapes(tmp_path / "other", seed=1, splits=FEW)
    assert _files(tmp_path / "other")["train/000000.png"] != _files(few)["train/000000.png"]
    assert len(_files(few)) == 6 + 3 + 2


def test_a_picture_does_not_depend_on_how_many_there_are(few, tmp_path):
    shapes.ensure_shapes(tmp_path / "shapes", splits={"train": 2, "val": 1})
    assert (tmp_path / "shapes/train/000001.png").read_bytes() == (few / "train/000001.png").read_bytes()


def test_second_use_draws_nothing(few):
    before = _files(few)
    assert not shapes.ensure_shapes(few)
    assert _files(few) == before


def test_nothing_is_wrong_with_it(few):
    assert check(str(few)).problems == []


def test_annotations_are_coco_and_fit_the_pictures(few):
    content = json.loads((few / "annotations/shapes_train.json").read_text())
    assert [category["name"] for category in content["categories"]] == list(CLASSES)
    assert [category["id"] for category in content["categories"] if "keypoints" in category] == [
        CLASSES.index("arrow") + 1
    ]
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"]) > 0
    for image in content["images"]:
        picture = cv2.imread(str(few / "train" / image["file_name"]))
        assert picture.shape == (image["height"], image["width"], 3)
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert 0 <= x < x + width <= 128 and 0 <= y < y + height <= 128
        points = np.concatenate([np.reshape(polygon, (-1, 2)) for polygon in annotation["segmentation"]])
        assert np.allclose([*points.min(axis=0), *points.max(axis=0)], (x, y, x + width, y + height))
        assert len(annotation["keypoints"]) == 3 * len(KEYPOINT_NAMES)
        assert annotation["num_keypoints"] == sum(value > 0 for value in annotation["keypoints"][2::3])
        assert (annotation["num_keypoints"] > 0) <= (annotation["category_id"] == CLASSES.index("arrow") + 1)


@pytest.mark.parametrize("index", range(12))
def test_polygons_cover_the_part_that_is_seen(index):
    _, objects = draw_scene(np.random.default_rng([7, index]))
    for thing, annotation in zip(objects, shapes.annotate(objects, 1, 1), strict=True):
        seen = cv2.resize(thing.seen.astype(np.float32), (128, 128), interpolation=cv2.INTER_AREA)
        raster = mask_util.decode(mask_util.merge(mask_util.frPyObjects(annotation["segmentation"], 128, 128)))
        # Pixels that are clearly inside or outside agree, up to thin necks and specks; border pixels may go either way.
        clear = (seen < 0.02) | (seen > 0.98)
        assert (raster[clear] != (seen[clear] > 0.5)).sum() <= max(3, 0.02 * seen.sum())
        assert annotation["area"] == pytest.approx(seen.sum(), rel=1e-4)


def test_no_pixel_belongs_to_two_objects():
    for index in range(8):
        _, objects = draw_scene(np.random.default_rng([9, index]))
        if objects:
            assert np.sum([thing.seen for thing in objects], axis=0).max() == 1


def test_scenes_hold_what_the_documentation_promises():
    counts, radii, visibilities, classes = [], [], set(), set()
    for index in range(80):
        _, objects = draw_scene(np.random.default_rng([11, index]))
        counts.append(len(objects))
        for thing in objects:
            classes.add(thing.category)
            radii.append(np.sqrt(thing.seen.sum()) / SCALE)
            if thing.keypoints is not None:
                visibilities |= set(thing.keypoints[:, 2].tolist())
    assert min(counts) == 0 and max(counts) >= 5, "pictures without objects and crowded ones"
    assert min(radii) < 10 and max(radii) > 40, "tiny and large objects"
    assert visibilities == {0, 1, 2} and len(classes) == len(CLASSES)


def test_an_object_that_is_not_seen_has_no_annotation():
    hidden = SceneObject(0, np.zeros((64, 64), bool), None)
    block = np.zeros((64, 64), bool)
    block[8:24, 16:48] = True
    (annotation,) = shapes.annotate([hidden, SceneObject(2, block, None)], image_id=5, first_id=10)
    # 4 subpixels a pixel; outlines go through the middles of the outer ones: (16.5, 8.5) to (47.5, 23.5) of them
    assert annotation["bbox"] == [4.12, 2.12, 7.76, 3.76] and annotation["area"] == 32
    assert (annotation["id"], annotation["image_id"], annotation["category_id"]) == (10, 5, 3)


def test_interrupted_drawing_leaves_nothing(tmp_path, monkeypatch):
    drawn = []

    def stop(rng):
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(rng)
        return draw_scene(rng)

    monkeypatch.setattr(shapes, "draw_scene", stop)
    with pytest.raises(KeyboardInterrupt):
        shapes.ensure_shapes(tmp_path / "shapes", splits=FEW)
    assert list(tmp_path.iterdir()) == []


def _ensure(root, barrier, results):
    barrier.wait()
    results.put(shapes.ensure_shapes(root, splits=FEW))


def test_two_processes_that_start_together_make_one_whole_folder(few, tmp_path):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_ensure, args=(tmp_path / "shapes", barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    made = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert sorted(made) == [False, True]
    assert _files(tmp_path / "shapes") == _files(few)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_loser_of_the_race_uses_what_is_there(few, tmp_path, monkeypatch):
    root = tmp_path / "shapes"
    original = shapes._write_split

    def other_is_faster(draft, split, count, seed):
        original(draft, split, count, seed)
        if not root.exists():
            shutil.copytree(few, root)

    monkeypatch.setattr(shapes, "_write_split", other_is_faster)
    assert not shapes.ensure_shapes(root, splits=FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.parametrize("spoil", ["version", "not_json", "missing"])
def test_a_folder_that_holds_something_else_is_refused(few, tmp_path, spoil):
    root = tmp_path / "shapes"
    shutil.copytree(few, root)
    path = root / "annotations/shapes_val.json"
    if spoil == "version":
        content = json.loads(path.read_text())
        content["info"]["version"] = "0"
        path.write_text(json.dumps(content))
    elif spoil == "not_json":
        path.write_text("{")
    else:
        path.unlink()
    with pytest.raises(UserError, match=r"shapes_val\.json.*delete .*shapes"):
        shapes.ensure_shapes(root)


def test_registered_names_load_lazily(few, tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "SPLITS", FEW)
    root = tmp_path / "shapes"
    shapes.register_shapes(root, names="shapes_test")
    try:
        assert not root.exists()
        records = DatasetCatalog.get("shapes_test_val")
        assert len(records) == 3 and Path(records[0]["file_name"]).is_file()
        assert {"bbox", "segmentation", "keypoints", "category_id"} <= set(records[0]["annotations"][0])
        metadata = MetadataCatalog.get("shapes_test_val")
        assert metadata.thing_classes == list(CLASSES) and metadata.evaluator_type == "coco"
    finally:
        for split in FEW:
            DatasetCatalog.remove(f"shapes_test_{split}")
            MetadataCatalog.remove(f"shapes_test_{split}")


def test_environment_says_where_data_live(monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/somewhere")
    assert shapes.shapes_root() == Path("/somewhere/shapes")
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert shapes.shapes_root() == Path("datasets/shapes")
