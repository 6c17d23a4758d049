import pytest

from detectron2.checkpoint.catalog import ModelCatalog
from detectron2.utils.file_io import PathManager

COCO = "/output/train/coco_2014_train%3Acoco_2014_valminusminival/"


def test_imagenet_weights():
    url = ModelCatalog.get("ImageNetPretrained/FAIR/X-101-32x8d")
    assert url == "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/20171220/X-101-32x8d.pkl"


@pytest.mark.parametrize(
    ("name", "end"),
    [
        ("35857345/e2e_faster_rcnn_R-50-FPN_1x", COCO + "generalized_rcnn/model_final.pkl"),
        ("35998355/rpn_R-50-C4_1x", COCO + "rpn/model_final.pkl"),
        ("35998814/rpn_R-50-FPN_1x", COCO + "generalized_rcnn/model_final.pkl"),
        (
            "37697547/e2e_keypoint_rcnn_R-50-FPN_1x",
            "keypoints_coco_2014_train%3Akeypoints_coco_2014_valminusminival/generalized_rcnn/model_final.pkl",
        ),
    ],
)
def test_baselines(name, end):
    assert ModelCatalog.get("Caffe2Detectron/COCO/" + name).endswith(end)


@pytest.mark.parametrize("name", ["nope", "ImageNetPretrained/nope", "Caffe2Detectron/COCO/nope"])
def test_unknown_names(name):
    with pytest.raises(RuntimeError, match="nope"):
        ModelCatalog.get(name)


def test_catalog_paths_go_through_the_path_manager(tmp_path, monkeypatch):
    weights = tmp_path / "w.pkl"
    weights.write_text("weights")
    monkeypatch.setattr(ModelCatalog, "get", staticmethod(lambda name: str(tmp_path / name)))
    assert PathManager.get_local_path("catalog://w.pkl") == str(weights)
    with PathManager.open("catalog://w.pkl") as file:
        assert file.read() == "weights"
