"""One list of classes for all data sets of a run: united by name, in the order in which the data sets come."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence

from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from rcnnkit.data.keypoints import keypoint_metadata
from rcnnkit.data.labelled import Skeleton, class_index
from rcnnkit.data.registration import number_images, registered, serve
from rcnnkit.errors import UserError, nearest

logger = logging.getLogger(__name__)
# Catalogued data sets that are served with other classes than their own: the function and metadata as registered.
_originals: dict[str, tuple[Callable[[], list[dict]], Metadata]] = {}


def own_classes(name: str) -> list[str]:
    """The classes of a registered data set itself; empty where its metadata name none."""
    entry = registered(name)
    if entry:
        return list(entry.data.classes)
    metadata = _original(name)[1]
    if metadata.get("thing_classes") is None and metadata.get("json_file"):
        DatasetCatalog.get(name)  # Detectron2's loader puts the classes of the file into the metadata
    return list(metadata.get("thing_classes") or ())


def unite(names: Sequence[str]) -> list[str]:
    """The classes of all data sets: those of the first in its order, then what each next one adds."""
    return list(dict.fromkeys(one for name in names for one in own_classes(name)))


def serve_with_classes(train: Sequence[str], test: Sequence[str], classes: Sequence[str]) -> None:
    """Serve all data sets with the classes of the model, mapped by name.

    Args:
        train: data sets to train on; their classes are among `classes`.
        test: data sets to evaluate on; they may have fewer classes.
        classes: of the model, in its order.

    Raises:
        UserError: a data set has classes that the model does not, or the same class has other keypoints in another set.
    """
    names = [name for name in dict.fromkeys((*train, *test)) if name in DatasetCatalog.list()]
    for name in names:
        if own_classes(name):
            _compare(name, own_classes(name), classes)
    keypoints = _united_keypoints(names, list(classes))
    for name in names:
        if registered(name):
            serve(name, list(classes), keypoints, is_learnt=name in train)
        elif own_classes(name):
            _serve_catalogued(name, list(classes))


def _compare(name: str, own: Sequence[str], classes: Sequence[str]) -> None:
    unknown = [one for one in own if one not in classes]
    missing = [one for one in classes if one not in own]
    if unknown:
        free = missing or classes
        near = "; ".join(f"{one!r} (nearest: {', '.join(map(repr, nearest(one, free, 2)))})" for one in unknown[:6])
        more = f" and {len(unknown) - 6} more" if len(unknown) > 6 else ""
        raise UserError(
            f"{name}: has classes that the model does not have: {near}{more}. The model has {len(classes)}: "
            f"{', '.join(classes[:12])}{', …' if len(classes) > 12 else ''}. Rename them in the data, leave them "
            "out or merge them by an entry of DATASETS.CUSTOM (classes, merge, ignore)"
        )
    if missing:
        listed = ", ".join(missing[:12]) + (", …" if len(missing) > 12 else "")
        logger.info("%s: has %d of the model's %d classes; without %s", name, len(own), len(classes), listed)


def _united_keypoints(names: Sequence[str], classes: list[str]) -> dict:
    """Keypoint metadata for all data sets of one's own together."""
    places = class_index(classes)
    skeletons: dict[int, Skeleton] = {}
    seen_in: dict[int, str] = {}
    for name in names:
        entry = registered(name)
        if entry is None:
            continue
        for own, skeleton in entry.data.skeletons.items():
            place = places[entry.data.classes[own]]
            known = skeletons.setdefault(place, skeleton)
            seen_in.setdefault(place, name)
            if known.names != skeleton.names:
                raise UserError(
                    f"{name}: the keypoints of {classes[place]!r} are {', '.join(skeleton.names)}, but those of "
                    f"{seen_in[place]} {', '.join(known.names)}; name them alike: DATASETS.CUSTOM, keypoints"
                )
    united = keypoint_metadata(skeletons, classes)
    for name in names:
        found = None if registered(name) or not united else MetadataCatalog.get(name).get("keypoint_names")
        if found and tuple(found) != united["keypoint_names"]:
            raise UserError(
                f"{name}: its keypoints are {', '.join(found)}, but those of the other data sets are "
                f"{', '.join(united['keypoint_names'])}; name them alike by keypoints of a DATASETS.CUSTOM entry"
            )
    return united


def _original(name: str) -> tuple[Callable[[], list[dict]], Metadata]:
    """Function and metadata of a catalogued data set as it was registered."""
    if name in _originals and not _is_ours(DatasetCatalog[name]):
        del _originals[name]  # registered anew by somebody else
    return _originals.get(name) or (DatasetCatalog[name], MetadataCatalog.get(name))


def _is_ours(function: Callable) -> bool:
    return getattr(function, "func", None) is _mapped


def _mapped(name: str, function: Callable[[], list[dict]], targets: list[int]) -> list[dict]:
    """The function's records with other classes; meanwhile the catalog has the metadata that the function knows."""
    served = MetadataCatalog.get(name)
    MetadataCatalog[name] = _originals[name][1]
    try:
        records = function()
    finally:
        MetadataCatalog[name] = served
    mapped = [
        {**record, "annotations": [{**a, "category_id": targets[a["category_id"]]} for a in record["annotations"]]}
        if "annotations" in record
        else dict(record)
        for record in records
    ]
    number_images(mapped)
    return mapped


def _serve_catalogued(name: str, classes: list[str]) -> None:
    """Serve a catalogued data set with the model's classes; with its own again where they are the same."""
    function, metadata = _original(name)
    own = list(metadata.thing_classes)
    if own == classes:
        if name in _originals:
            _replace(name, *_originals.pop(name))
        return
    _originals[name] = (function, metadata)
    changed = {key: value for key, value in metadata.as_dict().items() if key not in ("name", "json_file")}
    changed["thing_classes"] = classes
    changed["thing_dataset_id_to_contiguous_id"] = {place + 1: place for place in range(len(classes))}
    changed["evaluator_type"] = "coco"
    changed["served_classes"] = True  # the evaluation needs a file of its own
    targets = [class_index(classes)[one] for one in own]
    _replace(name, functools.partial(_mapped, name, function, targets), Metadata(name=name).set(**changed))


def _replace(name: str, function: Callable[[], list[dict]], metadata: Metadata) -> None:
    DatasetCatalog.remove(name)
    DatasetCatalog.register(name, function)
    MetadataCatalog.remove(name)
    MetadataCatalog[name] = metadata
