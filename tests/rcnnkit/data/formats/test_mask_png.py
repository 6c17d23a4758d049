"""Masks as images: the three layouts, the values of label images, damage; the nuclei's 1391 masks."""

import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from detectron2.structures import BoxMode
from rcnnkit.data.formats import choose_reader
from rcnnkit.data.formats.label_image import label_regions, object_mask
from rcnnkit.data.formats.mask_png import MaskPngReader
from rcnnkit.data.labelled import ProblemLog
from rcnnkit.data.tree import Tree
from rcnnkit.errors import UserError

LABELS = np.array([[0, 1, 1, 0], [2, 2, 0, 0], [0, 2, 0, 7]])  # 3 rows × 4 columns
BOXES = {1: [1, 0, 2, 1], 2: [0, 1, 2, 2], 7: [3, 2, 1, 1]}


def save(path, array, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array), mode).save(path)
    return path


def save_picture(path, size=(4, 3), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)
    return path


def save_indexed(path, array):
    image = Image.fromarray(np.asarray(array, np.uint8), "P")
    image.putpalette([7 * i % 256 for i in range(768)])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def read(root, split=None):
    problems = ProblemLog()
    return MaskPngReader().read(Tree(root), split, problems), list(problems)


def masks_of(record):
    return [mask_util.decode(annotation["segmentation"]) for annotation in record["annotations"]]


class TestObjectMask:
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32])
    def test_any_depth(self, tmp_path, dtype):
        inside = LABELS == 2
        top = 1 if dtype is bool else np.iinfo(dtype).max
        path = save(tmp_path / ("a.tif" if dtype is np.int32 else "a.png"), (inside * top).astype(dtype))
        assert np.array_equal(mask_util.decode(object_mask(path)), inside)

    def test_soft_edges_and_ones(self, tmp_path):
        assert mask_util.decode(object_mask(save(tmp_path / "a.png", np.uint8([[0, 90, 127, 128, 255]])))).tolist() == [
            [0, 0, 0, 1, 1]
        ]
        assert mask_util.decode(object_mask(save(tmp_path / "b.png", np.uint8([[0, 1]])))).tolist() == [[0, 1]]

    def test_colour_and_alpha(self, tmp_path):
        rgba = np.zeros((1, 3, 4), np.uint8)
        rgba[:, :, 3] = 255
        rgba[0, 1] = [0, 200, 0, 0]
        assert mask_util.decode(object_mask(save(tmp_path / "a.png", rgba))).tolist() == [[0, 1, 0]]

    def test_indexed(self, tmp_path):
        path = save_indexed(tmp_path / "a.png", [[0, 1, 5]])
        assert mask_util.decode(object_mask(path)).tolist() == [[0, 1, 1]]

    def test_empty(self, tmp_path):
        assert object_mask(save(tmp_path / "a.png", np.zeros((2, 2), np.uint8))) is None


class TestLabelRegions:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
    def test_values_and_pixels(self, tmp_path, dtype):
        path = save(tmp_path / ("a.tif" if dtype is np.int32 else "a.png"), LABELS.astype(dtype))
        size, regions = label_regions(path)
        assert size == (3, 4)
        assert [region.value for region in regions] == [1, 2, 7]
        for region in regions:
            assert np.array_equal(mask_util.decode(region.runs), region.value == LABELS)
            # exactly what pycocotools makes of the mask: other tools compare the text
            encoded = mask_util.encode(np.asfortranarray(region.value == LABELS, np.uint8))
            assert region.runs["counts"] == encoded["counts"].decode()

    def test_random_labels(self, tmp_path):
        rng = np.random.default_rng(0)
        labels = np.kron(rng.integers(0, 9, (13, 11)), np.ones((3, 5))).astype(np.uint16) * 300
        _, regions = label_regions(save(tmp_path / "a.png", labels))
        assert [region.value for region in regions] == [300 * i for i in range(1, 9)]
        for region in regions:
            assert np.array_equal(mask_util.decode(region.runs), labels == region.value)

    def test_border_of_indexed_files_only(self, tmp_path):
        labels = [[0, 1, 255]]
        assert [r.value for r in label_regions(save_indexed(tmp_path / "a.png", labels))[1]] == [1]
        assert [r.value for r in label_regions(save(tmp_path / "b.png", np.uint8(labels)))[1]] == [1, 255]

    def test_colours(self, tmp_path):
        path = save(tmp_path / "a.png", np.uint8([[[0, 0, 0], [1, 0, 0], [0, 1, 2]]]))
        assert [region.value for region in label_regions(path)[1]] == [258, 65536]

    def test_nothing(self, tmp_path):
        assert label_regions(save(tmp_path / "a.png", np.zeros((2, 2), np.uint8)))[1] == []


