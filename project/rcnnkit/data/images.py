"""Image files: what their headers say, and their pixels by one set of rules wherever rcnnkit reads them.

The rules:

- **Orientation.** The EXIF orientation (or XMP's, as Pillow reads both) is applied exactly once; sizes and pixels are
  those of the upright picture. A broken EXIF block counts as none.
- **Grey** (1, 8 or 16 bits) becomes three equal channels where colour is asked for.
- **16-bit grey** is scaled by a fixed level, not by what the picture holds, so that equal values stay equal from one
  picture to the next: `value * 256 // (white + 1)`, for the default white of 65535 the upper byte, which is also what
  Pillow makes of 16-bit colour. Cameras of 12 bits want white = 4095 (`RCNNKIT.WHITE_16BIT`); what is above is white.
- **Palette** becomes the colours that its indices stand for.
- **Alpha**, also a palette's or a colour key, is dropped: the colours beneath are what Detectron2 itself and most
  tools train on, and a background to composite on would be an invention.
- **CMYK** and YCbCr become RGB by Pillow's formulas, without colour profiles.
- **Several pictures in one file** (TIFF pages, animations, MPO): the first.
- **Refused**: 32-bit values above 65535 or below 0, floating-point and Lab pictures, which have no defined white or
  would need a profile; and files of more pixels than a cap, before anything is decoded.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from detectron2.data.detection_utils import convert_PIL_to_numpy

# The size from which Pillow itself refuses a file as a decompression bomb; as RGB it takes half a gibibyte.
MAX_IMAGE_PIXELS = 178_956_970
WHITE_16BIT = 65535

EXIF_ORIENTATION = 274
SWAPPED_ORIENTATIONS = (5, 6, 7, 8)  # EXIF 2.32, tag 0x0112: rows and columns change places
UPRIGHT = {  # what brings a picture that is stored under each value upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}

GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "HSV"})
PNG_SIGNATURE_BYTES = 8
PNG_METADATA = frozenset({b"eXIf", b"tEXt", b"zTXt", b"iTXt"})
_bomb_check = threading.Lock()


class ImageError(ValueError):
    """An image file that cannot be used. `reason` says why and what to do; the text begins with the file's name."""

    def __init__(self, path: str | Path, reason: str = ""):
        super().__init__(f"{path}: {reason}" if reason else str(path))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its picture before any pixel is decoded.

    `stored_width` and `stored_height` are of the rows as stored, `width` and `height` of the upright picture; `mode` is
    Pillow's, `bits` those of one channel, `orientation` EXIF's 1 to 8 (1: as stored).
    """

    format: str
    mode: str
    stored_width: int
    stored_height: int
    orientation: int
    bits: int

    @property
    def width(self) -> int:
        """Pixels across, upright."""
        return self.stored_height if self.orientation in SWAPPED_ORIENTATIONS else self.stored_width

    @property
    def height(self) -> int:
        """Pixels down, upright."""
        return self.stored_width if self.orientation in SWAPPED_ORIENTATIONS else self.stored_height

    @property
    def unsupported(self) -> str | None:
        """Why pictures of this depth or of these channels are refused, and what to do; None where they are read."""
        if self.mode in GREY_MODES or self.mode in COLOUR_MODES:
            return None
        return (
            f"has {self.bits}-bit pixels of mode {self.mode}, which are not read; "
            "save it as 8-bit or 16-bit grey, or as RGB"
        )


def upright_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels of the picture as it is seen, from the header.

    Raises:
        ImageError: (a ValueError) the file is missing or no image.
    """
    found = header(path)
    return found.width, found.height


def header(path: str | Path) -> Header:
    """What the file's header says; no pixel is decoded, whatever the size.

    Raises:
        ImageError: (a ValueError) the file is missing or no image.
    """
    with opened(path) as image:
        size = image.size
        if image.format == "TIFF":  # newer versions of Pillow turn the size of a TIFF, older ones do not
            size = (image.tag_v2[256], image.tag_v2[257])  # type: ignore[attr-defined]
        return Header(image.format or "", image.mode, *size, _orientation(image), _bits(image))


def read_image(
    path: str | Path,
    format: str | None = None,
    *,
    max_pixels: int = MAX_IMAGE_PIXELS,
    white_16bit: int = WHITE_16BIT,
) -> np.ndarray:
    """The upright picture by the rules of this module.

    Args:
        path: the file.
        format: as Detectron2's `INPUT.FORMAT`: "BGR", "RGB", "L", "YUV-BT.601" or another mode of Pillow's; None: "L"
            for grey files, else "RGB".
        max_pixels: more than these are refused before decoding.
        white_16bit: value of 16-bit grey that becomes white.

    Returns:
        (H, W, 3) uint8, (H, W, 1) for "L", (H, W) for None and grey, floats for "YUV-BT.601".

    Raises:
        ImageError: (a ValueError) missing, no image, truncated, too large, or of a depth that is not read.
    """
    with opened(path, max_pixels) as image:
        image.load()
        turn = UPRIGHT.get(_loaded_orientation(image))
    picture = image if image.mode in ("RGB", "L", format) else _eight_bits(image, path, white_16bit)
    return convert_PIL_to_numpy(picture if turn is None else picture.transpose(turn), format)


