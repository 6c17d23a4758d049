"""Config names, files and addresses."""

from pathlib import Path

import pytest

from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.model_zoo.checkpoint_urls import CONFIG_PATH_TO_URL_SUFFIX
from detectron2.model_zoo.model_zoo import _CONFIG_FOLDERS, _ModelZooUrls

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


def _names():
    folder = next(folder for folder in _CONFIG_FOLDERS if folder.is_dir())
    return sorted(str(path.relative_to(folder)) for path in folder.glob("COCO-*/*.yaml") if "Base" not in path.name)


@pytest.mark.parametrize("name", _names())
def test_every_shipped_public_config_loads_and_has_weights(name):
    assert model_zoo.get_config(name, trained=True).MODEL.WEIGHTS.endswith(".pkl")


def test_get_builds_on_the_cpu_and_loads(monkeypatch):
    loaded = []
    monkeypatch.setattr(DetectionCheckpointer, "load", lambda self, path, *args, **kwargs: loaded.append(path))
    model = model_zoo.get(FASTER, trained=True, device="cpu")
    assert loaded == [FASTER_URL] and model.training and model.device.type == "cpu"
