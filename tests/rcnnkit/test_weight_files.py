"""Tensors of weight files of several makers; nothing of a file is run. Pickles alone: engine/test_checkpointing."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from rcnnkit.errors import UserError
from rcnnkit.weight_files import read_weights

WEIGHT = torch.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    "content",
    [
        {"a.weight": WEIGHT},  # torchvision, timm
        {"model": {"a.weight": WEIGHT}, "iteration": 7},  # Detectron2
        {"state_dict": {"module.a.weight": WEIGHT}, "epoch": 3},  # timm's training, several processes
        {"state_dict": {"a.weight": WEIGHT + 1}, "state_dict_ema": {"a.weight": WEIGHT}},  # the average is what counts
    ],
)
def test_weights_in_what_training_programs_write(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    tensors = read_weights(tmp_path / "w.pth")
    assert list(tensors) == ["a.weight"] and torch.equal(tensors["a.weight"], WEIGHT)


def test_safetensors_and_pickled_arrays(tmp_path):
    save_file({"a.weight": WEIGHT}, tmp_path / "w.safetensors")
    content = {"model": {"a.weight": WEIGHT.numpy()}, "__author__": "Detectron2"}
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(content))
    for name in ("w.safetensors", "w.pkl"):
        tensors = read_weights(tmp_path / name)
        assert list(tensors) == ["a.weight"] and torch.equal(tensors["a.weight"], WEIGHT)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("name", ["w.pkl", "w.pth"])
def test_code_is_refused_and_not_run(tmp_path, capsys, name):
    content = {"model": {"a": np.zeros(1) if name == "w.pkl" else WEIGHT, "b": Evil()}}
    if name == "w.pkl":
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    with pytest.raises(UserError, match=r"holds code \((\w+\.)?print\) and is refused"):
        read_weights(tmp_path / name)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.pth", None, "no such file"),
        ("empty.pth", b"", "empty"),
        ("cut.pth", b"PK\x03\x04 half of it", "truncated or is not a checkpoint"),
        ("cut.safetensors", b"\x05\x00", "truncated or is not a checkpoint"),
    ],
)
def test_damage_is_one_line_with_the_file(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{name}.*{words}"):
        read_weights(tmp_path / name)


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="no named tensors"):
        read_weights(tmp_path / "w.pth")
