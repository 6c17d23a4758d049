"""Take the masks of some objects out of a COCO file, to see what is learnt from partly labelled data.

    python datasets/remove_masks.py datasets/shapes/annotations/shapes_train.json output/half_masks --share 0.5

writes, with the same ids,

    <output>/partly.json     all objects; those drawn have a box only (`segmentation` [], COCO's way to say so)
    <output>/leftout.json    without objects that have no mask: Detectron2's own training stops at them

Both have the images that have objects left, as Detectron2 takes them (DATALOADER.FILTER_EMPTY_ANNOTATIONS).
"""

import argparse
import json
import random
import sys
from pathlib import Path

from rcnnkit.errors import UserError
from rcnnkit.files import write_bytes


def remove_masks(content: dict, share: float, seed: int) -> tuple[dict, dict]:
    """The contents of partly.json and leftout.json.

    Args:
        content: of a COCO file; it is not changed.
        share: of the objects with masks that lose theirs, rounded to a whole number of them, 0 to 1. Crowds are none.
        seed: of the draw, which does not depend on the order of the annotations.
    """
    ids = sorted(one["id"] for one in content["annotations"] if one.get("segmentation") and not one.get("iscrowd"))
    drawn = set(random.Random(seed).sample(ids, round(share * len(ids))))
    partly = [{**one, "segmentation": []} if one["id"] in drawn else one for one in content["annotations"]]
    kept = [one for one in partly if one.get("segmentation") or one.get("iscrowd")]
    return _of_images_with(partly, content), _of_images_with(kept, content)


def _of_images_with(annotations: list[dict], content: dict) -> dict:
    used = {one["image_id"] for one in annotations}
    return {**content, "images": [one for one in content["images"] if one["id"] in used], "annotations": annotations}


def main(arguments: list[str] | None = None) -> int:
    """Write both files; bad input is one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="remove_masks.py", description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="COCO annotations")
    parser.add_argument("output", type=Path, help="folder for the two files")
    parser.add_argument("--share", type=float, default=0.5, help="of the objects (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: %(default)s)")
    parsed = parser.parse_args(arguments)
    try:
        if not 0 <= parsed.share <= 1:
            raise UserError(f"--share {parsed.share}: give a share from 0 to 1")
        try:
            content = json.loads(parsed.json.read_text(encoding="utf-8"))
            files = remove_masks(content, parsed.share, parsed.seed)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{parsed.json}: no COCO annotations ({type(error).__name__}: {error})") from error
        for name, written in zip(("partly", "leftout"), files, strict=True):
            write_bytes(parsed.output / f"{name}.json", json.dumps(written, separators=(",", ":")).encode())
            objects, images = len(written["annotations"]), len(written["images"])
            print(f"{parsed.output / name}.json: {objects} objects in {images} images")
    except (UserError, OSError) as error:
        print(f"remove_masks.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
