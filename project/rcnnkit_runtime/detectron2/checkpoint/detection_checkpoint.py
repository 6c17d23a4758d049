"""The checkpointer of detection models: model-zoo pickles, pycls files, key matching and ranks without the file."""

import logging
import os
from typing import Any
from urllib.parse import parse_qs, urlparse

import torch

from detectron2.checkpoint.c2_model_loading import _longest_suffix, align_and_update_state_dicts
from detectron2.checkpoint.checkpointer import Checkpointer
from detectron2.checkpoint.safe_reading import CheckpointError
from detectron2.checkpoint.torchvision_weights import converted_from_torchvision
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager


class DetectionCheckpointer(Checkpointer):
    """`Checkpointer` that also reads Detectron2's and Detectron's `.pkl`, pycls' `.pyth` and `.safetensors`.

    torchvision's ResNets and R-CNNs are recognised by their keys and converted, see `torchvision_weights`. A path may
    end in a query: `?matching_heuristics=True` matches keys by their longest common suffix, `?norm_eps=0.0` says with
    which epsilon torchvision ran the batch normalisation.
    """

    def __init__(
        self, model: torch.nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **checkpointables: Any
    ) -> None:
        """
        Args:
            model: a module, with or without a parallel wrapper.
            save_dir: folder of the checkpoints.
            save_to_disk: whether this process writes; the main process of all by default.
            checkpointables: further objects with `state_dict` and `load_state_dict`.
        """
        super().__init__(
            model,
            save_dir,
            save_to_disk=comm.is_main_process() if save_to_disk is None else save_to_disk,
            **checkpointables,
        )
        self.logger = logging.getLogger(__name__)
        self.path_manager = PathManager
        self._parsed_url_during_load: Any = None
        self._path_during_load = ""

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint; processes that do not see the file get its content from the main process.

        Args:
            path: file name or URL; nothing is loaded if empty.
            checkpointables: names of the objects to load beside the model; all that the file has if None.

        Returns:
            What the file has beyond the loaded objects.

        Raises:
            FileNotFoundError: the main process does not find the file.
            CheckpointError: see `read_weight_file`.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        self._parsed_url_during_load = urlparse(path)
        filename = path.partition("?")[0] if self._parsed_url_during_load.query else path
        self._path_during_load = filename
        try:
            return self._load(filename, *args, **kwargs)
        finally:
            self._parsed_url_during_load = None

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """As in fvcore; whether and from which file to resume is the main process's to say. All processes call it."""
        last = ""
        if resume:
            last = comm.all_gather(self.get_checkpoint_file() if self.has_checkpoint() else "")[0]
        return self.load(last) if last else self.load(path, checkpointables=[])

    def _load(self, filename: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        self.logger.info(f"[DetectionCheckpointer] Loading from {filename} ...")
        checkpoint = self._read_on_all_ranks(filename)
        incompatible = self._load_model(checkpoint)
        if incompatible is not None:  # subclasses of old return nothing
            self._log_incompatible_keys(incompatible)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info(f"Loading {key} from {filename} ...")
                self.checkpointables[key].load_state_dict(checkpoint.pop(key))
        return checkpoint

    def _read_on_all_ranks(self, filename: str) -> dict[str, Any]:
        local = self._local_path(filename)
        seen = comm.all_gather(os.path.isfile(local))
        if not seen[0]:
            raise FileNotFoundError(f"Checkpoint {filename} not found!")
        if all(seen):
            return self._load_file(local)
        rank = comm.get_rank()
        self.logger.warning(
            f"Checkpoint {filename} is not on the disk of every process; the main process sends it to the others."
        )
        return comm.all_gather(self._load_file(local) if rank == 0 else None)[0]

    def _local_path(self, filename: str) -> str:
        """The file on this machine's disk; downloads URLs."""
        if os.path.isfile(filename) or "://" not in filename:
            return filename
        return self.path_manager.get_local_path(filename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pkl"):
            loaded = self._from_pickle(filename)
        elif filename.endswith(".pyth"):
            loaded = self._torch_load(filename)
            if not isinstance(loaded, dict) or "model_state" not in loaded:
                raise CheckpointError(f"Checkpoint {filename} has no 'model_state', which pycls files have.")
            loaded = {"model": loaded["model_state"], "__author__": "pycls", "matching_heuristics": True}
        else:
            loaded = self._torch_load(filename)
        if not isinstance(loaded, dict):
            raise CheckpointError(f"Checkpoint {filename} holds a {type(loaded).__name__}, not a dict of tensors.")
        if "model" not in loaded:
            loaded = {"model": loaded}
        if not isinstance(loaded["model"], dict):
            raise CheckpointError(f"Checkpoint {filename}: 'model' is a {type(loaded['model']).__name__}, not a dict.")
        return self._apply_query(filename, loaded)

    def _torch_load(self, f: str) -> Any:
        return super()._load_file(f)

    def _from_pickle(self, filename: str) -> Any:
        """Detectron2's own pickles say who made them; others hold Caffe2's blobs."""
        data = super()._load_file(filename)
        if not isinstance(data, dict) or isinstance(data.get("model"), dict):
            if isinstance(data, dict) and "__author__" in data:
                self.logger.info(f"Reading a file from '{data['__author__']}'")
            return data
        blobs = data.get("blobs", data)
        blobs = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
        return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}

    def _apply_query(self, filename: str, loaded: dict[str, Any]) -> dict[str, Any]:
        if self._parsed_url_during_load is None:
            return loaded
        queries = parse_qs(self._parsed_url_during_load.query)
        if queries.pop("matching_heuristics", ["False"]) == ["True"]:
            loaded["matching_heuristics"] = True
        if "norm_eps" in queries:
            loaded["norm_eps"] = float(queries.pop("norm_eps")[0])
        if queries:
            raise ValueError(f"Unsupported query {queries} after the file name {filename}.")
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        weights = checkpoint["model"]
        try:
            self._convert_ndarray_to_tensor(weights)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"Checkpoint {self._path_during_load}: {error}") from error
        model_state = self.model.state_dict()
        norm_eps = checkpoint.pop("norm_eps", None)
        converted = converted_from_torchvision(_without_parallel_prefix(weights), model_state, norm_eps)
        matching = checkpoint.get("matching_heuristics", False)
        if converted is not None:
            checkpoint["model"], is_backbone = converted
            matching = matching or is_backbone
        elif norm_eps is not None:
            raise ValueError(f"{self._path_during_load}: norm_eps is for torchvision's detectors, this is none.")
        if matching:
            checkpoint["model"] = align_and_update_state_dicts(
                model_state, checkpoint["model"], c2_conversion=checkpoint.get("__author__") == "Caffe2"
            )
        unused = {key: tuple(tensor.shape) for key, tensor in checkpoint["model"].items()} if matching else {}
        incompatible = super()._load_model(checkpoint)
        _find_mis_shaped(incompatible, unused, model_state)
        # files of old hold the anchors of each level, which the config says now
        incompatible.unexpected_keys[:] = [
            key for key in incompatible.unexpected_keys if "anchor_generator.cell_anchors" not in key
        ]
        return incompatible


def _without_parallel_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    if weights and all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _find_mis_shaped(incompatible: Any, file_shapes: dict[str, tuple[int, ...]], model_state: dict[str, Any]) -> None:
    """Where keys were matched by suffix, tell tensors of another shape from missing and unexpected ones; in place."""
    unused = {key: file_shapes[key] for key in incompatible.unexpected_keys if key in file_shapes}
    known = {entry[0] for entry in incompatible.incorrect_shapes}
    for model_key in incompatible.missing_keys:
        key = _longest_suffix(model_key, unused)
        if key is None or model_key in known:
            continue
        incompatible.incorrect_shapes.append((model_key, unused[key], tuple(model_state[model_key].shape)))
        if key in incompatible.unexpected_keys:
            incompatible.unexpected_keys.remove(key)