class TestLayouts:
    def test_folder_for_each_picture(self, tmp_path):
        for name, values in (("p", (1, 2)), ("q", (7,))):
            save_picture(tmp_path / name / "images" / f"{name}.png")
            for value in values:
                save(tmp_path / name / "masks" / f"{value}.png", np.uint8((value == LABELS) * 255))
        save_picture(tmp_path / "none" / "images" / "none.png")
        (tmp_path / "none" / "masks").mkdir()
        chosen = choose_reader(Tree(tmp_path))
        assert chosen.reader.name == "masks"
        assert "2 images have a folder of masks, such as p/masks/1.png" in chosen.reason
        data, problems = read(tmp_path)
        assert problems == []
        assert data.classes == ["object"]
        assert {record["image_id"]: len(record["annotations"]) for record in data.records} == {
            "none": 0,
            "p": 2,
            "q": 1,
        }
        record = data.records[1]
        assert (record["file_name"], record["height"], record["width"]) == (str(tmp_path / "p/images/p.png"), 3, 4)
        assert [annotation["bbox"] for annotation in record["annotations"]] == [BOXES[1], BOXES[2]]
        assert all(annotation["bbox_mode"] == BoxMode.XYWH_ABS for annotation in record["annotations"])
        assert [annotation["id"] for annotation in record["annotations"]] == ["p/masks/1.png", "p/masks/2.png"]
        assert np.array_equal(masks_of(record)[1], LABELS == 2)

    def test_sorted_masks(self, tmp_path):
        save_picture(tmp_path / "images" / "a.jpg")
        save_picture(tmp_path / "images" / "b.jpg")
        for stem, value in (("a", 1), ("a", 7), ("b", 2)):
            save(tmp_path / "masks" / stem / f"{value}.png", np.uint8(value == LABELS))
        data, problems = read(tmp_path)
        assert problems == []
        assert [[a["bbox"] for a in record["annotations"]] for record in data.records] == [
            [BOXES[1], BOXES[7]],
            [BOXES[2]],
        ]

    @pytest.mark.parametrize("name", ["a.png", "a_mask.png", "a_labels.tif", "a_instanceIds.png"])
    def test_label_image(self, tmp_path, name):
        save_picture(tmp_path / "images" / "a.jpg")
        save(tmp_path / "masks" / name, LABELS.astype(np.uint16))
        assert "1 images have a label image" in MaskPngReader().recognise(Tree(tmp_path))
        data, problems = read(tmp_path)
        assert problems == []
        assert [a["bbox"] for a in data.records[0]["annotations"]] == list(BOXES.values())
        assert [a["id"] for a in data.records[0]["annotations"]] == [1, 2, 7]

    def test_splits_are_folders(self, tmp_path):
        for split, value in (("train", 1), ("val", 2)):
            save_picture(tmp_path / "images" / split / "a.jpg")
            save(tmp_path / "masks" / split / "a.png", np.uint8(value == LABELS))
        save_picture(tmp_path / "stage1_test" / "x" / "images" / "x.png")
        assert MaskPngReader().splits(Tree(tmp_path)) == ["stage1_test", "train", "val"]
        data, _ = read(tmp_path, "val")
        assert [[a["bbox"] for a in record["annotations"]] for record in data.records] == [[BOXES[2]]]
        data, _ = read(tmp_path)
        assert [record["image_id"] for record in data.records] == ["images/train/a.jpg", "images/val/a.jpg"]

    def test_neither_is_recognised(self, tmp_path):
        save_picture(tmp_path / "images" / "a.jpg")
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("0 .5 .5 .1 .1")
        assert MaskPngReader().recognise(Tree(tmp_path)) is None
        with pytest.raises(UserError, match="no folder of images"):
            read(tmp_path / "labels")


