"""A checkpoint with other classes: which rows are kept in every head, what is told, and what is refused."""

import logging
import pickle

import pytest
import torch

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from rcnnkit.engine.checkpointing import StoredNames, check_weights
from rcnnkit.engine.fine_tuning import NAMES_KEY, build_fine_tuning_checkpointer, names_in
from rcnnkit.errors import UserError
from tests.rcnnkit.modeling import small_rcnn
from tests.rcnnkit.modeling.small_rcnn import CASCADE, MULTI_TASK

OLD, NEW = ["nut", "bolt", "pin"], ["pin", "washer", "nut", "screw"]
POINTS, OTHER_POINTS = ["head", "foot"], ["foot", "left", "right"]
DATA = "fine_tuned_on"
SPECIFIC = ("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False)
QUALITY = ("MODEL.ROI_MASK_HEAD.NAME", "MaskQualityHead", "MODEL.ROI_MASK_HEAD.QUALITY.CONV_DIM", 4,
           "MODEL.ROI_MASK_HEAD.QUALITY.FC_DIM", 8)  # fmt: skip
BOUNDARY = ("MODEL.ROI_MASK_HEAD.NAME", "BoundaryMaskHead", "MODEL.ROI_MASK_HEAD.POOLER_TYPE", "",
            "MODEL.ROI_MASK_HEAD.BOUNDARY.DETAIL_DIM", 4)  # fmt: skip
RETINANET = (
    "MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False, "MODEL.KEYPOINT_ON", False,
    "MODEL.RETINANET.IN_FEATURES", ["p3", "p4", "p5"], "MODEL.RETINANET.NUM_CLASSES", 3,
    "MODEL.RETINANET.NUM_CONVS", 1, "MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32]],
)  # fmt: skip
# keys with rows of classes and of keypoints; per row's name: slices, and the dimension
KINDS = {
    "Standard": (SPECIFIC, {"box_predictor.bbox_pred": 4, "mask_head.predictor": 1}, {"keypoint_head.score_lowres": 1}),
    "cascade": ((*MULTI_TASK, *CASCADE), {"mask_head.predictor": 1}, {"keypoint_head.score_lowres": 1}),
    "quality, subpixel": (
        (*MULTI_TASK, *QUALITY, "MODEL.ROI_KEYPOINT_HEAD.NAME", "SubpixelKeypointHead"),
        {"mask_head.mask_head.predictor": 1, "mask_head.quality.iou": 1},
        {"keypoint_head.heatmaps": 1, "keypoint_head.visibility": 1},
    ),
    "coordinates": (
        (*MULTI_TASK, *SPECIFIC, "MODEL.ROI_KEYPOINT_HEAD.NAME", "CoordinateKeypointHead"),
        {"box_predictor.bbox_pred": 4, "mask_head.predictor": 1},
        {"keypoint_head.classifiers.evidence": 9},
    ),
    "boundary": (
        BOUNDARY,
        {"mask_head.logits": 1, **{f"mask_head.stages.{number}.logits": 1 for number in range(3)}},
        {"keypoint_head.score_lowres": 1},
    ),
}


@pytest.fixture(autouse=True)
def _data_set():
    DatasetCatalog.register(DATA, list)
    yield
    DatasetCatalog.remove(DATA)
    MetadataCatalog.pop(DATA, None)


def config(repository, classes, points, *overrides):
    """Of a model for these names; the data set has them."""
    MetadataCatalog.pop(DATA, None)
    MetadataCatalog.get(DATA).set(thing_classes=classes, keypoint_names=points)
    counts = ("MODEL.ROI_HEADS.NUM_CLASSES", len(classes), "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", len(points))
    return small_rcnn.config(repository, *overrides, *counts, "DATASETS.TRAIN", (DATA,))


def saved(repository, folder, *overrides, classes=OLD, points=POINTS) -> str:
    """A checkpoint of a model of random weights, with its names."""
    model = build_model(config(repository, classes, points, *overrides))
    checkpointer = DetectionCheckpointer(model, str(folder))
    checkpointer.add_checkpointable(NAMES_KEY, StoredNames({"classes": classes, "keypoints": points}))
    checkpointer.save("before")
    return str(folder / "before.pth")


def pieces(tensor: torch.Tensor, names: list[str], per_name: int, dim: int) -> dict[str, torch.Tensor]:
    """The slices of each name; what is behind them is "rest"."""
    own = {name: tensor.narrow(dim, i * per_name, per_name) for i, name in enumerate(names)}
    used = len(names) * per_name
    return {**own, "rest": tensor.narrow(dim, used, tensor.shape[dim] - used)}


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.numel() > 0 and torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["more", "fewer"])
def test_rows_of_equal_names_are_the_files(repository, tmp_path, caplog, kind, way):
    overrides, of_classes, of_points = KINDS[kind]
    names = [(OLD, POINTS), (NEW, OTHER_POINTS)]
    (old, old_points), (new, new_points) = names if way == "more" else names[::-1]
    path = saved(repository, tmp_path, *overrides, classes=old, points=old_points)
    cfg = config(repository, new, new_points, *overrides)
    model = build_model(cfg)
    initial = {key: value.clone() for key, value in model.state_dict().items()}
    caplog.set_level(logging.INFO, "rcnnkit")
    loader = build_fine_tuning_checkpointer(cfg, model)
    loader.load(path, checkpointables=[])
    stored = torch.load(path, weights_only=True)["model"]

    named = {"roi_heads." + name: (old, new, slices) for name, slices in of_classes.items()}
    named |= {"roi_heads." + name: (old_points, new_points, slices) for name, slices in of_points.items()}
    checked = set()
    for key, value in model.state_dict().items():
        entry = next((entry for prefix, entry in named.items() if key.startswith(prefix)), None)
        if "cls_score" in key:
            entry = (old, new, 1)
        if entry is None:
            assert torch.equal(value, stored[key]), key
            continue
        before, after, slices = entry
        dim = 1 if value.dim() == 4 and ("lowres" in key or "heatmaps" in key) else 0
        of_file, of_model, found = (
            pieces(tensor, own, slices, dim)
            for tensor, own in ((stored[key], before), (initial[key], after), (value, after))
        )
        for name in after:
            assert equal(found[name], (of_file if name in before else of_model)[name]), (key, name)
        assert torch.equal(found["rest"], of_file["rest"]), key  # the background
        checked.add(key)
        assert f"{key}: " in caplog.text
    assert {change.key for change in loader.changes} == checked
    assert not loader.incompatible.missing_keys and not loader.incompatible.incorrect_shapes
    if way == "more":
        scores = next(key for key in checked if key.endswith("cls_score.weight"))
        assert f"{scores}: classes kept 2: pin, nut; new 2: washer, screw; dropped 1: bolt" in caplog.text


