"""`rcnnkit data convert`: a data set of any format as COCO or as YOLO."""

import argparse
from pathlib import Path

from rcnnkit.cli.data_source import add_source, read_source, tell
from rcnnkit.data.labelled import LabelledData, ProblemLog
from rcnnkit.data.parts import Parts
from rcnnkit.data.writers.coco import write_coco
from rcnnkit.data.writers.pictures import MODES, picture_names, place_pictures
from rcnnkit.data.writers.yolo import TASKS, write_yolo
from rcnnkit.errors import UserError
from rcnnkit.files import whole_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--to", required=True, choices=["coco", "yolo"], help="format to write")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="a new folder; nothing is overwritten")
    add_pictures(parser, "copy")
    parser.add_argument(
        "--task",
        default="auto",
        choices=["auto", *TASKS],
        help="yolo: boxes, polygons or keypoints (default: what is labelled)",
    )


def add_pictures(parser: argparse.ArgumentParser, default: str) -> None:
    """What is done with the images."""
    chosen = parser.add_mutually_exclusive_group()
    texts = {
        "copy": "copy the images into the new folder",
        "link": "make hard links to the images instead of copies",
        "leave": "leave the images where they are (COCO only)",
    }
    for mode in MODES:
        text = texts[mode] + (" (default)" if mode == default else "")
        chosen.add_argument(f"--{mode}", dest="pictures", action="store_const", const=mode, help=text)
    parser.set_defaults(pictures=default)


def run(arguments: argparse.Namespace) -> int:
    """Write the folder, and tell what the format cannot hold."""
    if arguments.to == "yolo" and arguments.pictures == "leave":
        raise UserError("--leave: YOLO finds labels by the place of the images; copy or --link them")
    found = read_source(arguments)
    tell(found.problems, "what could not be read, and is not written:")
    problems = ProblemLog()
    if arguments.to == "yolo":
        parts = found.distinct(keypoints=arguments.task == "pose")
        written = write_yolo(parts, arguments.out, problems, task=arguments.task, images=arguments.pictures)
        tell(problems, "what YOLO cannot hold as it is:")
        folders = ", ".join(f"{folder} {count} images" for folder, count in written.images.items())
        print(f"{arguments.out / 'data.yaml'}: {written.task}: {folders}, {written.objects} objects")
        left = [str(name) for name in found.parts if name not in parts]
        if left:
            print(f"not written, other labels of the same images: {', '.join(left)}; name one with --split")
        if "val" not in written.images:
            print("Ultralytics also wants a part to validate on: divide the data first with rcnnkit data split")
        return 0
    print(write_parts(found, found.parts, arguments.out, arguments.pictures, problems))
    tell(problems, "what COCO cannot hold, and is not written:")
    return 0


def write_parts(
    found: Parts, parts: dict[str | None, LabelledData], out: Path, pictures: str, problems: ProblemLog
) -> str:
    """Write each part as a COCO JSON file, and the images; a text that says what was written."""
    files = list(dict.fromkeys(record["file_name"] for data in parts.values() for record in data.records))
    names = picture_names(files)
    lines = []
    with whole_folder(out) as draft:
        place_pictures({file: draft / "images" / name for file, name in names.items()}, pictures)
        for split, data in parts.items():
            file = f"{'annotations' if split is None else str(split).replace('/', '_')}.json"
            if pictures == "leave":
                write_coco(data, draft / file, images_folder(found), problems=problems)
            else:
                listed = [f"images/{names[record['file_name']]}" for record in data.records]
                write_coco(data, draft / file, file_names=listed, problems=problems)
            counts = f"{len(data.records)} images, {data.num_annotations()} objects"
            lines.append(f"{out / file}: {counts}")
    if pictures == "leave":
        folder = images_folder(found)
        lines.append(f"the images stay in {folder}: say so with `images` in DATASETS.CUSTOM, or --images {folder}")
    return "\n".join(lines)


def images_folder(found: Parts) -> Path:
    """The folder that file names are relative to."""
    return found.tree.images_root or found.tree.root
