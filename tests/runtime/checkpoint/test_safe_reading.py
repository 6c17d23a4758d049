import io
import os
import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from detectron2.checkpoint.safe_reading import CheckpointError, read_pickle, read_torch, read_weight_file


class _RunsACommand:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class _Unknown:
    pass


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickles_of_arrays_and_plain_containers(tmp_path, protocol):
    data = {
        "model": OrderedDict(a=np.arange(6, dtype=np.float32).reshape(2, 3), b=np.zeros(0, np.int64)),
        "__author__": "someone",
        "number": np.float64(2.5),
        "plain": [1, (2.0, None), {3}, b"bytes", True],
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(data, protocol=protocol))
    read = read_pickle(str(path))
    assert read["model"]["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert read["model"]["b"].dtype == np.int64
    assert read["number"] == 2.5
    assert read["plain"] == data["plain"]


def test_pickle_of_python_2_with_old_numpy_names(tmp_path):
    text = pickle.dumps({"w": np.arange(2, dtype=np.uint8)}, protocol=2).replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "old.pkl"
    path.write_bytes(text)
    assert read_pickle(str(path))["w"].tolist() == [0, 1]


@pytest.mark.parametrize("reader", [read_pickle, read_torch])
def test_code_is_refused_before_it_runs(tmp_path, reader):
    witness = tmp_path / "ran"
    payload = {"model": _RunsACommand(f"touch {witness}")}
    path = tmp_path / "evil.file"
    if reader is read_pickle:
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path)
    with pytest.raises(CheckpointError, match=r"system") as caught:
        reader(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not witness.exists()


@pytest.mark.parametrize(
    "name",
    ["builtins.eval", "builtins.getattr", "numpy.load", "torch.load", "subprocess.Popen", "numpy.core.numeric.os"],
)
def test_pickles_that_ask_for_functions(tmp_path, name):
    module, _, attribute = name.rpartition(".")
    path = tmp_path / "evil.pkl"
    path.write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
        read_pickle(str(path))


def test_dotted_attributes_of_allowed_names_are_refused(tmp_path):
    path = tmp_path / "evil.pkl"
    # protocol 4's STACK_GLOBAL resolves dots in the name
    path.write_bytes(b"\x80\x04\x8c\x05numpy\x8c\x11ndarray.__class__\x93.")
    with pytest.raises(CheckpointError, match="refused"):
        read_pickle(str(path))


def test_torch_file_with_an_unknown_class_is_refused_by_name(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": _Unknown()}, path)
    with pytest.raises(CheckpointError, match="_Unknown"):
        read_torch(str(path))


def test_torch_file_with_numpy_content(tmp_path):
    path = tmp_path / "model.pth"
    data = {"model": {"w": np.ones((2, 2), np.float32)}, "metric": np.float64(0.5), "iteration": np.int64(3)}
    torch.save(data, path)
    read = read_torch(str(path))
    assert read["model"]["w"].tolist() == [[1, 1], [1, 1]]
    assert (read["metric"], read["iteration"]) == (0.5, 3)


def test_torch_file_of_the_older_format(tmp_path):
    path = tmp_path / "model.pth"
    torch.save({"model": {"w": torch.ones(2)}}, path, _use_new_zipfile_serialization=False)
    assert read_torch(str(path))["model"]["w"].tolist() == [1, 1]


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"w": torch.arange(3.0)}, path)
    assert read_weight_file(str(path))["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
def test_truncated_and_empty_files_are_named_in_one_line(tmp_path, suffix, share):
    buffer = io.BytesIO()
    weights = {"w": torch.ones(1000)}
    if suffix == ".pth":
        torch.save(weights, buffer)
    elif suffix == ".pkl":
        buffer.write(pickle.dumps({"w": np.ones(1000)}))
    else:
        from safetensors.torch import save

        buffer.write(save(weights))
    content = buffer.getvalue()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(CheckpointError) as caught:
        read_weight_file(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        read_weight_file(str(tmp_path / "nowhere.pth"))


def test_another_zip_is_no_torch_file(tmp_path):
    path = tmp_path / "model.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "hello")
    with pytest.raises(CheckpointError, match=r"model\.pth"):
        read_torch(str(path))