def test_a_file_without_names_gives_what_fits(repository, tmp_path, caplog):
    path = saved(repository, tmp_path, classes=OLD)
    content = torch.load(path, weights_only=True)
    del content[NAMES_KEY]
    torch.save(content, path)
    cfg = config(repository, NEW, POINTS)
    model = build_model(cfg)
    before = model.state_dict()["roi_heads.box_predictor.cls_score.weight"].clone()
    loader = build_fine_tuning_checkpointer(cfg, model)
    loader.load(path, checkpointables=[])
    assert loader.changes == []
    assert torch.equal(model.roi_heads.box_predictor.cls_score.weight, before)
    assert "initialised afresh, of another shape in the file: roi_heads.box_predictor.cls_score.weight" in caplog.text
    assert torch.equal(
        model.roi_heads.keypoint_head.score_lowres.weight,
        content["model"]["roi_heads.keypoint_head.score_lowres.weight"],
    )


def test_arrays_have_names_too(repository, tmp_path):
    path = tmp_path / "before.pkl"
    content = torch.load(saved(repository, tmp_path), weights_only=True)
    arrays = {key: value.numpy() for key, value in content["model"].items()}
    path.write_bytes(pickle.dumps({"model": arrays, NAMES_KEY: content[NAMES_KEY], "__author__": "rcnnkit"}))
    cfg = config(repository, NEW, POINTS)
    model = build_model(cfg)
    build_fine_tuning_checkpointer(cfg, model).load(str(path), checkpointables=[])
    key = "roi_heads.box_predictor.cls_score.weight"
    assert torch.equal(model.state_dict()[key][[0, 2, 4]], content["model"][key][[2, 0, 3]])


