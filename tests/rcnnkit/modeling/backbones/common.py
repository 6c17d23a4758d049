"""Small backbones of four families, random weights."""

from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_backbone
from rcnnkit.config import add_rcnnkit_config

TIMM, MOBILENET = "build_timm_fpn_backbone", "build_mobilenetv3_fpn_backbone"


def config(builder: str, **own) -> CfgNode:
    """Detectron2's FPN on a backbone of rcnnkit, on the CPU, nothing frozen; `own` are keys of its section."""
    cfg = get_cfg()
    add_rcnnkit_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.NAME = builder
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 8
    section = cfg.MODEL.TIMM if builder == TIMM else cfg.MODEL.MOBILENET
    for key, value in own.items():
        assert key in section
        section[key] = value
    return cfg


def timm_backbone(name: str, **own):
    return build_backbone(config(TIMM, NAME=name, **own))


def mobilenet(**own):
    return build_backbone(config(MOBILENET, **own))
