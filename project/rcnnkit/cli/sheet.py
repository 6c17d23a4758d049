"""`rcnnkit sheet`: a contact sheet of a registered data set, plain above and with its annotations below."""

import argparse
from pathlib import Path

import cv2

from detectron2.data import DatasetCatalog, MetadataCatalog
from rcnnkit.errors import UserError, nearest
from rcnnkit.files import write_picture
from rcnnkit.inference.drawing import contact_sheet, draw_objects, objects_of_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", default="shapes_train", help="a registered data set (default: %(default)s)")
    parser.add_argument(
        "--output", default="output/sheet.png", type=Path, help="the picture to write (default: %(default)s)"
    )
    parser.add_argument("--columns", default=8, type=int, help="pictures in a row (default: %(default)s)")
    parser.add_argument("--rows", default=3, type=int, help="rows of each kind (default: %(default)s)")
    parser.add_argument("--scale", default=1, type=int, help="enlargement (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Draw the first pictures of a data set whose pictures have one size."""
    if arguments.dataset not in DatasetCatalog.list():
        known = ", ".join(nearest(arguments.dataset, DatasetCatalog.list()))
        raise UserError(f"--dataset {arguments.dataset}: not registered; nearest: {known}")
    records = DatasetCatalog.get(arguments.dataset)[: arguments.rows * arguments.columns]
    names = MetadataCatalog.get(arguments.dataset).thing_classes
    plain, annotated = [], []
    for record in records:
        picture = cv2.imread(record["file_name"])
        if picture is None:
            raise UserError(f"{record['file_name']}: cannot be read as an image")
        plain.append(cv2.resize(picture, None, fx=arguments.scale, fy=arguments.scale, interpolation=cv2.INTER_CUBIC))
        annotated.append(draw_objects(picture, objects_of_record(record), names, arguments.scale))
    if len({picture.shape for picture in plain}) > 1:
        raise UserError(f"--dataset {arguments.dataset}: its pictures differ in size; a contact sheet needs one size")
    write_picture(arguments.output, contact_sheet(plain + annotated, arguments.columns))
    print(f"{arguments.output}: {len(plain)} pictures of {arguments.dataset}, plain and with annotations")
    return 0
