"""How a backbone's batch norms behave, and which of its stages are trained at all."""

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detectron2.layers import FrozenBatchNorm2d
from rcnnkit.errors import UserError, nearest

NORMS = ("", "FrozenBN", "SyncBN")
Convert = Callable[[nn.Module], nn.Module]


def convert_norms(
    net: nn.Module,
    norm: str,
    key: str,
    *,
    frozen: Convert = FrozenBatchNorm2d.convert_frozen_batchnorm,
    synchronised: Convert = nn.SyncBatchNorm.convert_sync_batchnorm,
) -> nn.Module:
    """A network with its batch norms as `norm` says.

    Args:
        net: the network; it is changed.
        norm: one of `NORMS`.
        key: the config key to name in an error.
        frozen, synchronised: convert all batch norms of a module, which may be one itself.

    Raises:
        UserError: an unknown mode, or a mode of batch norms for a network that has none.
    """
    if norm not in NORMS:
        raise UserError(f"{key}: {norm!r} is unknown; choose one of {', '.join(map(repr, nearest(norm, NORMS)))}")
    if not norm:
        return net
    if not any(isinstance(module, _BatchNorm) for module in net.modules()):
        raise UserError(f"{key}: {norm!r}, but this backbone has no batch norm; set it to ''")
    return (frozen if norm == "FrozenBN" else synchronised)(net)


def freeze_stages(
    net: nn.Module,
    freeze_at: int,
    stages: dict[int, str],
    frozen: Convert = FrozenBatchNorm2d.convert_frozen_batchnorm,
) -> None:
    """Take the first part of a network out of training: no gradients, and its batch norms as they are.

    Args:
        net: its modules are registered in the order in which images pass them.
        freeze_at: as MODEL.BACKBONE.FREEZE_AT: 0 nothing, 1 the stem (up to stride 2, or all before the stage of
            stride 4), n > 1 all up to and with the stage of stride 2^n.
        stages: stride → name of the last module of that stage.

    Raises:
        UserError: the stage to stop at is not known.
    """
    if freeze_at < 1:
        return
    names = [name for name, _ in net.named_modules()]
    ends_in_stage = freeze_at > 1 or 2 in stages  # the stem of many models is no stage of stride 2
    last = stages.get(2**freeze_at if ends_in_stage else 4)
    if last not in names and freeze_at <= max(len(bin(stride)) - 3 for stride in stages):
        raise UserError(
            f"MODEL.BACKBONE.FREEZE_AT: {freeze_at}, but of this backbone it is not known where stages lie; set it to 0"
        )
    for name in _passed(names, last, with_last=ends_in_stage):
        module = net.get_submodule(name)
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(module, _BatchNorm):
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, frozen(module))


def _passed(names: list[str], last: str | None, with_last: bool) -> list[str]:
    """The names before `last`, or up to the end of what lies in it; all of them without `last`."""
    passed: list[str] = []
    inside = False
    for name in names:
        inside_now = last is not None and (name == last or name.startswith(f"{last}."))
        if (inside and not inside_now) or (inside_now and not with_last):
            break
        inside = inside_now
        passed.append(name)
    return passed
