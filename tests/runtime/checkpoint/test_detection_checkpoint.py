import os
import pickle
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn

from detectron2.checkpoint import Checkpointer, CheckpointError, DetectionCheckpointer, PeriodicCheckpointer


class _Model(nn.Module):
    def __init__(self, fill=0.0):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2))
        self.head = nn.Linear(3, 1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, fill)


def _values(model):
    return {name: float(tensor.flatten()[0]) for name, tensor in model.state_dict().items()}


ALL_ONES = {"backbone.0.weight": 1.0, "backbone.0.bias": 1.0, "head.weight": 1.0, "head.bias": 1.0}


def _arrays(model):
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def test_save_writes_the_file_and_then_the_pointer(tmp_path):
    optimizer = torch.optim.SGD(_Model().parameters(), lr=0.5)
    DetectionCheckpointer(_Model(1.0), str(tmp_path), optimizer=optimizer).save("model_0000004", iteration=4)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["last_checkpoint", "model_0000004.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    content = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert list(content) == ["model", "optimizer", "iteration"]


def test_a_failed_save_leaves_pointer_and_files(tmp_path, monkeypatch):
    checkpointer = DetectionCheckpointer(_Model(1.0), str(tmp_path))
    checkpointer.save("first")

    def half(data, file):
        file.write(b"PK half a file")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        checkpointer.save("second")
    assert (tmp_path / "last_checkpoint").read_text() == "first.pth"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["first.pth", "last_checkpoint"]


def test_the_pointer_never_names_an_incomplete_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "save", lambda data, file: file.write(b"not an archive"))
    with pytest.raises(CheckpointError, match="not written completely"):
        DetectionCheckpointer(_Model(), str(tmp_path)).save("broken")
    assert list(tmp_path.iterdir()) == []


def test_resume_loads_everything_and_load_only_the_model(tmp_path):
    model, other = _Model(1.0), nn.Linear(1, 1)
    nn.init.constant_(other.weight, 7.0)
    DetectionCheckpointer(model, str(tmp_path), other=other).save("model_final", iteration=9)

    resumed, resumed_other = _Model(), nn.Linear(1, 1)
    rest = DetectionCheckpointer(resumed, str(tmp_path), other=resumed_other).resume_or_load("unused.pth", resume=True)
    assert (_values(resumed), rest) == (ALL_ONES, {"iteration": 9})
    assert resumed_other.weight.item() == 7.0

    loaded, loaded_other = _Model(), nn.Linear(1, 1)
    nn.init.zeros_(loaded_other.weight)
    DetectionCheckpointer(loaded, "", other=loaded_other).resume_or_load(
        str(tmp_path / "model_final.pth"), resume=False
    )
    assert _values(loaded) == ALL_ONES
    assert loaded_other.weight.item() == 0.0


def test_nothing_to_load():
    assert DetectionCheckpointer(_Model()).load("") == {}


def test_bare_state_dict_and_parallel_prefix(tmp_path):
    state = _Model(1.0).state_dict()
    for name, content in {"bare": state, "module": {"model": {f"module.{key}": v for key, v in state.items()}}}.items():
        torch.save(content, tmp_path / f"{name}.pth")
        model = _Model()
        DetectionCheckpointer(model).load(str(tmp_path / f"{name}.pth"))
        assert _values(model) == ALL_ONES


def test_pickle_of_the_model_zoo(tmp_path):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": _arrays(_Model(1.0)), "__author__": "Detectron2 Model Zoo"}))
    model = _Model()
    assert DetectionCheckpointer(model).load(str(path)) == {"__author__": "Detectron2 Model Zoo"}
    assert _values(model) == ALL_ONES


def test_pickle_that_wants_matching(tmp_path):
    path = tmp_path / "R-50.pkl"
    weights = {name.removeprefix("backbone."): array for name, array in _arrays(_Model(1.0)).items()}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "torchvision", "matching_heuristics": True}))
    model = _Model()
    DetectionCheckpointer(model).load(str(path))
    assert _values(model) == ALL_ONES


