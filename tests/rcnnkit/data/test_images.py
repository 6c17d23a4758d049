"""Every mode of images and every EXIF orientation, written and read back; headers; refusals."""

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from rcnnkit.config import add_rcnnkit_config
from rcnnkit.data import images
from rcnnkit.data.images import ImageError, header, read_image, upright_size
from rcnnkit.data.mapper import LabelMapper
from rcnnkit.data.preflight import image_problem

# 2 rows × 3 columns
RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 100, 50], [255, 255, 255]]], np.uint8)
GREY = np.array([[0, 1, 100], [128, 254, 255]], np.uint8)
# What brings the stored array upright, by EXIF's orientation, as the standard words it (row 0 is at the top, ...).
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def as_colour(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(grey, np.uint8)[:, :, None], 3, axis=2)


def saved(tmp_path, image: Image.Image, name: str = "a.png", **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


def with_orientation(tmp_path, pixels, name, orientation, **options):
    exif = Image.Exif()
    exif[274] = orientation
    return saved(tmp_path, Image.fromarray(pixels), name, exif=exif, **options)


class TestModes:
    def test_rgb(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(RGB))
        assert np.array_equal(read_image(path, "RGB"), RGB)
        assert np.array_equal(read_image(path, "BGR"), RGB[:, :, ::-1])
        assert np.array_equal(read_image(path), RGB)
        assert read_image(path, "L").shape == (2, 3, 1)

    def test_grey(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(GREY))
        assert np.array_equal(read_image(path, "BGR"), as_colour(GREY))
        assert np.array_equal(read_image(path, "L"), GREY[:, :, None])
        assert np.array_equal(read_image(path), GREY)

    def test_one_bit(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(GREY > 100))
        assert header(path).bits == 1
        assert np.array_equal(read_image(path, "BGR"), as_colour(np.where(GREY > 100, 255, 0)))

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
    def test_16_bit_grey_keeps_its_upper_byte(self, tmp_path, suffix):
        values = np.array([[0, 255, 256], [511, 32768, 65535]], np.uint16)
        path = saved(tmp_path, Image.fromarray(values), f"a{suffix}")
        assert np.array_equal(read_image(path, "BGR"), as_colour([[0, 0, 1], [1, 128, 255]]))
        assert header(path).unsupported is None

    def test_16_bit_grey_with_the_white_of_a_12_bit_camera(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(np.array([[0, 15, 16], [2048, 4095, 60000]], np.uint16)))
        assert read_image(path, "L", white_16bit=4095)[:, :, 0].tolist() == [[0, 0, 1], [128, 255, 255]]

    def test_16_bit_colour_keeps_its_upper_bytes(self, tmp_path):
        rows = b"".join(b"\0" + (RGB[row].astype(int) * 256 + 7).astype(">u2").tobytes() for row in range(2))
        path = tmp_path / "a.png"
        path.write_bytes(png((b"IHDR", struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))))
        assert header(path).bits == 16
        assert np.array_equal(read_image(path, "RGB"), RGB)

    def test_32_bit_values_within_16_bits(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(np.array([[0, 256, 65535]], np.int32)), "a.tif")
        assert read_image(path, "L")[:, :, 0].tolist() == [[0, 1, 255]]

    @pytest.mark.parametrize("values", [[[0, 65536]], [[-1, 5]]])
    def test_32_bit_values_beyond_are_refused(self, tmp_path, values):
        path = saved(tmp_path, Image.fromarray(np.array(values, np.int32)), "a.tif")
        with pytest.raises(ImageError, match=r"a\.tif: has values from -?\d+ to \d+"):
            read_image(path, "BGR")

    def test_floating_point_is_refused(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(np.ones((2, 3), np.float32)), "a.tif")
        assert "32-bit pixels of mode F" in header(path).unsupported
        assert "32-bit pixels of mode F" in image_problem({"file_name": str(path)})
        with pytest.raises(ImageError, match="mode F"):
            read_image(path, "BGR")

    def test_palette_becomes_its_colours(self, tmp_path):
        indexed = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
        indexed.putpalette([9, 8, 7, 250, 0, 5, 1, 2, 3])
        for options in ({}, {"transparency": 0}, {"transparency": b"\x00\x80\xff"}):
            path = saved(tmp_path, indexed, **options)
            assert read_image(path, "RGB").tolist() == [[[9, 8, 7], [250, 0, 5], [1, 2, 3]]]

    def test_alpha_is_dropped(self, tmp_path):
        alpha = np.array([[0, 1, 100], [128, 254, 255]], np.uint8)
        path = saved(tmp_path, Image.fromarray(np.dstack([RGB, alpha])))
        assert np.array_equal(read_image(path, "RGB"), RGB)
        assert np.array_equal(read_image(path), RGB)
        path = saved(tmp_path, Image.fromarray(np.dstack([GREY, alpha]), "LA"), "b.png")
        assert np.array_equal(read_image(path, "RGB"), as_colour(GREY))

    def test_colour_key_is_dropped(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(RGB), transparency=(255, 0, 0))
        assert np.array_equal(read_image(path, "RGB"), RGB)

    def test_cmyk(self, tmp_path):
        inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255], [0, 255, 255, 0]]], np.uint8)
        path = saved(tmp_path, Image.fromarray(inks, "CMYK"), "a.tif")
        assert read_image(path, "RGB").tolist() == [[[255, 255, 255], [0, 255, 255], [0, 0, 0], [255, 0, 0]]]

    def test_cmyk_jpeg(self, tmp_path):
        red = np.tile(np.array([0, 255, 255, 0], np.uint8), (16, 16, 1))
        path = saved(tmp_path, Image.fromarray(red, "CMYK"), "a.jpg", quality=95)
        assert np.abs(read_image(path, "RGB").astype(int) - [255, 0, 0]).max() <= 3

    def test_first_of_several_pictures(self, tmp_path):
        pages = [Image.fromarray(GREY), Image.fromarray(GREY[:, :2])]
        path = saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])
        assert np.array_equal(read_image(path), GREY)

    def test_yuv_is_as_the_engine_gives_it(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(as_colour(GREY)))
        assert np.allclose(read_image(path, "YUV-BT.601")[:, :, 0], GREY / 255)


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO(b"\x89PNG\r\n\x1a\n")
    out.seek(0, io.SEEK_END)
    for kind, data in (*chunks, (b"IEND", b"")):
        out.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
    return out.getvalue()


