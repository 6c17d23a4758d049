"""YOLO: what its lines can hold comes back, and what they cannot is told."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.checks import check
from rcnnkit.data.formats.coco import CocoReader
from rcnnkit.data.formats.yolo import YoloReader
from rcnnkit.data.labelled import LabelledData, ProblemLog, Skeleton
from rcnnkit.data.parts import read_parts
from rcnnkit.data.tree import Tree
from rcnnkit.data.writers.coco import write_coco
from rcnnkit.data.writers.pictures import picture_names
from rcnnkit.data.writers.yolo import write_yolo
from rcnnkit.errors import UserError

WIDTH, HEIGHT = 64, 48
EXACT = 1e-5  # pixels; nine digits of a fraction


def one_image(folder, *annotations, skeletons=None, name="a.png"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (WIDTH, HEIGHT)).save(path)
    objects = [
        {"category_id": 0, "bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0, **annotation} for annotation in annotations
    ]
    record = {"file_name": str(path), "height": HEIGHT, "width": WIDTH, "image_id": 1, "annotations": objects}
    return LabelledData("test", ["cat", "dog"], [record], [], skeletons or {})


def round_trip(data, folder, **options):
    """What is read back, the kinds of problems, and what the writer says."""
    problems = ProblemLog()
    written = write_yolo({None: data}, folder / "yolo", problems, **options)
    read = ProblemLog()
    back = YoloReader().read(Tree(folder / "yolo"), None, read)
    assert not read.problems
    return back, [problem.kind for problem in problems], written


def objects_of(back):
    return back.records[0]["annotations"]


def xyxy(annotation):
    return BoxMode.convert(list(map(float, annotation["bbox"])), annotation["bbox_mode"], BoxMode.XYXY_ABS)


def raster(segmentation):
    if isinstance(segmentation, list):
        segmentation = mask_util.merge(mask_util.frPyObjects(segmentation, HEIGHT, WIDTH))
    return mask_util.decode(segmentation).astype(bool)


X, Y = st.floats(0, WIDTH, allow_subnormal=False), st.floats(0, HEIGHT, allow_subnormal=False)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(X, Y, X, Y), min_size=1, max_size=5))
def test_boxes_come_back(tmp_path_factory, corners):
    boxes = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in corners]
    folder = tmp_path_factory.mktemp("boxes")
    back, kinds, written = round_trip(one_image(folder, *({"bbox": box} for box in boxes)), folder)
    assert (kinds, written.task, written.objects) == ([], "detect", len(boxes))
    found = [xyxy(annotation) for annotation in objects_of(back)]
    np.testing.assert_allclose(found, boxes, rtol=0, atol=EXACT)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(X, Y), min_size=3, max_size=9))
def test_polygons_come_back(tmp_path_factory, points):
    polygon = [value for point in points for value in point]
    box = [min(polygon[0::2]), min(polygon[1::2]), max(polygon[0::2]), max(polygon[1::2])]
    folder = tmp_path_factory.mktemp("polygons")
    back, kinds, written = round_trip(one_image(folder, {"bbox": box, "segmentation": [polygon]}), folder)
    assert (kinds, written.task) == ([], "segment")
    np.testing.assert_allclose(objects_of(back)[0]["segmentation"], [polygon], rtol=0, atol=EXACT)
    np.testing.assert_allclose(xyxy(objects_of(back)[0]), box, rtol=0, atol=EXACT)


POINT = st.one_of(st.just((0.0, 0.0, 0)), st.tuples(X.filter(bool), Y.filter(bool), st.sampled_from([1, 2])))


@settings(max_examples=15, deadline=None)
@given(st.lists(POINT, min_size=3, max_size=3))
def test_keypoints_come_back(tmp_path_factory, points):
    folder = tmp_path_factory.mktemp("points")
    skeletons = dict.fromkeys((0, 1), Skeleton(("nose", "left_ear", "right_ear")))
    flat = [value for point in points for value in point]
    data = one_image(folder, {"bbox": [1, 2, 30, 40], "keypoints": flat}, skeletons=skeletons)
    back, kinds, written = round_trip(data, folder, task="pose")
    assert kinds == [] and written.task == "pose"
    np.testing.assert_allclose(objects_of(back)[0]["keypoints"], flat, rtol=0, atol=EXACT)
    assert back.skeletons[0] == Skeleton(("nose", "left_ear", "right_ear"), flip_pairs=((1, 2),))


def test_parts_and_holes_fill_to_the_same_mask(tmp_path):
    parts = [[2, 2, 12, 2, 12, 12, 2, 12], [20, 5, 40, 5, 40, 30, 20, 30]]
    ring = np.zeros((HEIGHT, WIDTH), np.uint8)
    ring[5:25, 10:35] = 1
    ring[10:15, 15:25] = 0
    runs = mask_util.encode(np.asfortranarray(ring))
    runs = {"size": list(runs["size"]), "counts": runs["counts"].decode()}
    data = one_image(
        tmp_path, {"bbox": [2, 2, 40, 30], "segmentation": parts}, {"bbox": [10, 5, 35, 25], "segmentation": runs}
    )
    back, kinds, _ = round_trip(data, tmp_path)
    assert kinds == ["parts-joined", "runs-outlined"]
    for annotation, original in zip(objects_of(back), (parts, runs), strict=True):
        assert (raster(annotation["segmentation"]) == raster(original)).all()


SQUARE = [10, 10, 20, 10, 20, 20, 10, 20]
POINTS = [12, 12, 2]
BOX = [10, 10, 20, 20]
BEYOND = [[10, 10, 70, 10, 70, 20]]


@pytest.mark.parametrize(
    ("annotation", "task", "kinds", "count"),
    [
        ({"bbox": [1, 1, 5, 5], "iscrowd": 1}, "detect", ["crowd-left-out"], 0),
        ({"bbox": [1, 1, 5, 5], "ignore": 1}, "detect", ["ignored-left-out"], 0),
        ({"bbox": [1, float("nan"), 5, 5]}, "detect", ["not-finite"], 0),
        ({"bbox": [5, 5, 1, 1]}, "detect", ["box-negative"], 0),
        ({"bbox": [70, 5, 80, 9]}, "detect", ["box-outside"], 0),
        ({"bbox": [-5, 5, 80, 9]}, "detect", ["cut-at-border"], 1),
        ({"bbox": [9, 5, 9, 9]}, "detect", [], 1),  # a box without width is one that the format can hold
        ({"bbox": BOX, "segmentation": [SQUARE]}, "detect", ["mask-left-out"], 1),
        ({"bbox": BOX, "keypoints": POINTS}, "detect", ["keypoints-left-out"], 1),
        ({"bbox": BOX}, "segment", ["box-among-polygons"], 1),
        ({"bbox": [10, 10, 30, 20], "segmentation": [SQUARE]}, "segment", ["box-left-out"], 1),
        ({"bbox": [10, 10, 70, 20], "segmentation": BEYOND}, "segment", ["cut-at-border", "box-left-out"], 1),
        ({"bbox": BOX, "segmentation": [SQUARE], "keypoints": POINTS}, "segment", ["keypoints-left-out"], 1),
        ({"bbox": BOX, "segmentation": [SQUARE], "keypoints": POINTS}, "pose", ["mask-left-out"], 1),
        ({"bbox": BOX, "keypoints": [99, 12, 2]}, "pose", ["keypoint-outside"], 1),
        ({"bbox": BOX, "keypoints": [1, 1, 2, 3, 3, 2]}, "pose", ["keypoints-count"], 1),
    ],
)  # fmt: skip
def test_what_a_line_cannot_hold_is_told(tmp_path, annotation, task, kinds, count):
    skeletons = {0: Skeleton(("nose",)), 1: Skeleton(("nose",))}
    data = one_image(tmp_path, annotation, skeletons=skeletons)
    back, found, written = round_trip(data, tmp_path, task=task)
    assert (found, written.objects, len(objects_of(back))) == (kinds, count, count)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    data = one_image(tmp_path / "in", {"bbox": [1, 2, 3, 4]})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        write_yolo({None: data}, tmp_path / "out", ProblemLog())
    data.records[0]["file_name"] = str(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"gone\.png"):
        write_yolo({None: data}, tmp_path / "other", ProblemLog())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_links_and_parts(tmp_path):
    data = one_image(tmp_path / "in", {"bbox": [1, 2, 3, 4]})
    dogs = one_image(tmp_path / "in", {"bbox": [1, 2, 3, 4]}, name="b.png")
    dogs.classes = ["dog", "cow"]
    write_yolo({"train2017": data, "valid": dogs}, tmp_path / "out", ProblemLog(), images="link")
    assert (tmp_path / "out/images/train/a.png").samefile(tmp_path / "in/a.png")
    assert (tmp_path / "out/labels/val/b.txt").read_text().startswith("1 "), "classes are united by name"
    assert YoloReader().splits(Tree(tmp_path / "out")) == ["train", "val"]


def test_names_of_images_never_clash():
    files = ["/d/a/1.jpg", "/d/b/1.png", "/d/b/2.jpg", "/d/c/1.JPG", "/d/a__1.jpg"]
    names = picture_names(files)
    assert names["/d/b/2.jpg"] == "2.jpg"
    assert names["/d/a/1.jpg"] in ("a__1.jpg", "a__1_2.jpg")
    assert len({name.rsplit(".", 1)[0].lower() for name in names.values()}) == len(files)


@pytest.mark.realdata
@pytest.mark.parametrize(("name", "task"), [("nuts", "segment"), ("pothole", "segment"), ("openfield", "pose")])
def test_real_data_through_yolo_and_back(real_data, tmp_path, name, task):
    source = read_parts(str(real_data / name))
    problems = ProblemLog()
    assert write_yolo(source.distinct(), tmp_path / "yolo", problems, images="link").task == task
    assert {problem.kind for problem in problems} <= {"box-left-out"}
    back = read_parts(str(tmp_path / "yolo"))
    assert not len(back.problems)
    # And into COCO again: the same numbers as in the beginning.
    names = {"train": "train", "val": "val", "valid": "val", "test": "test", None: "train"}
    for split, data in source.distinct().items():
        again = back.parts.get(names[split], back.parts.get(None))
        write_coco(again, tmp_path / "again.json", tmp_path / "yolo")
        final = CocoReader().read(Tree(tmp_path / "again.json", tmp_path / "yolo"), None, ProblemLog())
        by_name = {record["file_name"].rsplit("/")[-1]: record for record in final.records}
        for record in data.records:
            other = by_name[record["file_name"].rsplit("/")[-1]]
            for a, b in zip(record["annotations"], other["annotations"], strict=True):
                for field in ("segmentation", "keypoints"):
                    if field in a:
                        np.testing.assert_allclose(np.ravel(a[field]), np.ravel(b[field]), rtol=0, atol=EXACT)


@pytest.mark.realdata
def test_via_to_coco_has_nothing_for_the_check(real_data, tmp_path):
    source = read_parts(str(real_data / "balloon"))
    before = {str(problem.kind) for problem in check(str(real_data / "balloon")).problems}
    for split, data in source.parts.items():
        write_coco(data, tmp_path / f"{split}.json", real_data / "balloon")
    back = read_parts(str(tmp_path), images=str(real_data / "balloon"))
    for split, data in source.parts.items():
        again = {record["file_name"]: record["annotations"] for record in back.parts[split].records}
        for record in data.records:
            assert [a["segmentation"] for a in record["annotations"]] == [
                a["segmentation"] for a in again[record["file_name"]]
            ]
    after = {problem.kind for problem in check(str(tmp_path), images=str(real_data / "balloon")).problems}
    assert after <= before
