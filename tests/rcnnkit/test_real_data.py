"""train_net.py on photographs with human annotations: polygons, crowds as RLE, keypoints, images without objects."""

import json
import re
from pathlib import Path

import pytest

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data.registration import register_custom_datasets
from tests.rcnnkit import runs

pytestmark = pytest.mark.realdata
SIDES = [("left_eye", "right_eye"), ("left_ear", "right_ear"), ("left_shoulder", "right_shoulder"),
         ("left_elbow", "right_elbow"), ("left_wrist", "right_wrist"), ("left_hip", "right_hip"),
         ("left_knee", "right_knee"), ("left_ankle", "right_ankle")]  # fmt: skip


@pytest.fixture
def nuts(real_data):
    yield {"nuts": (real_data / "nuts" / "trainval.json", real_data / "nuts" / "images")}
    runs.forget_data("nuts")


@pytest.fixture
def coco_mini(real_data):
    """Return the two splits of one of COCO's tasks, as data sets of one's own."""

    def splits(task: str) -> dict[str, tuple[Path, Path]]:
        folder = real_data / "coco_mini"
        return {
            f"mini_{split}": (folder / "annotations" / f"{task}_{split}2017.json", folder / f"{split}2017")
            for split in ("train", "val")
        }

    yield splits
    runs.forget_data("mini_train", "mini_val")


def register(data: dict[str, tuple[Path, Path]]) -> None:
    register_custom_datasets([{"name": n, "json": str(j), "images": str(i)} for n, (j, i) in data.items()])


def annotations(file: Path) -> list[dict]:
    return json.loads(file.read_text())["annotations"]


def results(output: Path, task: str = "instances") -> list[dict]:
    return json.loads((output / "inference" / f"coco_{task}_results.json").read_text())


def numbers_of(output: Path, prefix: str) -> dict[str, float]:
    """What the evaluation wrote into the last line of metrics.json."""
    last = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()][-1]
    return {key: value for key, value in last.items() if key.startswith(prefix)}


def mapped(name: str, image_id: int, **options: bool) -> tuple[dict, dict]:
    """A record of a data set and what the training mapper makes of it."""
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.MODEL.MASK_ON = options.get("mask", False)
    cfg.MODEL.KEYPOINT_ON = options.get("keypoint", False)
    cfg.DATASETS.TRAIN = (name,)
    cfg.INPUT.RANDOM_FLIP = "none"
    cfg.INPUT.MASK_FORMAT = "bitmask"  # holds polygons and RLE
    record = next(record for record in DatasetCatalog.get(name) if record["image_id"] == image_id)
    return record, DatasetMapper(cfg, True)(record)


