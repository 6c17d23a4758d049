"""Weights that a backbone begins with, from a file of timm, torchvision or Detectron2, and what is made of them."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from rcnnkit.errors import UserError
from rcnnkit.weight_files import read_weights

logger = logging.getLogger(__name__)

LISTED = 6  # how many names of a kind a message has
DETECTRON2_PREFIX = re.compile(r"^backbone\.bottom_up\.(net\.)?")
# Detectron2's names of a ResNet's parts, and those of torchvision and timm.
RESNET_NAMES = (
    (r"^stem\.(conv1\.norm|conv1)\.", lambda found: "bn1." if "norm" in found[1] else "conv1."),
    (r"^res(\d)\.", lambda found: f"layer{int(found[1]) - 1}."),
    (r"\.conv(\d)\.norm\.", lambda found: f".bn{found[1]}."),
    (r"\.shortcut\.norm\.", lambda found: ".downsample.1."),
    (r"\.shortcut\.", lambda found: ".downsample.0."),
)


@dataclass(frozen=True)
class MatchReport:
    """The tensors of a backbone by what became of them, and what the file had besides.

    Attributes:
        taken: names in the backbone whose tensor is the file's.
        missing: names in the backbone that the file does not have.
        mis_shaped: those that it has in another shape, with both shapes.
        unused: names in the file that the backbone does not have, as those of a classifier.
    """

    taken: list[str]
    missing: list[str]
    mis_shaped: list[str]
    unused: list[str]

    def __str__(self) -> str:
        total = len(self.taken) + len(self.missing) + len(self.mis_shaped)
        return (
            f"{len(self.taken)} of the backbone's {total} tensors taken; missing {_listed(self.missing)}; "
            f"of another shape {_listed(self.mis_shaped)}; not used {_listed(self.unused)}"
        )


def _listed(names: list[str]) -> str:
    if not names:
        return "none"
    return f"{len(names)} ({', '.join(names[:LISTED])}{', …' if len(names) > LISTED else ''})"


def fill_from_file(net: nn.Module, path: str, key: str) -> MatchReport:
    """Copy the tensors of a weight file into a network; on the meta device, only compare them.

    Args:
        net: the network.
        path: a local file; see `rcnnkit.weight_files.read_weights`.
        key: the config key that named the file.

    Raises:
        UserError: the file cannot be read, or fills less than half of the network's tensors.
    """
    try:
        tensors = read_weights(Path(path))
    except UserError as error:
        raise UserError(f"{key} {error}") from error
    report = fill(net, tensors)
    if len(report.taken) <= len(report.missing) + len(report.mis_shaped):
        raise UserError(f"{key} {path}: is of another architecture: {report}; give the weights of this backbone")
    log = logger.warning if report.missing or report.mis_shaped else logger.info
    log(f"{key} {path}: {report}")
    return report


@torch.no_grad()
def fill(net: nn.Module, tensors: dict[str, torch.Tensor]) -> MatchReport:
    """Copy tensors into a network where name and shape agree.

    Names agree when they differ in dots and underscores only: timm joins the first two parts of a name when it makes a
    feature extractor of a model.
    """
    tensors = _without_detectron2_names(tensors)
    by_name = {_plain(name): name for name in tensors}
    used: set[str] = set()
    taken, missing, mis_shaped = [], [], []
    for name, tensor in net.state_dict().items():
        source = by_name.get(_plain(name))
        if name.endswith("num_batches_tracked"):
            used |= {source} if source else set()
        elif source is None:
            missing.append(name)
        elif tensors[source].shape != tensor.shape:
            used.add(source)
            mis_shaped.append(f"{name} {tuple(tensors[source].shape)} instead of {tuple(tensor.shape)}")
        else:
            used.add(source)
            taken.append(name)
            if not tensor.is_meta:
                tensor.copy_(tensors[source])
    unused = [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]
    return MatchReport(taken, missing, mis_shaped, unused)


def _plain(name: str) -> str:
    """A name without what its maker put around and between its parts."""
    return DETECTRON2_PREFIX.sub("", name).removeprefix("model.").replace(".", "_")


def _without_detectron2_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a Detectron2 ResNet under the names of torchvision's and timm's; others as they are."""
    plain = {DETECTRON2_PREFIX.sub("", name): tensor for name, tensor in tensors.items()}
    if "stem.conv1.norm.weight" not in plain:
        return tensors
    logger.warning(
        "The weights are those of a Detectron2 ResNet: names are converted. Those of its model zoo (R-50.pkl, MSRA) "
        "were trained with strides in the 1 × 1 convolutions and with other pixel statistics, which is not converted"
    )
    converted = {}
    for name, tensor in plain.items():
        for pattern, replacement in RESNET_NAMES:
            name = re.sub(pattern, replacement, name)
        converted[name] = tensor
    return converted


def warn_of_frozen_chance(cfg, section: str) -> None:
    """Say so when stages are frozen that were never trained."""
    own = cfg.MODEL[section]
    frozen = cfg.MODEL.BACKBONE.FREEZE_AT > 0 or own.NORM == "FrozenBN"
    if frozen and not (cfg.MODEL.WEIGHTS or own.WEIGHTS or own.PRETRAINED):
        logger.warning(
            f"MODEL.BACKBONE.FREEZE_AT {cfg.MODEL.BACKBONE.FREEZE_AT}, MODEL.{section}.NORM {own.NORM!r}: what stays "
            f"as it is was never trained; name weights with MODEL.{section}.WEIGHTS, or set 0 and ''"
        )


def wants_initial_weights(cfg, section: str) -> bool:
    """Whether the backbone's own weights count: MODEL.WEIGHTS, loaded later, holds the whole network."""
    own = cfg.MODEL[section]
    if own.WEIGHTS and own.PRETRAINED:
        raise UserError(f"MODEL.{section}.PRETRAINED: True and MODEL.{section}.WEIGHTS {own.WEIGHTS}; give one of them")
    if cfg.MODEL.WEIGHTS and (own.WEIGHTS or own.PRETRAINED):
        logger.info(f"MODEL.{section}.WEIGHTS and PRETRAINED are not used: MODEL.WEIGHTS has the backbone too")
        return False
    return bool(own.WEIGHTS or own.PRETRAINED)


def not_fetched(section: str, what: str, error: Exception) -> UserError:
    """What to say where published weights cannot be had."""
    words = str(error).strip().splitlines()
    reason = (words[0] if words else type(error).__name__)[:200]
    return UserError(
        f"MODEL.{section}.PRETRAINED: the weights of {what} cannot be fetched ({reason}); download them where "
        f"there is a network and name the file with MODEL.{section}.WEIGHTS, or set it to False"
    )
