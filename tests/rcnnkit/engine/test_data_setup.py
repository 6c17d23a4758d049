"""What of a config follows from the data, what the user's values win over, and which contradictions are refused."""

import json

import pytest

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data.registration import forget
from rcnnkit.engine.checkpointing import StoredNames, check_same_classes
from rcnnkit.engine.data_setup import register_data, set_data_keys
from rcnnkit.engine.setup import argument_parser, explicit_keys
from rcnnkit.errors import UserError
from tests.rcnnkit import tiny


@pytest.fixture
def path(tmp_path):
    tiny.write_data_set(tmp_path)
    yield str(tmp_path)
    for name in [name for name in DatasetCatalog.list() if name.startswith(str(tmp_path))]:
        forget(name)


@pytest.fixture
def cfg(path):
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (f"{path}@train",), (f"{path}@val",)
    return cfg


def change(path, **fields):
    with open(f"{path}/tiny.json") as file:
        content = json.load(file)
    content["annotations"][0].update(fields.pop("annotation", {}))
    content["categories"][0].update(fields)
    with open(f"{path}/tiny.json", "w") as file:
        json.dump(content, file)


def settle(cfg, *explicit):
    register_data(cfg)
    set_data_keys(cfg, explicit, cfg.DATASETS.TRAIN)
    return cfg


def test_classes_and_polygons(cfg):
    settle(cfg)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == cfg.MODEL.RETINANET.NUM_CLASSES == 2
    assert cfg.INPUT.MASK_FORMAT == "polygon" and cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 17


def test_run_lengths_need_bitmasks_unless_they_are_crowds(cfg, path):
    change(path, annotation={"segmentation": {"size": [64, 64], "counts": [0, 9, 4087]}, "iscrowd": 1})
    assert settle(cfg).INPUT.MASK_FORMAT == "polygon"
    change(path, annotation={"iscrowd": 0})
    cfg.DATASETS.TRAIN = (path,)
    assert settle(cfg).INPUT.MASK_FORMAT == "bitmask"


def test_polygons_asked_for_where_there_are_run_lengths(cfg, path):
    change(path, annotation={"segmentation": {"size": [64, 64], "counts": [0, 9, 4087]}})
    cfg.DATASETS.TRAIN, cfg.INPUT.MASK_FORMAT, cfg.MODEL.MASK_ON = (path,), "polygon", True
    with pytest.raises(UserError, match=r"INPUT.MASK_FORMAT: polygon, but 1 masks of .* set it to bitmask"):
        settle(cfg, "INPUT.MASK_FORMAT")


def test_keypoints(cfg, path):
    change(path, keypoints=["nose", "tip"], annotation={"keypoints": [3, 3, 2, 4, 4, 2]})
    settle(cfg)
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 2 and len(cfg.TEST.KEYPOINT_OKS_SIGMAS) == 2
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.CLASS_KEYPOINTS == [[0, 1], []]
    cfg.MODEL.KEYPOINT_ON, cfg.TEST.KEYPOINT_OKS_SIGMAS = True, [0.1]
    with pytest.raises(UserError, match=r"OKS_SIGMAS: 1 numbers, but .* has 2 keypoints \(nose, tip\)"):
        settle(cfg, "TEST.KEYPOINT_OKS_SIGMAS")


def test_what_the_user_gives_stays(cfg):
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    assert settle(cfg, "MODEL.ROI_HEADS.NUM_CLASSES").MODEL.ROI_HEADS.NUM_CLASSES == 7


def test_catalogued_data_set_nothing(cfg):
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("coco_2017_val",)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 7
    assert settle(cfg).MODEL.ROI_HEADS.NUM_CLASSES == 7


def test_explicit_keys_of_the_chain_and_of_overrides(tmp_path):
    (tmp_path / "base.yaml").write_text("MODEL: {ROI_HEADS: {NUM_CLASSES: 3}}")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nINPUT: {MASK_FORMAT: bitmask}")
    arguments = argument_parser().parse_args(["--config-file", str(tmp_path / "own.yaml"), "SEED", "1"])
    assert explicit_keys(arguments) == {"MODEL.ROI_HEADS.NUM_CLASSES", "INPUT.MASK_FORMAT", "SEED"}


@pytest.mark.parametrize("eval_only, key", [(False, "DATASETS.TRAIN"), (True, "DATASETS.TEST")])
def test_what_a_file_says_does_not_count_for_data_that_an_override_names(tmp_path, eval_only, key):
    (tmp_path / "own.yaml").write_text("MODEL: {ROI_HEADS: {NUM_CLASSES: 3}}")
    words = ["--config-file", str(tmp_path / "own.yaml"), *(["--eval-only"] if eval_only else []), key, "('d',)"]
    assert explicit_keys(argument_parser().parse_args(words)) == {key}


class TestEvaluationOnly:
    def test_the_classes_of_the_checkpoint_in_its_order(self, cfg):
        cfg.DATASETS.TRAIN = ("not here",)
        register_data(cfg, eval_only=True, model_classes=["grey", "dark", "bright"])
        name = cfg.DATASETS.TEST[0]
        assert MetadataCatalog.get(name).thing_classes == ["grey", "dark", "bright"]
        assert {a["category_id"] for record in DatasetCatalog.get(name) for a in record["annotations"]} == {1, 2}

    def test_a_checkpoint_without_the_classes(self, cfg):
        with pytest.raises(UserError, match="classes that the model does not have: 'bright'"):
            register_data(cfg, eval_only=True, model_classes=["white", "dark"])

    def test_those_of_the_test_set_where_nothing_else_is_known(self, cfg):
        cfg.DATASETS.TRAIN = ("coco_2017_train",)
        register_data(cfg, eval_only=True)
        assert MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes == ["bright", "dark"]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["nut", "screw"], "missing in the data 1: bolt; new in the data 1: screw"),
        (["bolt", "nut"], "their order is nut, bolt there and bolt, nut in the data"),
    ],
)
def test_training_goes_on_with_the_same_classes_only(classes, message):
    check_same_classes("a.pth", ["nut", "bolt"], ["nut", "bolt"])
    with pytest.raises(UserError, match=message):
        check_same_classes("a.pth", StoredNames({"classes": ["nut", "bolt"]}).state_dict()["classes"], classes)
