"""Rows of a model's last layers that belong to a class or a keypoint, and how they pass to a model of other names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from detectron2.config import CfgNode


@dataclass(frozen=True)
class NamedRows:
    """Parameters whose slices along one dimension are, in the order of the names, `per_name` of each, then `others`.

    Attributes:
        pattern: of the whole key of a parameter.
        kind: of the names, "classes" or "keypoints".
        per_name: slices of each name.
        others: slices of no name behind them, as of the background.
        dim: the dimension.
        repeated: all of this again and again, as for each anchor.
    """

    pattern: str
    kind: str = "classes"
    per_name: int = 1
    others: int = 0
    dim: int = 0
    repeated: bool = False


@dataclass(frozen=True)
class RowChange:
    """What became of the rows of a parameter.

    Attributes:
        key: of the parameter.
        kind: of the names, "classes" or "keypoints".
        kept: names whose rows are the file's.
        fresh: the other names of the model; their rows are initialised.
        dropped: the other names of the file.
    """

    key: str
    kind: str
    kept: list[str]
    fresh: list[str]
    dropped: list[str]


def build_named_rows(cfg: CfgNode) -> list[NamedRows]:
    """The named rows of the heads of a config; a head with such rows of its own is an entry here."""
    box, mask, keypoint = (cfg.MODEL[f"ROI_{name}_HEAD"] for name in ("BOX", "MASK", "KEYPOINT"))
    end = r"\.(weight|bias)"
    rows = [NamedRows(r"roi_heads\.box_predictor(\.\d+)?\.cls_score" + end, others=1)]
    rows.append(NamedRows(r"head\.cls_score" + end, repeated=True))  # of RetinaNet
    if not box.CLS_AGNOSTIC_BBOX_REG:
        rows.append(NamedRows(r"roi_heads\.box_predictor\.bbox_pred" + end, per_name=4))
    rows.append(NamedRows(r"roi_heads\.mask_head\.quality\.iou" + end))
    if not mask.CLS_AGNOSTIC_MASK:
        # "logits" are those of BoundaryMaskHead and its stages
        rows.append(NamedRows(r"roi_heads\.mask_head\.(mask_head\.)?(predictor|(stages\.\d+\.)?logits)" + end))
    head = r"roi_heads\.keypoint_head\."
    bins = 1 + 2 * keypoint.COORDINATE.BINS_PER_CELL
    return [
        *rows,
        NamedRows(head + r"(score_lowres|heatmaps)\.weight", "keypoints", dim=1),  # of transposed convolutions
        NamedRows(head + r"(score_lowres|heatmaps)\.bias", "keypoints"),
        NamedRows(head + r"visibility_(weight|bias)", "keypoints"),
        NamedRows(head + r"classifiers\.evidence" + end, "keypoints", per_name=bins),
    ]


def rows_of(key: str, rows: Sequence[NamedRows]) -> NamedRows | None:
    """The entry that describes a parameter, if any."""
    return next((entry for entry in rows if re.fullmatch(entry.pattern, key)), None)


def carry_rows(
    stored: torch.Tensor, initial: torch.Tensor, rows: NamedRows, old: Sequence[str], new: Sequence[str]
) -> torch.Tensor | None:
    """The rows of `stored` at the places of equal names, those of `initial` at the places of names it does not have.

    Args:
        stored: of the file, its names are `old`.
        initial: of the model, its names are `new`.

    Returns:
        of `initial`'s shape; None where a shape is not that of such rows.
    """
    dim = rows.dim
    if stored.dim() != initial.dim() or dim >= initial.dim():
        return None
    sizes = [rows.per_name * len(names) + rows.others for names in (old, new)]
    if rows.repeated:
        if stored.shape[dim] % sizes[0] or initial.shape[dim] % sizes[1]:
            return None
        apart = [tensor.unflatten(dim, (-1, size)) for tensor, size in zip((stored, initial), sizes, strict=True)]
        carried = carry_rows(apart[0], apart[1], replace(rows, dim=dim + 1, repeated=False), old, new)
        return None if carried is None else carried.flatten(dim, dim + 1)
    beside = [[side for axis, side in enumerate(tensor.shape) if axis != dim] for tensor in (stored, initial)]
    if [stored.shape[dim], initial.shape[dim]] != sizes or beside[0] != beside[1]:
        return None
    result = initial.detach().clone()
    for place, name in enumerate(new):
        if name in old:
            there = old.index(name) * rows.per_name
            values = stored.narrow(dim, there, rows.per_name)
            result.narrow(dim, place * rows.per_name, rows.per_name).copy_(values)
    if rows.others:
        result.narrow(dim, sizes[1] - rows.others, rows.others).copy_(
            stored.narrow(dim, sizes[0] - rows.others, rows.others)
        )
    return result


def carry_all_rows(
    weights: dict[str, Any],
    model_state: Mapping[str, torch.Tensor],
    rows: Sequence[NamedRows],
    old: Mapping[str, Sequence[str]],
    new: Mapping[str, Sequence[str]],
) -> list[RowChange]:
    """Give the parameters in `weights` whose rows have names the rows and the order that a model has; in place.

    What does not have the shape of such rows is left alone, but repeated rows that have the model's shape by chance, of
    another number of repetitions, are initialised.

    Args:
        weights: of a file, tensors or arrays by key.
        model_state: the initial values of the model.
        old, new: names by kind in the file and of the model; a kind that either does not know is left alone.

    Returns:
        for each parameter whose names are not the same, whatever their order.
    """
    changes = []
    for key, stored in weights.items():
        entry = rows_of(key, rows)
        if entry is None or key not in model_state or not old.get(entry.kind) or not new.get(entry.kind):
            continue
        before, after = old[entry.kind], new[entry.kind]
        if list(before) == list(after):
            continue
        carried = carry_rows(torch.as_tensor(stored), model_state[key], entry, before, after)
        kept = [] if carried is None else [name for name in after if name in before]
        if carried is None:
            if not entry.repeated or stored.shape != model_state[key].shape:
                continue
            # as many rows, but of another number of anchors: none is at the place of its class
            carried = model_state[key].detach().clone()
        weights[key] = carried
        if set(before) != set(after):
            changes.append(
                RowChange(
                    key,
                    entry.kind,
                    kept=kept,
                    fresh=[name for name in after if name not in kept],
                    dropped=[name for name in before if name not in kept],
                )
            )
    return changes