def test_caffe2_blobs(tmp_path):
    path = tmp_path / "c2.pkl"
    blobs = {"0_w": np.ones((2, 2), np.float32), "0_b": np.ones(2, np.float32), "0_b_momentum": np.ones(1)}
    path.write_bytes(pickle.dumps({"blobs": blobs}))
    model = _Model()
    DetectionCheckpointer(model).load(str(path))
    assert _values(model) == {**ALL_ONES, "head.weight": 0.0, "head.bias": 0.0}


def test_pycls_file(tmp_path):
    path = tmp_path / "model.pyth"
    torch.save({"model_state": {"0.weight": torch.ones(2, 2)}, "epoch": 3}, path)
    model = _Model()
    rest = DetectionCheckpointer(model).load(str(path))
    assert rest == {"__author__": "pycls", "matching_heuristics": True}
    assert _values(model)["backbone.0.weight"] == 1.0
    torch.save({"weights": {}}, path)
    with pytest.raises(CheckpointError, match="model_state"):
        DetectionCheckpointer(model).load(str(path))


def test_safetensors_file(tmp_path):
    from safetensors.torch import save_file

    save_file(_Model(1.0).state_dict(), tmp_path / "m.safetensors")
    model = _Model()
    DetectionCheckpointer(model).load(str(tmp_path / "m.safetensors"))
    assert _values(model) == ALL_ONES


def test_matching_asked_for_in_the_path(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"0.weight": torch.ones(2, 2)}, path)
    model = _Model()
    DetectionCheckpointer(model).load(f"{path}?matching_heuristics=True")
    assert _values(model)["backbone.0.weight"] == 1.0
    with pytest.raises(ValueError, match="foo"):
        DetectionCheckpointer(model).load(f"{path}?foo=1")


def test_report_of_keys_that_do_not_fit(tmp_path, caplog):
    state = _Model(1.0).state_dict()
    del state["head.bias"]
    state["head.weight"] = torch.ones(4)
    state["extra.weight"] = torch.ones(1)
    torch.save({"model": state}, tmp_path / "m.pth")
    checkpointer = DetectionCheckpointer(_Model())
    checkpointer.load(str(tmp_path / "m.pth"))
    assert checkpointer.incompatible.incorrect_shapes == [("head.weight", (4,), (1, 3))]
    assert sorted(checkpointer.incompatible.missing_keys) == ["head.bias", "head.weight"]
    assert checkpointer.incompatible.unexpected_keys == ["extra.weight"]
    assert "Loaded 2 of the model's 4 tensors: 1 missing in the file, 1 of another shape, 1 of the file not used." in (
        caplog.text
    )


@pytest.mark.parametrize("content", [[1, 2], {"model": [1]}, {"model": {"w": "text"}}])
def test_content_that_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "m.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"m\.pth"):
        DetectionCheckpointer(_Model()).load(str(path))


