"""Stopping at a loss that is no number, before the weights are spoilt by it."""

from collections.abc import Mapping

import torch

from detectron2.utils import comm


def check_losses_are_finite(loss_dict: Mapping[str, torch.Tensor], iteration: int) -> None:
    """All processes stop together: the main one must not save weights that another one's loss has spoilt.

    Args:
        loss_dict: scalar losses of this process.
        iteration: for the message.

    Raises:
        FloatingPointError: a loss of this or another process is infinite or NaN.
    """
    if not loss_dict:
        return
    with torch.no_grad():
        finite = torch.isfinite(torch.stack([loss.detach().float().sum() for loss in loss_dict.values()])).all()
        if comm.get_world_size() > 1:
            everywhere = finite.to(torch.int32)
            torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
            if everywhere.item() and finite.item():
                return
        elif finite.item():
            return
    raise non_finite_loss_error(
        {name: loss.detach().float().sum().item() for name, loss in loss_dict.items()}, iteration
    )


def non_finite_loss_error(losses: Mapping[str, float], iteration: int) -> FloatingPointError:
    """The error with the iteration and each loss."""
    return FloatingPointError(f"Loss became infinite or NaN at iteration={iteration}!\nloss_dict = {dict(losses)}")