def test_nuts_boxes_and_masks(nuts, tmp_path):
    arguments = runs.train_net(tmp_path, nuts, "MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "3")
    assert runs.run_here(arguments) == 0
    output = tmp_path / "output"
    assert runs.missing_files(output, "model_0000001.pth", "model_0000003.pth") == []
    assert (output / "last_checkpoint").read_text() == "model_final.pth"
    trained = runs.metrics(output)[-1]
    assert trained["iteration"] == 3 and trained["loss_mask"] > 0 and trained["loss_box_reg"] > 0
    assert {"bbox/AP", "bbox/AP50", "bbox/AP-date", "bbox/AP-fig", "bbox/AP-hazelnut"} <= set(
        numbers_of(output, "bbox/")
    )
    assert {"segm/AP", "segm/APm", "segm/APl"} <= set(numbers_of(output, "segm/"))
    found = results(output)
    assert found and {"image_id", "category_id", "bbox", "score", "segmentation"} <= set(found[0])
    categories = {annotation["category_id"] for annotation in annotations(nuts["nuts"][0])}
    assert {detection["category_id"] for detection in found} <= categories  # those of the file, not 0 … 2


@pytest.mark.slow
def test_coco_instances_with_crowds(coco_mini, tmp_path):
    data = coco_mini("instances")
    assert runs.run_here(runs.train_net(tmp_path, data, "MODEL.MASK_ON", "True", "INPUT.MASK_FORMAT", "bitmask")) == 0
    output = tmp_path / "output"
    assert runs.missing_files(output) == []
    assert "segm/AP-person" in numbers_of(output, "segm/") and "bbox/AP-toothbrush" in numbers_of(output, "bbox/")
    shown = {annotation["image_id"] for annotation in annotations(data["mini_val"][0])}
    assert {detection["image_id"] for detection in results(output)} <= shown


@pytest.mark.slow
def test_coco_keypoints(coco_mini, tmp_path):
    data = coco_mini("person_keypoints")
    more = ("MODEL.KEYPOINT_ON", "True", "MODEL.ROI_HEADS.NUM_CLASSES", "1", "SOLVER.IMS_PER_BATCH", "4")
    assert runs.run_here(runs.train_net(tmp_path, data, *more)) == 0
    output = tmp_path / "output"
    assert runs.missing_files(output) == []
    assert "loss_keypoint" in runs.metrics(output)[-1]
    assert {"keypoints/AP", "keypoints/APm", "keypoints/APl"} <= set(numbers_of(output, "keypoints/"))
    assert "bbox/AP" in numbers_of(output, "bbox/")
    found = results(output)
    assert found and all(len(detection["keypoints"]) == 51 for detection in found)
    log = (output / "log.txt").read_text()
    # images without persons, and persons without keypoints, stay: they are background, and boxes to learn
    assert re.search(r"\b80 images \(44 without objects\), 167 objects .*\b86 with keypoints\), 5 crowd", log)


class TestCrowds:
    def test_do_not_train(self, coco_mini):
        data = coco_mini("instances")
        register(data)
        crowds = [annotation for annotation in annotations(data["mini_train"][0]) if annotation["iscrowd"]]
        assert len(crowds) == 8
        for image_id in {crowd["image_id"] for crowd in crowds}:
            record, item = mapped("mini_train", image_id, mask=True)
            singles = [annotation for annotation in record["annotations"] if not annotation["iscrowd"]]
            assert len(singles) < len(record["annotations"])
            assert len(item["instances"]) <= len(singles)
            assert item["instances"].gt_masks.tensor.shape[0] == len(item["instances"])

    def test_an_image_that_shows_nothing_else_is_left_out(self, coco_mini, tmp_path):
        file, images = coco_mini("person_keypoints")["mini_train"]
        content = json.loads(file.read_text())
        crowded = next(a["image_id"] for a in content["annotations"] if a["iscrowd"])
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] != crowded or a["iscrowd"]]
        (tmp_path / "crowd.json").write_text(json.dumps(content))
        register({"mini_train": (tmp_path / "crowd.json", images)})
        useful = {a["image_id"] for a in content["annotations"]} - {crowded}
        kept = {record["image_id"] for record in get_detection_dataset_dicts("mini_train", filter_empty=True)}
        assert kept == useful and crowded not in kept and len(kept) == 35

    def test_stay_in_the_records_for_the_evaluation(self, coco_mini):
        register(coco_mini("instances"))
        flagged = [a for record in DatasetCatalog.get("mini_val") for a in record["annotations"] if a["iscrowd"]]
        assert len(flagged) == 5 and all(isinstance(a["segmentation"], dict) for a in flagged)


class TestImagesWithoutAPerson:
    def test_are_kept_where_nothing_is_filtered(self, coco_mini):
        register(coco_mini("person_keypoints"))
        records = get_detection_dataset_dicts("mini_val", filter_empty=False)
        assert len(records) == 79 and sum(not record["annotations"] for record in records) == 40

    def test_few_keypoints_are_filtered_as_the_config_says(self, coco_mini):
        data = coco_mini("person_keypoints")
        register(data)
        labelled: dict[int, int] = {}
        for a in annotations(data["mini_train"][0]):
            seen = sum(visibility > 0 for visibility in a["keypoints"][2::3])
            labelled[a["image_id"]] = labelled.get(a["image_id"], 0) + seen
        singles = {a["image_id"] for a in annotations(data["mini_train"][0]) if not a["iscrowd"]}
        for least in (1, 10):
            records = get_detection_dataset_dicts("mini_train", filter_empty=True, min_keypoints=least)
            wanted = {image_id for image_id, count in labelled.items() if count >= least and image_id in singles}
            assert {record["image_id"] for record in records} == wanted


class TestKeypointMetadata:
    def test_comes_from_the_json(self, coco_mini):
        data = coco_mini("person_keypoints")
        register(data)
        category = json.loads(data["mini_train"][0].read_text())["categories"][0]
        metadata = MetadataCatalog.get("mini_train")
        assert list(metadata.keypoint_names) == category["keypoints"]
        assert list(metadata.keypoint_flip_map) == SIDES
        limbs = [[a, b] for a, b, _ in metadata.keypoint_connection_rules]
        assert limbs == [[category["keypoints"][i - 1] for i in limb] for limb in category["skeleton"]]
        assert metadata.thing_classes == ["person"]

    def test_keypoints_reach_the_model_in_the_order_of_the_names(self, coco_mini):
        data = coco_mini("person_keypoints")
        register(data)
        person = next(
            a for a in annotations(data["mini_train"][0]) if a["num_keypoints"] >= 10 and not a["iscrowd"]
        )  # fmt: skip
        record, item = mapped("mini_train", person["image_id"], keypoint=True)
        points = item["instances"].gt_keypoints.tensor
        assert points.shape[1:] == (17, 3)
        scale = item["image"].shape[2] / record["width"]
        nose = [(person["keypoints"][0] + 0.5) * scale, person["keypoints"][2]]
        assert any(abs(p[0, 0] - nose[0]) < 1e-2 and p[0, 2] == nose[1] for p in points)