def decode(path: str | Path, max_pixels: int = MAX_IMAGE_PIXELS) -> None:
    """Decode all pixels, to know whether they can be.

    Raises:
        ImageError: (a ValueError) they cannot, or are more than `max_pixels`.
    """
    with opened(path, max_pixels) as image:
        image.load()


def end_is_missing(path: str | Path, image_format: str) -> bool:
    """Whether the last bytes of a JPEG or PNG lack its end marker: it is probably cut, decode it to know."""
    marker = END_MARKERS.get(image_format)
    if marker is None:
        return False
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 64))
        return marker not in file.read()


@contextmanager
def opened(path: str | Path, max_pixels: int | None = None) -> Iterator[Image.Image]:
    """The file, opened by Pillow and not yet decoded; what goes wrong then or inside the block as `ImageError`.

    Raises:
        ImageError: (a ValueError) also where it has more than `max_pixels`, if these are given.
    """
    try:
        with _open_any_size(path) as image:
            pixels = image.size[0] * image.size[1]
            if max_pixels is not None and pixels > max_pixels:
                raise ImageError(
                    path,
                    f"has {pixels} pixels, more than the {max_pixels} that RCNNKIT.MAX_IMAGE_PIXELS allows; "
                    "tile or shrink it, or raise the limit",
                )
            yield image
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(path, "the file is missing; put it there or correct file_name") from None
    except UnidentifiedImageError:
        size = os.path.getsize(path)
        raise ImageError(path, f"is not an image that can be read ({size} bytes); replace the file") from None
    except (PermissionError, IsADirectoryError) as error:
        raise ImageError(path, f"cannot be opened ({error.strerror}); correct the file") from None
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        # Pillow's plugins raise any of these at damaged files
        raise ImageError(path, f"is truncated or damaged ({error}); replace the file") from error


def _open_any_size(path: str | Path) -> Image.Image:
    """`Image.open` without its check for decompression bombs: a header is harmless, and reading has its own cap."""
    try:
        return Image.open(path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        with _bomb_check:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                return Image.open(path)
            finally:
                Image.MAX_IMAGE_PIXELS = limit


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8, of an opened file; pixels stay undecoded wherever possible."""
    try:
        if image.format == "PNG" and not _has_late_metadata(image):
            # a PNG's own getexif decodes the pixels to see what comes behind them
            value = Image.Image.getexif(image).get(EXIF_ORIENTATION)
        else:
            value = image.getexif().get(EXIF_ORIENTATION)
    except Exception:  # broken EXIF blocks raise anything from SyntaxError to struct.error; the pixels are still good
        return 1
    return value if value in UPRIGHT else 1  # type: ignore[return-value]


def _loaded_orientation(image: Image.Image) -> int:
    """EXIF's orientation that is still to be applied to loaded pixels; newer versions of Pillow turn a TIFF's."""
    try:
        return image.getexif().get(EXIF_ORIENTATION, 1)
    except Exception:
        return 1


def _has_late_metadata(image: Image.Image) -> bool:
    """Whether a PNG has text or EXIF chunks behind its pixels. Leaves the file where it was."""
    file = image.fp  # type: ignore[attr-defined]
    assert file is not None
    position = file.tell()
    try:
        file.seek(PNG_SIGNATURE_BYTES)
        in_pixels = False
        while len(start := file.read(8)) == 8:
            kind = start[4:]
            if kind == b"IEND":
                return False
            if in_pixels and kind in PNG_METADATA:
                return True
            in_pixels = in_pixels or kind == b"IDAT"
            file.seek(int.from_bytes(start[:4], "big") + 4, os.SEEK_CUR)  # the chunk and its checksum
        return False
    finally:
        file.seek(position)


def _bits(image: Image.Image) -> int:
    """Bits of one channel as stored; Pillow's mode hides those of 16-bit colour."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(258, (1,))))  # type: ignore[attr-defined]
    if image.mode == "1":
        return 1
    if ";16" in image.mode or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        return 16
    return 32 if image.mode in ("I", "F") else 8


def _eight_bits(image: Image.Image, path: str | Path, white: int) -> Image.Image:
    """A loaded picture of any mode as "L" or "RGB", by the rules of this module."""
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.dtype.itemsize > 2:
            low, high = int(values.min()), int(values.max())
            if low < 0 or high > WHITE_16BIT:
                raise ImageError(path, f"has values from {low} to {high}; save it with 16 or 8 bits")
        scaled = values.astype(np.uint32) * 256 // (white + 1)
        return Image.fromarray(np.minimum(scaled, 255).astype(np.uint8))
    if image.mode in GREY_MODES:
        return image.convert("L")
    if image.mode in COLOUR_MODES:
        return image.convert("RGB")
    raise ImageError(path, f"has pixels of mode {image.mode}, which are not read; save it as grey or RGB")
