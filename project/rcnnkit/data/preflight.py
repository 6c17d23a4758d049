"""Look at the data sets of a run before anything is written: their records and their image files."""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.data.coco_check import check_coco
from rcnnkit.data.images import ImageError, decode, end_is_missing, header
from rcnnkit.data.label_counts import count_labels, has_mask, is_object
from rcnnkit.errors import UserError

logger = logging.getLogger(__name__)


def check_datasets(
    names: Sequence[str], check_images: bool = True, masks_learnt: Sequence[str] = (), masks_judged: Sequence[str] = ()
) -> None:
    """Load every data set once and look at each of its images.

    Args:
        names: registered data set names.
        check_images: whether to open the image files too (header and end of each; pixels only where the end looks cut).
        masks_learnt: those of `names` that a mask head learns from: at least one of their objects has a mask.
        masks_judged: those of `names` whose objects predicted masks are compared with: each needs a mask.

    Raises:
        UserError: the first problem, naming the file, the image id, the value and what to do.
    """
    learnt = 0
    for name in dict.fromkeys(names):
        records = load_records(name)
        if name in masks_judged:
            _check_masks(name, records)
        if name in masks_learnt:
            learnt += count_labels(records).masks
        if check_images:
            _check_images(name, records)
    if masks_learnt and not learnt:
        raise UserError(
            f"{', '.join(masks_learnt)}: no object has a mask (a segmentation); add some, or train boxes only with "
            "MODEL.MASK_ON False"
        )


def load_records(name: str) -> list[dict]:
    """The records of a data set; what goes wrong in its loader becomes a `UserError` that names its annotation file."""
    metadata = MetadataCatalog.get(name)
    json_file = getattr(metadata, "json_file", None)
    try:
        records = DatasetCatalog.get(name)
    except UserError:
        raise
    except Exception as error:
        if json_file is not None and not Path(json_file).is_file():
            raise UserError(
                f"{name}: its annotation file {json_file} is missing; correct the registration or DETECTRON2_DATASETS"
            ) from error
        if json_file is not None:
            check_coco(name, Path(json_file))
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{name}: cannot be loaded: {reason}") from error
    if not records:
        raise UserError(f"{name}: has no images{f' in {json_file}' if json_file else ''}; list at least one")
    return records


def _check_masks(name: str, records: list[dict]) -> None:
    for record in records:
        for position, annotation in enumerate(record.get("annotations", ())):
            if is_object(annotation) and not has_mask(annotation):
                box = [round(float(number), 2) for number in annotation["bbox"]]
                raise UserError(
                    f"{name}: image {record.get('image_id', '?')}, {record['file_name']}: its annotation number "
                    f"{position + 1} with the box {box} has no segmentation, which evaluating masks needs; add it, "
                    "evaluate on other data, or boxes only with MODEL.MASK_ON False"
                )


def _check_images(name: str, records: list[dict]) -> None:
    with ThreadPoolExecutor(max_workers=8) as pool:
        problems = pool.map(image_problem, records)
        shown = tqdm(
            problems, total=len(records), desc=f"checking images of {name}", leave=False, disable=None, delay=1
        )
        for record, problem in zip(records, shown, strict=True):
            if problem:
                pool.shutdown(cancel_futures=True)
                raise UserError(f"{name}: image {record.get('image_id', '?')}, {record['file_name']}: {problem}")
    logger.info("%s: %d images found and of the size that their records say", name, len(records))


def image_problem(record: dict) -> str | None:
    """What is wrong with the image file of a record, or None.

    Only the header and the last bytes are read; a JPEG or PNG without its end marker is decoded to be sure.
    """
    path = Path(record["file_name"])
    try:
        found = header(path)
        if found.unsupported:
            return found.unsupported
        if end_is_missing(path, found.format):
            decode(path)
    except ImageError as error:
        return error.reason
    recorded = (record.get("width", found.width), record.get("height", found.height))
    if recorded != (found.width, found.height):
        return (
            f"is {found.width}x{found.height} (width x height), its record says {recorded[0]}x{recorded[1]}; "
            "correct the annotation"
        )
    return None