def test_seesaws_counts_are_of_the_other_training(repository, tmp_path):
    path = saved(repository, tmp_path)
    content = torch.load(path, weights_only=True)
    content["model"]["roi_heads.box_predictor.class_loss.class_counts"] = torch.tensor([5, 6, 7])
    torch.save(content, path)
    cfg = config(repository, OLD, POINTS)
    loader = build_fine_tuning_checkpointer(cfg, build_model(cfg))
    loader.load(path, checkpointables=[])
    assert not loader.incompatible.unexpected_keys
    check_weights(cfg, path, whole=True)


def test_learnt_weights_of_tasks_are_of_the_training(repository, tmp_path):
    """Models with and without them begin with, and evaluate, each other's files; a run that goes on needs its own."""
    learnt = (*MULTI_TASK, "RCNNKIT.TASK_BALANCE", "uncertainty")
    for kind, own, other in (("learnt", learnt, MULTI_TASK), ("fixed", MULTI_TASK, learnt)):
        folder = tmp_path / kind
        folder.mkdir()
        path = saved(repository, folder, *own)
        cfg = config(repository, OLD, POINTS, *other)
        cfg.RCNNKIT.WEIGHTS_MISMATCH = "none"
        check_weights(cfg, path, whole=True)
        check_weights(cfg, path, whole=False)
        with pytest.raises(UserError, match=r"4: balance\.log_variance\."):
            check_weights(cfg, path, whole=True, resumed=True)
        check_weights(config(repository, OLD, POINTS, *own), path, whole=True, resumed=True)


@pytest.mark.parametrize("stored", [None, [], {"classes": "nut"}, {"classes": ["nut", 3]}, {"classes": None}, "nut"])
def test_names_of_a_wrong_type_are_none(stored):
    assert names_in({NAMES_KEY: stored}) == {}
    assert names_in([1]) == {}


