"""Config names, files and addresses."""

from pathlib import Path

import pytest
import torch

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.model_zoo.checkpoint_urls import CONFIG_PATH_TO_URL_SUFFIX
from detectron2.model_zoo.model_zoo import _CONFIG_FOLDERS, _ModelZooUrls
from detectron2.modeling import build_model

FASTER = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
FASTER_URL = (
    "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl"
)


def test_config_file():
    path = Path(model_zoo.get_config_file(FASTER))
    assert path.is_file() and path.is_absolute()


@pytest.mark.parametrize("look_up", [model_zoo.get_config_file, model_zoo.get_config])
def test_unknown_config_names_the_nearest(look_up):
    with pytest.raises(RuntimeError, match=rf"not available in Model Zoo.*{FASTER}"):
        look_up("COCO-Detection/faster_rcnn_R50_FPN_1x.yaml")


@pytest.mark.parametrize("extension", [".yaml", ".py", ""])
def test_checkpoint_url(extension):
    assert model_zoo.get_checkpoint_url(FASTER.removesuffix(".yaml") + extension) == FASTER_URL


def test_unknown_checkpoint():
    assert _ModelZooUrls.query("x.yaml") is None
    with pytest.raises(RuntimeError, match=r"Pretrained model for Nope/x\.yaml is not available"):
        model_zoo.get_checkpoint_url("Nope/x.yaml")


def test_table():
    assert len(set(CONFIG_PATH_TO_URL_SUFFIX.values())) == len(CONFIG_PATH_TO_URL_SUFFIX)
    assert all(suffix.endswith(".pkl") for suffix in CONFIG_PATH_TO_URL_SUFFIX.values())


def test_get_config():
    cfg = model_zoo.get_config(FASTER)
    assert cfg.MODEL.WEIGHTS == "detectron2://ImageNetPretrained/MSRA/R-50.pkl" and not cfg.is_frozen()
    assert model_zoo.get_config(FASTER, trained=True).MODEL.WEIGHTS == FASTER_URL


# Stock Detectron2 ships this config without trained weights.
WITHOUT_WEIGHTS = {"COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml"}


def _names():
    folder = next(folder for folder in _CONFIG_FOLDERS if folder.is_dir())
    return sorted(str(path.relative_to(folder)) for path in folder.glob("COCO-*/*.yaml") if "Base" not in path.name)


@pytest.mark.parametrize("name", _names())
def test_every_shipped_public_config_loads_and_has_weights(name):
    if name in WITHOUT_WEIGHTS:
        assert model_zoo.get_config(name).MODEL.WEIGHTS.endswith("MSRA/R-50.pkl")
        with pytest.raises(RuntimeError, match="not available"):
            model_zoo.get_config(name, trained=True)
    else:
        assert model_zoo.get_config(name, trained=True).MODEL.WEIGHTS.endswith(".pkl")


def test_get_builds_on_the_cpu_and_loads(monkeypatch):
    loaded = []
    monkeypatch.setattr(DetectionCheckpointer, "load", lambda self, path, *args, **kwargs: loaded.append(path))
    model = model_zoo.get(FASTER, trained=True, device="cpu")
    assert loaded == [FASTER_URL] and model.training and model.device.type == "cpu"


@pytest.mark.parametrize(
    "name",
    [
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.py",
        "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.py",
        "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.py",
        "COCO-Detection/retinanet_R_50_FPN_1x.py",
    ],
)
def test_python_configs_build_the_models_of_their_yaml_twins(name):
    lazy = model_zoo.get_config(name, trained=True)
    assert lazy.train.init_checkpoint == model_zoo.get_checkpoint_url(name)
    with torch.device("meta"):
        model = instantiate(lazy.model)
    twin = model_zoo.get_config(name.replace(".py", ".yaml"))
    twin.MODEL.DEVICE = "meta"
    shapes = [{key: tuple(value.shape) for key, value in m.state_dict().items()} for m in (model, build_model(twin))]
    assert shapes[0] == shapes[1]


def test_a_shared_part_is_loaded_by_its_path():
    model = model_zoo.get_config("common/models/cascade_rcnn.py").model
    assert len(model.roi_heads.box_predictors) == 3
    with pytest.raises(RuntimeError, match=r"mask_rcnn_fpn\.py"):
        model_zoo.get_config("common/models/mask_rcnn_fpm.py")


def test_get_builds_a_python_config(tmp_path, monkeypatch):
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "tiny.py").write_text(
        "import torch\nfrom detectron2.config import LazyCall as L\n"
        "model = L(torch.nn.Linear)(in_features=1, out_features=2)\ntrain = dict(device='cpu', init_checkpoint='')\n"
    )
    monkeypatch.setattr(model_zoo.model_zoo, "_CONFIG_FOLDERS", (folder,))
    assert model_zoo.get("tiny.py", device="cpu").out_features == 2
