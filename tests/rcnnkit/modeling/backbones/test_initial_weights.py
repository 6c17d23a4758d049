"""Files of timm, torchvision and Detectron2 fill a backbone; what is taken, missing and unused is said."""

import logging
import pickle
import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from detectron2.modeling import build_backbone
from rcnnkit.errors import UserError
from rcnnkit.modeling.backbones.initial_weights import fill

from .common import TIMM, config, mobilenet, timm_backbone


def filled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same names with values that no initialisation gives."""
    return {
        name: value if name.endswith("num_batches_tracked") else torch.full_like(value, 0.125 + index / 64)
        for index, (name, value) in enumerate(tensors.items())
    }


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("test_resnet", ".pth"),
        ("test_convnext", ".safetensors"),
        ("swin_tiny_patch4_window7_224", ".pth"),
        ("pvt_v2_b0", ".safetensors"),
    ],
)
def test_whole_models_of_timm(tmp_path, caplog, name, suffix):
    """timm's file has the classifier and undivided names; all of the backbone is filled."""
    weights = filled(timm.create_model(name).state_dict())
    path = tmp_path / f"weights{suffix}"
    save_file(weights, path) if suffix == ".safetensors" else torch.save({"state_dict": weights}, path)
    with caplog.at_level(logging.INFO, logger="rcnnkit"):
        backbone = timm_backbone(name, WEIGHTS=str(path))
    assert "missing none; of another shape none; not used" in caplog.text
    unused = re.findall(r"(\w+)\.\w+[,)]", caplog.text.split("not used")[1])
    assert unused and set(unused) <= {"fc", "head", "norm"}  # what follows the last map
    for parameter in backbone.bottom_up.net.parameters():
        assert (parameter == parameter.flatten()[0]).all() and parameter.flatten()[0] * 64 % 1 == 0


def test_torchvisions_resnet_computes_the_same_in_timms(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "resnet18.pth")
    backbone = timm_backbone("resnet18", WEIGHTS=str(tmp_path / "resnet18.pth"), OWN_STATISTICS=False).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        stem = model.maxpool(model.relu(model.bn1(model.conv1(images))))
        wanted = model.layer4(model.layer3(model.layer2(model.layer1(stem))))
        torch.testing.assert_close(backbone.bottom_up(images)["res5"], wanted)


def test_detectron2s_resnet_computes_the_same_in_timms(tmp_path):
    torch.manual_seed(0)
    cfg = config("build_resnet_fpn_backbone")
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    theirs = build_backbone(cfg).eval()
    content = {"model": {f"backbone.{key}": value.numpy() for key, value in theirs.state_dict().items()}}
    (tmp_path / "r18.pkl").write_bytes(pickle.dumps(content))
    ours = timm_backbone("resnet18", WEIGHTS=str(tmp_path / "r18.pkl"), OWN_STATISTICS=False).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for key, wanted in theirs.bottom_up(images).items():
            torch.testing.assert_close(ours.bottom_up(images)[key], wanted)


def test_a_checkpoint_of_a_detector_with_this_backbone(tmp_path):
    torch.manual_seed(0)
    trained = timm_backbone("test_convnext")
    content = {"model": {f"backbone.{key}": value for key, value in trained.state_dict().items()}, "iteration": 9}
    torch.save(content, tmp_path / "model_final.pth")
    loaded = timm_backbone("test_convnext", WEIGHTS=str(tmp_path / "model_final.pth"))
    for name, value in trained.bottom_up.state_dict().items():
        assert torch.equal(loaded.bottom_up.state_dict()[name], value)


def test_torchvisions_mobilenet(tmp_path, caplog):
    model = torchvision.models.mobilenet_v3_small(weights=None)
    torch.save(filled(model.state_dict()), tmp_path / "small.pth")
    with caplog.at_level(logging.INFO, logger="rcnnkit"):
        backbone = mobilenet(SIZE="small", WEIGHTS=str(tmp_path / "small.pth"))
    assert "missing none; of another shape none; not used 4 (classifier.0.weight" in caplog.text
    assert all((parameter == parameter.flatten()[0]).all() for parameter in backbone.bottom_up.parameters())


def test_the_report_by_hand():
    net = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1))
    report = fill(net, {"0.weight": torch.ones(3, 2), "0.bias": torch.zeros(4), "head.weight": torch.ones(1)})
    assert report.taken == ["0.weight"] and report.missing == ["1.weight", "1.bias"]
    assert report.mis_shaped == ["0.bias (4,) instead of (3,)"] and report.unused == ["head.weight"]
    assert torch.equal(net[0].weight, torch.ones(3, 2))


def test_a_file_of_another_backbone_is_refused_before_there_is_memory(tmp_path):
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "convnext.pth")
    said = r"MODEL.TIMM.WEIGHTS .*convnext.pth: is of another architecture: 0 of"
    with pytest.raises(UserError, match=said), torch.device("meta"):
        timm_backbone("test_resnet", WEIGHTS=str(tmp_path / "convnext.pth"))


def test_weights_of_the_whole_network_come_first():
    """An evaluation does not need the file that a training began with."""
    cfg = config(TIMM, NAME="test_resnet", WEIGHTS="long gone.pth")
    cfg.MODEL.WEIGHTS = "model_final.pth"
    with torch.device("meta"):
        assert build_backbone(cfg)


def test_frozen_chance_is_told(caplog):
    cfg = config(TIMM, NAME="test_resnet")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    with torch.device("meta"):
        build_backbone(cfg)
    assert "was never trained; name weights with MODEL.TIMM.WEIGHTS" in caplog.text