def forbid_decoding(monkeypatch):
    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)


class TestOrientation:
    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_once_in_every_format(self, tmp_path, suffix, orientation):
        blocks = np.kron(RGB, np.ones((16, 16, 1), np.uint8))
        options = {".webp": {"lossless": True}, ".jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
        path = with_orientation(tmp_path, blocks, f"a{suffix}", orientation, **options)
        expected = UPRIGHT[orientation](blocks)
        assert upright_size(path) == (expected.shape[1], expected.shape[0])
        found = header(path)
        assert (found.orientation, found.stored_width, found.stored_height) == (orientation, 48, 32)
        difference = np.abs(read_image(path, "RGB").astype(int) - expected)
        assert difference.max() <= (12 if suffix == ".jpg" else 0)
        assert image_problem({"file_name": str(path), "width": expected.shape[1], "height": expected.shape[0]}) is None

    @pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
    def test_header_decodes_nothing(self, tmp_path, suffix, monkeypatch):
        path = with_orientation(tmp_path, RGB, f"a{suffix}", 6)
        forbid_decoding(monkeypatch)
        assert upright_size(path) == (2, 3)

    def test_png_with_exif_behind_its_pixels(self, tmp_path):
        exif = Image.Exif()
        exif[274] = 6
        start = (b"IHDR", struct.pack(">IIBBBBB", 3, 2, 8, 0, 0, 0, 0))
        pixels = (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in GREY)))
        path = tmp_path / "a.png"
        path.write_bytes(png(start, pixels, (b"eXIf", exif.tobytes()[6:])))
        assert upright_size(path) == (2, 3)
        assert np.array_equal(read_image(path), np.rot90(GREY, -1))

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_orientation_that_is_none(self, tmp_path, value):
        path = with_orientation(tmp_path, RGB, "a.png", value)
        assert upright_size(path) == (3, 2)
        assert np.array_equal(read_image(path, "RGB"), RGB)

    def test_broken_exif(self, tmp_path):
        path = saved(tmp_path, Image.fromarray(RGB), "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff broken")
        assert upright_size(path) == (3, 2)
        assert read_image(path, "RGB").shape == (2, 3, 3)

    def test_the_same_in_training_and_evaluation(self, tmp_path):
        """Header, reading, training and evaluation see one picture; boxes are in its frame."""
        from detectron2.config import get_cfg

        blocks = np.kron(RGB, np.ones((16, 16, 1), np.uint8))
        path = with_orientation(tmp_path, blocks, "a.jpg", 6, quality=95)
        width, height = upright_size(path)
        record = {"file_name": str(path), "width": width, "height": height, "image_id": 1}
        box = {"bbox": [1, 2, 30, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        cfg = get_cfg()
        add_rcnnkit_config(cfg)
        picture = read_image(path, cfg.INPUT.FORMAT)
        arguments = {"augmentations": [T.NoOpTransform()], "image_format": cfg.INPUT.FORMAT}
        for is_train in (True, False):
            item = LabelMapper(is_train, **arguments)({**record, "annotations": [box]})
            assert np.array_equal(item["image"].numpy().transpose(1, 2, 0), picture)
            assert (item["width"], item["height"]) == (width, height) == (32, 48)
            if is_train:
                assert item["instances"].gt_boxes.tensor.tolist() == [[1, 2, 30, 40]]


class TestRefusals:
    def test_missing(self, tmp_path):
        for read in (upright_size, read_image):
            with pytest.raises(ImageError, match=r"a\.png: the file is missing"):
                read(tmp_path / "a.png")

    def test_folder(self, tmp_path):
        with pytest.raises(ImageError, match="cannot be opened"):
            read_image(tmp_path)

    def test_no_image(self, tmp_path):
        path = tmp_path / "a.png"
        path.write_text("<html>")
        for read in (upright_size, read_image):
            with pytest.raises(ImageError, match=r"is not an image that can be read \(6 bytes\)"):
                read(path)

    def test_empty(self, tmp_path):
        (tmp_path / "a.jpg").touch()
        with pytest.raises(ImageError, match=r"not an image that can be read \(0 bytes\)"):
            upright_size(tmp_path / "a.jpg")

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
    def test_truncated(self, tmp_path, suffix):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        path = saved(tmp_path, Image.fromarray(noise), f"a{suffix}")
        whole = path.read_bytes()
        for end in range(0, len(whole) - 20, len(whole) // 40):  # without a PNG's end alone the pixels are whole
            path.write_bytes(whole[:end])
            with pytest.raises(ImageError, match="replace the file"):
                read_image(path, "BGR")

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    def test_every_byte_changed(self, tmp_path):
        """Damage anywhere is either read over or an ImageError."""
        rng = np.random.default_rng(0)
        for suffix in (".png", ".jpg", ".tif"):
            path = with_orientation(tmp_path, RGB, f"a{suffix}", 6)
            whole = path.read_bytes()
            for position in range(0, len(whole), 3):
                path.write_bytes(whole[:position] + bytes([rng.integers(256)]) + whole[position + 1 :])
                for read in (header, read_image):
                    with contextlib.suppress(ImageError):
                        read(path)

    def test_pixel_cap_comes_before_decoding(self, tmp_path, monkeypatch):
        path = saved(tmp_path, Image.fromarray(RGB))
        assert read_image(path, max_pixels=6).shape == (2, 3, 3)
        forbid_decoding(monkeypatch)
        with pytest.raises(ImageError, match=r"has 6 pixels, more than the 5 that RCNNKIT\.MAX_IMAGE_PIXELS allows"):
            read_image(path, max_pixels=5)

    def test_header_of_a_decompression_bomb(self, tmp_path):
        """60,000 × 60,000 pixels in a hundred bytes: its size is told, its pixels are not decoded, limits stay."""
        path = tmp_path / "a.png"
        start = (b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
        path.write_bytes(png(start, (b"IDAT", zlib.compress(b"\0" * 1000))))
        limit = Image.MAX_IMAGE_PIXELS
        assert upright_size(path) == (60000, 60000)
        with pytest.raises(ImageError, match="has 3600000000 pixels"):
            read_image(path)
        assert limit == Image.MAX_IMAGE_PIXELS

    def test_cap_above_pillows(self, tmp_path, monkeypatch):
        path = saved(tmp_path, Image.fromarray(RGB))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
        assert np.array_equal(read_image(path, "RGB"), RGB)

    def test_defaults_are_the_configs(self):
        from detectron2.config import get_cfg

        cfg = get_cfg()
        add_rcnnkit_config(cfg)
        assert images.MAX_IMAGE_PIXELS == cfg.RCNNKIT.MAX_IMAGE_PIXELS
        assert images.WHITE_16BIT == cfg.RCNNKIT.WHITE_16BIT

    def test_error_survives_a_worker(self):
        """torch builds the error anew from its text in the training process."""
        assert str(ImageError("a.png: is no image")) == "a.png: is no image"


@pytest.mark.realdata
def test_real_headers_agree_with_pixels(real_data):
    files = sorted(real_data.glob("coco_mini/val2017/*.jpg"))[:10] + sorted(real_data.glob("nuclei/*/images/*.png"))[:5]
    assert len(files) == 15
    for path in files:
        height, width, _ = read_image(path, "BGR").shape
        assert upright_size(path) == (width, height)