class TestAllowed:
    """RCNNKIT.WEIGHTS_MISMATCH by what differs."""

    def refused(self, cfg, path, mode, *parts):
        cfg.RCNNKIT.WEIGHTS_MISMATCH = mode
        with pytest.raises(UserError) as caught:
            check_weights(cfg, path, whole=False)
        line = str(caught.value)
        assert path in line and f"RCNNKIT.WEIGHTS_MISMATCH {mode!r}" in line and "\n" not in line
        for part in parts:
            assert part in line, line

    def passes(self, cfg, path, *modes):
        for mode in modes:
            cfg.RCNNKIT.WEIGHTS_MISMATCH = mode
            check_weights(cfg, path, whole=False)

    def test_nothing(self, repository, tmp_path):
        path = saved(repository, tmp_path)
        self.passes(config(repository, OLD, POINTS), path, "heads", "classes", "none")
        self.passes(config(repository, OLD[::-1], POINTS), path, "none")  # the same classes in another order

    @pytest.mark.parametrize("classes", [NEW, ["nut", "bolt", "washer"]])
    def test_classes(self, repository, tmp_path, classes):
        path = saved(repository, tmp_path)
        cfg = config(repository, classes, POINTS)
        self.passes(cfg, path, "heads", "classes")
        self.refused(cfg, path, "none", "roi_heads.box_predictor.cls_score.weight", "mask_head", "set it to 'classes'")

    def test_classes_of_a_file_without_names(self, repository, tmp_path):
        path = saved(repository, tmp_path)
        torch.save({"model": torch.load(path, weights_only=True)["model"]}, path)
        cfg = config(repository, NEW, POINTS)
        self.passes(cfg, path, "heads", "classes")
        self.refused(cfg, path, "none", "cls_score.bias (4,) instead of (5,)", "set it to 'classes'")

    @pytest.mark.parametrize(
        ("there", "here", "part"),
        [
            (("MODEL.KEYPOINT_ON", False), (), "missing 4: roi_heads.keypoint_head.conv_fcn1.weight"),
            ((), ("MODEL.MASK_ON", False), "unexpected 6: roi_heads.mask_head."),
            ((), ("MODEL.ROI_BOX_HEAD.FC_DIM", 8), "roi_heads.box_head.fc1.weight (16, 392) instead of (8, 392)"),
            ((), ("MODEL.ROI_KEYPOINT_HEAD.NAME", "SubpixelKeypointHead"), "roi_heads.keypoint_head.heatmaps.weight"),
            ((), QUALITY, "missing 14: roi_heads.mask_head.quality."),
            (QUALITY, (), "unexpected 14: roi_heads.mask_head."),
        ],
    )
    def test_heads(self, repository, tmp_path, there, here, part):
        path = saved(repository, tmp_path, *there)
        cfg = config(repository, OLD, POINTS, *here)
        self.passes(cfg, path, "heads")
        for mode in ("classes", "none"):
            self.refused(cfg, path, mode, part, "set it to 'heads'")

    def test_classes_of_retinanet(self, repository, tmp_path):
        path = saved(repository, tmp_path, *RETINANET)
        cfg = config(repository, ["nut", "bolt", "washer"], POINTS, *RETINANET)
        self.passes(cfg, path, "heads", "classes")
        self.refused(cfg, path, "none", "head.cls_score.weight", "set it to 'classes'")
        model = build_model(cfg)
        initial = model.head.cls_score.bias.detach().clone()
        with torch.no_grad():
            model.head.cls_score.bias.copy_(initial + 1)
        build_fine_tuning_checkpointer(cfg, model).load(path, checkpointables=[])
        stored = torch.load(path, weights_only=True)["model"]["head.cls_score.weight"]
        kept, found = (tensor.unflatten(0, (-1, 3)) for tensor in (stored, model.head.cls_score.weight))
        assert torch.equal(found[:, :2], kept[:, :2]) and not torch.equal(found[:, 2], kept[:, 2])
        raised = initial.unflatten(0, (-1, 3)) + torch.tensor([0, 0, 1])  # only washer's are not the file's
        assert torch.equal(model.head.cls_score.bias, raised.flatten())

    def test_the_backbone_never(self, repository, tmp_path):
        path = saved(repository, tmp_path)
        content = torch.load(path, weights_only=True)
        content["model"]["backbone.levels.p2.weight"] = torch.zeros(4, 3, 5, 5)
        torch.save(content, path)
        with pytest.raises(UserError, match=r"of another architecture .* backbone\.levels\.p2\.weight \(4, 3, 5, 5\)"):
            check_weights(config(repository, OLD, POINTS), path, whole=False)

    @pytest.mark.parametrize(("there", "here"), [((), QUALITY), (QUALITY, ())])
    def test_masks_pass_to_and_from_the_quality_head(self, repository, tmp_path, there, here):
        path = saved(repository, tmp_path, *there)
        cfg = config(repository, NEW, POINTS, *here)
        self.passes(cfg, path, "heads")
        model = build_model(cfg)
        build_fine_tuning_checkpointer(cfg, model).load(path, checkpointables=[])
        stored = torch.load(path, weights_only=True)["model"]
        [before] = (value for key, value in stored.items() if key.endswith("predictor.weight") and "mask" in key)
        head = model.roi_heads.mask_head
        assert torch.equal((head.mask_head if here else head).predictor.weight[2], before[0])
