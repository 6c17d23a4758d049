"""Config keys of the backbones of rcnnkit."""

from detectron2.config import CfgNode


def add_backbone_config(cfg: CfgNode) -> None:
    """Keys of MODEL.BACKBONE.NAME build_timm_fpn_backbone and build_mobilenetv3_fpn_backbone.

    Beside them MODEL.FPN.* counts, and MODEL.BACKBONE.FREEZE_AT as for Detectron2's ResNets: 0 freezes nothing, 1 the
    stem, n > 1 all up to and with the stage of stride 2^n.
    """
    own = _common_keys()
    # A model of timm by its name, with or without the tag of its weights: https://huggingface.co/docs/timm
    own.NAME = "resnet50"
    # Share of the residual branches that are left out at random in training, at the last block; linearly less before it
    # (0 to 1, exclusive). Huang et al., "Deep networks with stochastic depth", ECCV 2016, https://arxiv.org/abs/1603.09382
    own.DROP_PATH_RATE = 0.0
    # Whether stages keep no activations for the backward pass but compute them again: less memory, about a third more
    # time. Chen et al., "Training deep nets with sublinear memory cost", 2016, https://arxiv.org/abs/1604.06174
    own.CHECKPOINT_ACTIVATIONS = False
    cfg.MODEL.TIMM = own

    own = _common_keys()
    # "large" or "small": Howard et al., "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244
    own.SIZE = "large"
    # Factor of all numbers of channels (no unit, above 0); weights are published for 1.0.
    own.WIDTH = 1.0
    cfg.MODEL.MOBILENET = own


def _common_keys() -> CfgNode:
    own = CfgNode()
    # Strides of the feature maps, in pixels, each twice the one before; stride 2^i is named res<i> in FPN.IN_FEATURES.
    own.OUT_STRIDES = (4, 8, 16, 32)
    # "": batch norms as the model has them, trained; "FrozenBN": their statistics and factors stay as in the weights,
    # as in Detectron2's ResNets; "SyncBN": statistics over the batches of all processes.
    own.NORM = ""
    # True: images reach the backbone as they did when its weights were trained (RGB or BGR, mean, deviation), whatever
    # INPUT.FORMAT (RGB or BGR), PIXEL_MEAN and PIXEL_STD are. False: as these three say.
    own.OWN_STATISTICS = True
    # File of weights to begin with: of the same model from timm or torchvision, or a checkpoint of Detectron2 with this
    # backbone (.pth, .safetensors, .pkl). Used where MODEL.WEIGHTS, which holds the whole network, is empty.
    own.WEIGHTS = ""
    # Whether to download the published weights instead; nothing is fetched unless this is True.
    own.PRETRAINED = False
    return own