def test_missing_file_and_stale_pointer(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        DetectionCheckpointer(_Model()).load(str(tmp_path / "nowhere.pth"))
    (tmp_path / "last_checkpoint").write_text("gone.pth")
    with pytest.raises(FileNotFoundError, match=r"gone\.pth"):
        DetectionCheckpointer(_Model(), str(tmp_path)).resume_or_load("", resume=True)


def test_periodic_checkpointer_keeps_the_newest(tmp_path):
    periodic = PeriodicCheckpointer(DetectionCheckpointer(_Model(), str(tmp_path)), period=2, max_iter=7, max_to_keep=2)
    for iteration in range(7):
        periodic.step(iteration)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["last_checkpoint", "model_0000003.pth", "model_0000005.pth", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_save_to_disk_off(tmp_path):
    DetectionCheckpointer(_Model(), str(tmp_path), save_to_disk=False).save("m")
    assert list(tmp_path.iterdir()) == []


def test_report_tells_missing_unexpected_and_mis_shaped(tmp_path, caplog):
    path = tmp_path / "partly.pth"
    torch.save({"backbone.0.weight": torch.ones(2, 2), "head.weight": torch.ones(5, 3), "other": torch.ones(1)}, path)
    checkpointer = DetectionCheckpointer(_Model())
    checkpointer.load(str(path))
    report = checkpointer.report
    assert report.loaded == ["backbone.0.weight"]
    assert sorted(report.missing) == ["backbone.0.bias", "head.bias"]
    assert report.mis_shaped == [("head.weight", (5, 3), (1, 3))]
    assert report.unexpected == ["other"]
    assert not report.is_complete
    lines = str(report).splitlines()
    assert lines[0] == (
        "Loaded 1 of the model's 4 tensors: 2 missing in the file, 1 of another shape, 1 of the file not used."
    )
    assert lines[0] in caplog.text
    assert "  mis-shaped  head.weight: (5, 3) in the file, (1, 3) here" in lines
    assert len(lines) == 5


def test_report_after_matching_by_suffix(tmp_path):
    path = tmp_path / "partly.pkl"
    weights = {"0.weight": np.ones((2, 2)), "0.bias": np.ones(7), "other": np.ones(1)}
    path.write_bytes(pickle.dumps({"model": weights, "matching_heuristics": True}))
    checkpointer = DetectionCheckpointer(_Model())
    checkpointer.load(str(path))
    assert checkpointer.report.loaded == ["backbone.0.weight"]
    assert checkpointer.report.mis_shaped == [("backbone.0.bias", (7,), (2,))]
    assert sorted(checkpointer.report.missing) == ["head.bias", "head.weight"]
    assert checkpointer.report.unexpected == ["other"]


@pytest.mark.parametrize(
    "address", ["detectron2://ImageNetPretrained/MSRA/R-50.pkl", "https://weights.invalid/model_final.pth"]
)
def test_addresses_without_a_network_fail_in_one_line(tmp_path, monkeypatch, address):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))

    def no_network(*_, **__):
        raise URLError("name or service\nnot known")

    monkeypatch.setattr("urllib.request.urlopen", no_network)
    with pytest.raises(OSError, match="Cannot download https://") as caught:
        DetectionCheckpointer(_Model()).load(address)
    message = str(caught.value)
    assert "\n" not in message
    assert "MODEL.WEIGHTS /path/to/file" in message
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pkl", ".pth")]


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_anchors_in_files_of_old_are_not_unexpected(tmp_path, suffix):
    path = tmp_path / f"model_final.{suffix}"
    prefix = "proposal_generator.anchor_generator.cell_anchors"
    arrays = {**_arrays(_Model(1.0)), "pixel_mean": np.ones((3, 1, 1)), "pixel_std": np.ones((3, 1, 1))}
    arrays.update({f"{prefix}.{level}": np.ones((3, 4)) for level in range(5)})
    if suffix == "pth":
        torch.save({"model": {name: torch.as_tensor(array) for name, array in arrays.items()}}, path)
    else:
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2 Model Zoo"}))
    model = _Model()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load(str(path))
    assert _values(model) == ALL_ONES
    assert checkpointer.incompatible.unexpected_keys == ["pixel_mean", "pixel_std"]


class _RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("name", ["w.pkl", "w.pth", "w.pyth", "w.pth?matching_heuristics=True", "no_suffix"])
@pytest.mark.parametrize("kind", [Checkpointer, DetectionCheckpointer])
@pytest.mark.parametrize("how", ["load", "resume_or_load", "last_checkpoint"])
def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path, name, kind, how):
    canary = tmp_path / "canary"
    content = {"model": _arrays(_Model()), "optimizer": _RunsACommand(f"touch {canary}")}
    path = tmp_path / name.partition("?")[0]
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    if kind is Checkpointer:
        name = path.name
    checkpointer = kind(_Model(), str(tmp_path))
    with pytest.raises(CheckpointError, match="system"):
        if how == "last_checkpoint":
            (tmp_path / "last_checkpoint").write_text(path.name)
            checkpointer.resume_or_load("", resume=True)
        else:
            getattr(checkpointer, how)(str(tmp_path / name))
    assert not canary.exists()
    os.system(f"touch {canary}")
    assert canary.exists()  # it would have been written