class TestClasses:
    def test_voc(self, tmp_path):
        save_picture(tmp_path / "JPEGImages" / "a.jpg")
        save_picture(tmp_path / "JPEGImages" / "b.jpg")
        save_indexed(tmp_path / "SegmentationObject" / "a.png", np.where(LABELS == 7, 255, LABELS))
        save_indexed(tmp_path / "SegmentationClass" / "a.png", np.where(LABELS == 2, 15, np.where(LABELS, 1, 0)))
        lists = tmp_path / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("a\n")
        assert MaskPngReader().splits(Tree(tmp_path)) == ["train"]
        data, problems = read(tmp_path, "train")
        assert problems == []
        assert [data.classes[a["category_id"]] for a in data.records[0]["annotations"]] == ["aeroplane", "person"]

    @pytest.mark.parametrize("text", ["cat\ndog\n", "background\ncat\ndog", "1 cat\n2 dog", "# ids\n2: dog\n1: cat"])
    def test_class_times_1000_plus_object(self, tmp_path, text):
        (tmp_path / "classes.txt").write_text(text)
        save_picture(tmp_path / "images" / "a.jpg")
        values = np.select([LABELS == 1, LABELS == 2, LABELS == 7], [1000, 2003, 2], 9)
        save(tmp_path / "masks" / "a.png", values.astype(np.uint16))
        data, problems = read(tmp_path)
        assert problems == []
        found = [(data.classes[a["category_id"]], a["iscrowd"], a["bbox"]) for a in data.records[0]["annotations"]]
        assert found == [("dog", 1, BOXES[7]), ("cat", 0, BOXES[1]), ("dog", 0, BOXES[2])]

    def test_class_that_is_not_listed(self, tmp_path):
        (tmp_path / "classes.txt").write_text("cat\ndog\n")
        save_picture(tmp_path / "images" / "a.jpg")
        save(tmp_path / "masks" / "a.png", (LABELS * 1000).astype(np.uint16))
        data, problems = read(tmp_path)
        assert len(data.records[0]["annotations"]) == 2
        assert [(p.kind, p.file, p.value) for p in problems] == [("class-unknown", "masks/a.png", "7000")]

    def test_one_class_by_name(self, tmp_path):
        (tmp_path / "classes.txt").write_text("nucleus\n")
        save_picture(tmp_path / "images" / "a.jpg")
        save(tmp_path / "masks" / "a.png", (LABELS * 1000).astype(np.uint16))
        data, _ = read(tmp_path)
        assert data.classes == ["nucleus"]
        assert data.num_annotations() == 3

    def test_cityscapes(self, tmp_path):
        (tmp_path / "labels.txt").write_text("24 person\n26 car\n")
        save_picture(tmp_path / "leftImg8bit" / "val" / "ulm" / "ulm_1_leftImg8bit.png")
        folder = tmp_path / "gtFine" / "val" / "ulm"
        save(
            folder / "ulm_1_gtFine_instanceIds.png",
            np.select([LABELS == 1, LABELS == 2], [26001, 24], 7).astype(np.uint16),
        )
        save(folder / "ulm_1_gtFine_labelIds.png", np.uint8(LABELS))
        save(folder / "ulm_1_gtFine_color.png", np.zeros((3, 4, 4), np.uint8))
        assert MaskPngReader().splits(Tree(tmp_path)) == ["val"]
        data, problems = read(tmp_path, "val")
        assert problems == []
        found = [(data.classes[a["category_id"]], a["iscrowd"]) for a in data.records[0]["annotations"]]
        assert found == [("person", 1), ("car", 0)]


class TestDamage:
    @pytest.fixture
    def root(self, tmp_path):
        save_picture(tmp_path / "p" / "images" / "p.png")
        for value in (1, 2):
            save(tmp_path / "p" / "masks" / f"{value}.png", np.uint8(value == LABELS))
        return tmp_path

    def kinds(self, root):
        data, problems = read(root)
        return [(problem.kind, problem.file) for problem in problems], data.num_annotations()

    def test_empty_mask(self, root):
        save(root / "p" / "masks" / "3.png", np.zeros((3, 4), np.uint8))
        assert self.kinds(root) == ([("mask-empty", "p/masks/3.png")], 2)

    def test_mask_of_another_size(self, root):
        save(root / "p" / "masks" / "3.png", np.ones((4, 3), np.uint8))
        assert self.kinds(root) == ([("mask-size", "p/masks/3.png")], 2)

    def test_truncated_mask(self, root):
        path = save(root / "p" / "masks" / "3.png", np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
        path.write_bytes(path.read_bytes()[:2000])
        assert self.kinds(root) == ([("mask-unreadable", "p/masks/3.png")], 2)

    def test_picture_that_is_none(self, root):
        (root / "p" / "images" / "p.png").write_text("no")
        assert self.kinds(root) == ([("image-unreadable", "p/images/p.png")], 0)

    def test_masks_without_picture(self, root):
        save(root / "q" / "masks" / "1.png", np.uint8(LABELS == 1))
        assert self.kinds(root) == ([("image-missing", "q/masks/1.png")], 2)

    def test_picture_without_masks_is_left_out(self, root):
        save_picture(root / "q" / "images" / "q.png")
        data, problems = read(root)
        assert [(problem.kind, problem.severity) for problem in problems] == [("mask-missing", "warning")]
        assert [record["image_id"] for record in data.records] == ["p"]

    def test_masks_are_upright(self, root):
        exif = Image.Exif()
        exif[274] = 6
        save_picture(root / "p" / "images" / "p.png", (3, 4), exif=exif)
        assert self.kinds(root) == ([], 2)

    def test_link_out_of_the_folder(self, root, tmp_path_factory):
        outside = save(tmp_path_factory.mktemp("outside") / "3.png", np.uint8(LABELS == 1))
        (root / "p" / "masks" / "3.png").symlink_to(outside)
        assert self.kinds(root) == ([("image-outside", "p/masks/3.png")], 2)


@pytest.mark.realdata
def test_nuclei(real_data):
    chosen = choose_reader(Tree(real_data / "nuclei"))
    assert chosen.reader.name == "masks"
    problems = ProblemLog()
    data = chosen.reader.read(Tree(real_data / "nuclei"), None, problems)
    assert (len(data.records), data.num_annotations(), len(problems)) == (29, 1391, 0)
    record = data.records[0]
    for annotation in record["annotations"]:
        with Image.open(real_data / "nuclei" / annotation["id"]) as image:
            pixels = np.asarray(image) > 0
        assert np.array_equal(mask_util.decode(annotation["segmentation"]), pixels)
        lines, columns = np.nonzero(pixels)
        box = [columns.min(), lines.min(), np.ptp(columns) + 1, np.ptp(lines) + 1]
        assert annotation["bbox"] == box
