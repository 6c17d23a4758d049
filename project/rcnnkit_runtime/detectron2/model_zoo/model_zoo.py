"""Look-ups by config name, such as "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"."""

import os
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.model_zoo.checkpoint_urls import CONFIG_PATH_TO_URL_SUFFIX
from detectron2.utils.registry import nearest_first

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file"]

_PACKAGE = Path(__file__).resolve().parent
# An installed package carries the configs; in a checkout they lie at the top, so that users find them.
_CONFIG_FOLDERS = (_PACKAGE / "configs", _PACKAGE.parents[3] / "configs")


class _ModelZooUrls:
    """Addresses of trained weights."""

    S3_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"
    CONFIG_PATH_TO_URL_SUFFIX = CONFIG_PATH_TO_URL_SUFFIX

    @staticmethod
    def query(config_path: str) -> str | None:
        """The address of a config's trained weights; None if there are none.

        Args:
            config_path: config name, with or without extension.
        """
        name = config_path.removesuffix(".yaml").removesuffix(".py")
        suffix = _ModelZooUrls.CONFIG_PATH_TO_URL_SUFFIX.get(name)
        return None if suffix is None else f"{_ModelZooUrls.S3_PREFIX}{name}/{suffix}"


def get_checkpoint_url(config_path: str) -> str:
    """Return the address of the weights that were trained with a config.

    Args:
        config_path: config name, with or without extension.

    Raises:
        RuntimeError: none are published for it; names the nearest config that has some.
    """
    url = _ModelZooUrls.query(config_path)
    if url is None:
        nearest = nearest_first(config_path, list(CONFIG_PATH_TO_URL_SUFFIX))[0]
        raise RuntimeError(f"Pretrained model for {config_path} is not available! The nearest that is: {nearest}.yaml")
    return url


def _available() -> list[str]:
    folder = next((folder for folder in _CONFIG_FOLDERS if folder.is_dir()), None)
    if folder is None:
        return []
    return sorted(str(path.relative_to(folder)) for kind in ("*.yaml", "*.py") for path in folder.rglob(kind))


def get_config_file(config_path: str) -> str:
    """Return the absolute path of a config file.

    Args:
        config_path: config name with its extension.

    Raises:
        RuntimeError: there is no such config; names the nearest.
    """
    for folder in _CONFIG_FOLDERS:
        if (folder / config_path).is_file():
            return os.fspath(folder / config_path)
    nearest = nearest_first(config_path, _available())[:1]
    hint = (
        f" Did you mean {nearest[0]}?" if nearest else f" No configs lie in {' or '.join(map(str, _CONFIG_FOLDERS))}."
    )
    raise RuntimeError(f"{config_path} not available in Model Zoo!{hint}")


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Return a config of the zoo: a YAML file merged into the defaults, not frozen; a Python file as it is.

    Args:
        config_path: config name with its extension.
        trained: set MODEL.WEIGHTS (train.init_checkpoint) to the weights trained with it; otherwise it stays what the
            file says, usually a backbone trained on ImageNet.

    Raises:
        RuntimeError: no such config, or no trained weights.
    """
    path = get_config_file(config_path)
    if path.endswith(".py"):
        lazy = LazyConfig.load(path)
        if trained:
            lazy.train.init_checkpoint = get_checkpoint_url(config_path)
        return lazy
    cfg = get_cfg()
    cfg.merge_from_file(path)
    if trained:
        cfg.MODEL.WEIGHTS = get_checkpoint_url(config_path)
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a config's model, in training mode, and load the weights that `get_config` names.

    Args:
        config_path: config name with its extension.
        trained: load the trained weights.
        device: where to build it; by default the config's device, or the CPU where CUDA is not available.
    """
    # Configs and addresses are asked for without a model far more often than with one.
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    cfg = get_config(config_path, trained)
    if device is None and not torch.cuda.is_available():
        device = "cpu"
    if isinstance(cfg, CfgNode):
        if device is not None:
            cfg.MODEL.DEVICE = device
        model = build_model(cfg)
        weights = cfg.MODEL.WEIGHTS
    else:
        model = instantiate(cfg.model).to(device or cfg.train.device)
        weights = cfg.train.init_checkpoint
    DetectionCheckpointer(model).load(weights)
    return model
