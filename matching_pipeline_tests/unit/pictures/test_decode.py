import random
import struct
import warnings
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.decode import STRIPS, decode, silence_libraries, thumbnail
from matching_pipeline.pictures.memory import Memory
from matching_pipeline_tests.fixtures.heic import RED_WITH_A_BLACK_CORNER, TRANSPARENT

LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "GIF": {},
}
LOSSY: dict[str, dict[str, Any]] = {"JPEG": {"quality": 95}, "AVIF": {"quality": 95}}
FORMATS = LOSSLESS | LOSSY

ORANGE = (255, 128, 0)
WHITE = (255, 255, 255)


def encoded(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    file = BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def close_to(expected: tuple[int, int, int], tolerance: int = 6) -> Any:
    return pytest.approx(expected, abs=tolerance)


def drawing() -> Image.Image:
    """Wider than high, and black in its upper left corner only."""
    picture = Image.new("RGB", (48, 32), ORANGE)
    picture.paste((0, 0, 0), (0, 0, 16, 16))
    return picture


def noise(size: tuple[int, int] = (32, 32)) -> Image.Image:
    """Does not compress, so that a cut through the file is a cut through the pixels."""
    return Image.frombytes("RGB", size, random.Random(1).randbytes(size[0] * size[1] * 3))


@pytest.mark.parametrize(("file_format", "options"), FORMATS.items())
def test_every_format_is_decoded_to_rgb(file_format: str, options: dict[str, Any]) -> None:
    picture = decode(encoded(drawing(), file_format, **options))
    assert (picture.mode, picture.size) == ("RGB", (48, 32))
    assert picture.getpixel((40, 24)) == close_to(ORANGE)
    assert picture.getpixel((4, 4)) == close_to((0, 0, 0))


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "black_corner"),
    [
        (1, (2, 2)),
        (2, (45, 2)),
        (3, (45, 29)),
        (4, (2, 29)),
        (5, (2, 2)),
        (6, (29, 2)),
        (7, (29, 45)),
        (8, (2, 45)),
    ],
)
def test_a_picture_is_turned_as_its_camera_was_held(
    file_format: str, orientation: int, black_corner: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = decode(encoded(drawing(), file_format, exif=exif))
    assert picture.size == ((48, 32) if orientation < 5 else (32, 48))
    assert picture.getpixel(black_corner) == close_to((0, 0, 0), 30)


def test_damaged_exif_data_do_not_spoil_a_picture() -> None:
    data = encoded(drawing(), "JPEG", exif=b"Exif\0\0MM\0*" + b"\xff" * 40)
    assert decode(data).size == (48, 32)


def test_alpha_is_laid_on_white() -> None:
    see_through = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert decode(encoded(see_through, "PNG")).getpixel((0, 0)) == WHITE
    assert decode(encoded(see_through, "WEBP", lossless=True)).getpixel((0, 0)) == WHITE
    assert decode(encoded(half, "PNG")).getpixel((0, 0)) == close_to((127, 127, 127), 1)
    assert decode(encoded(Image.merge("LA", [half.getchannel("R"), half.getchannel("A")]), "PNG")).getpixel(
        (0, 0)
    ) == close_to((127, 127, 127), 1)


@pytest.mark.parametrize(("mode", "transparent"), [("P", 0), ("L", 0), ("1", 0), ("RGB", (0, 0, 0))])
def test_a_transparent_colour_is_white(mode: str, transparent: Any) -> None:
    picture = Image.new(mode, (8, 8), transparent)
    assert decode(encoded(picture, "PNG", transparency=transparent)).getpixel((0, 0)) == WHITE


def test_a_transparent_gif_is_laid_on_white() -> None:
    picture = Image.new("P", (8, 8), 1)
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.putpixel((0, 0), 0)
    result = decode(encoded(picture, "GIF", transparency=0))
    assert (result.getpixel((0, 0)), result.getpixel((4, 4))) == (WHITE, (255, 0, 0))


@pytest.mark.parametrize("options", [{}, {"transparency": 1}])
def test_a_gif_s_first_frame_may_be_a_part_of_its_screen(options: dict[str, Any]) -> None:
    frame = Image.new("P", (20, 20), 0)
    frame.putpalette([255, 0, 0, 0, 0, 0])
    data = bytearray(encoded(frame, "GIF", **options))
    data[6:10] = struct.pack("<HH", 40, 40)
    picture = decode(bytes(data))
    assert (picture.size, picture.getpixel((10, 10)), picture.getpixel((30, 30))) == ((40, 40), (255, 0, 0), WHITE)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_print_colours_become_rgb(file_format: str) -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert decode(encoded(cyan, file_format)).getpixel((8, 8)) == close_to((0, 255, 255))


def test_ycck_becomes_rgb() -> None:
    """Adobe's YCCK is CMYK whose first three inks are stored as YCbCr, as a byte of the Adobe marker says."""
    inks = Image.new("CMYK", (16, 16), (55, 127, 127, 0))  # stored as 200, 128, 128, 255: Y, Cb, Cr of a gray
    data = bytearray(encoded(inks, "JPEG"))
    transform = data.index(b"Adobe") + 11
    data[transform] = 2
    assert decode(bytes(data)).getpixel((8, 8)) == close_to((55, 55, 55))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_sixteen_bits_of_gray_keep_their_range(file_format: str) -> None:
    levels = np.array([[0, 255, 32768, 65535]], dtype=np.uint16)
    picture = decode(encoded(Image.fromarray(levels), file_format))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_gray_of_unknown_range_is_stretched(kind: type[np.generic]) -> None:
    picture = decode(encoded(Image.fromarray(np.array([[-5, 0, 5]], dtype=kind)), "TIFF"))
    assert np.asarray(picture)[0, :, 0].tolist() == [0, 127, 255]


def test_floats_that_are_no_numbers_are_black() -> None:
    levels = np.array([[0, np.nan, np.inf, 1]], dtype=np.float32)
    assert np.asarray(decode(encoded(Image.fromarray(levels), "TIFF")))[0, :, 0].tolist() == [0, 0, 0, 255]


def test_gray_of_sixteen_bits_is_turned_too() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    levels = Image.fromarray(np.zeros((2, 5), dtype=np.uint16))
    assert decode(encoded(levels, "PNG", exif=exif)).size == (2, 5)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "GIF", "BMP"])
def test_black_and_white_becomes_rgb(file_format: str) -> None:
    picture = Image.new("1", (9, 9), 1)
    picture.putpixel((0, 0), 0)
    result = decode(encoded(picture, file_format))
    assert (result.getpixel((0, 0)), result.getpixel((8, 8))) == ((0, 0, 0), WHITE)


@pytest.mark.parametrize(("file_format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_an_animation_gives_its_first_frame(file_format: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], file_format, save_all=True, append_images=frames[1:], **options)
    assert decode(data).getpixel((0, 0)) == (255, 0, 0)


def test_unusual_modes_become_rgb() -> None:
    assert decode(encoded(Image.new("LAB", (8, 8)), "TIFF")).mode == "RGB"
    assert decode(encoded(drawing().convert("YCbCr"), "TIFF")).getpixel((40, 24)) == close_to(ORANGE)


@pytest.mark.parametrize(("file_format", "options"), FORMATS.items())
def test_a_truncated_file_is_refused(file_format: str, options: dict[str, Any]) -> None:
    data = encoded(noise(), file_format, **options)
    for length in (len(data) // 2, len(data) // 4 * 3, 20):
        with pytest.raises(PermanentFailure, match="truncated"):
            decode(data[:length])


@pytest.mark.parametrize(("file_format", "options"), FORMATS.items())
def test_a_picture_that_takes_too_much_memory_is_refused(file_format: str, options: dict[str, Any]) -> None:
    data = encoded(drawing(), file_format, **options)
    assert decode(data, memory=Memory(2 * len(data) + STRIPS + 48 * 32 * 18))
    with pytest.raises(PermanentFailure, match=r"IMAGE_MEMORY_BYTES \(500\)"):
        decode(data, memory=Memory(500))


def test_a_baseline_jpeg_of_200_megapixels_takes_little_memory() -> None:
    data = encoded(Image.new("L", (16_320, 12_240), 100), "JPEG")
    assert decode(data, memory=Memory(24 * 2**20)).size == (1536, 1152)


@pytest.mark.parametrize("options", [{"progressive": True}, {"progressive": True, "subsampling": 0}])
def test_a_progressive_jpeg_takes_memory_for_all_its_coefficients(options: dict[str, Any]) -> None:
    data = encoded(Image.new("RGB", (3200, 3200), ORANGE), "JPEG", **options)
    coefficients = 3200 * 3200 * 2 * (3 if "subsampling" in options else 1.5)
    with pytest.raises(PermanentFailure, match="IMAGE_MEMORY_BYTES"):
        decode(data, memory=Memory(int(coefficients)))
    assert decode(data, memory=Memory(int(coefficients) + 20 * 2**20)).size == (1536, 1536)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "I;16"])
def test_a_large_picture_is_scaled_down_with_its_colours(mode: str) -> None:
    picture = Image.new("RGB", (200, 100), ORANGE)
    picture.paste((0, 0, 0), (0, 0, 100, 100))
    if mode == "I;16":
        picture = Image.fromarray(np.asarray(picture.convert("L"), dtype=np.uint16) * 257)
    elif mode == "P":
        picture = picture.quantize(2)
    else:
        picture = picture.convert(mode)
    result = decode(encoded(picture, "PNG"), side=16)
    grey = (151, 151, 151)
    assert (result.size, result.getpixel((2, 4))) == ((16, 8), (0, 0, 0))
    assert result.getpixel((13, 4)) == close_to(grey if mode in ("L", "I;16") else ORANGE, 2)


@pytest.mark.parametrize("size", [(3000, 20), (20, 3000), (1999, 7)])
def test_a_long_picture_keeps_its_shape(size: tuple[int, int]) -> None:
    assert max(decode(encoded(Image.new("RGB", size), "JPEG"), side=64).size) == 64


def test_a_heic_picture_is_decoded() -> None:
    picture = decode(RED_WITH_A_BLACK_CORNER)
    assert picture.size == (64, 32)
    assert picture.getpixel((50, 20)) == close_to((234, 51, 35))
    assert picture.getpixel((4, 4)) == close_to((0, 0, 0))
    assert decode(TRANSPARENT).getpixel((4, 4)) == WHITE
    with pytest.raises(PermanentFailure, match="truncated HEIC"):
        decode(RED_WITH_A_BLACK_CORNER[:-1])


def test_no_library_writes_to_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence_libraries()
        for valid in [each for each in ENCODED if not each.startswith(b"II")]:  # libtiff writes to it by itself
            for place in range(8, len(valid), 7):
                with suppress(PermanentFailure):
                    decode(valid[:place] + b"\xff\x00" + valid[place + 2 :], memory=Memory(32_000_000))
    assert ([str(each.message) for each in caught], *capfd.readouterr()) == ([], "", "")


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_a_pixel_bomb_is_refused_by_its_header(side: int) -> None:
    data = bytearray(encoded(Image.new("RGB", (1, 1)), "BMP"))
    data[18:26] = struct.pack("<ii", side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PermanentFailure, match="IMAGE_MEMORY_BYTES"):
            decode(bytes(data))


@pytest.mark.parametrize(
    ("data", "appearance"),
    [
        (b"", "zero bytes"),
        (b"<!DOCTYPE html><html><svg></svg></html>", "HTML page, not an image"),
        (b"\xef\xbb\xbf\n <!-- hello --> <HTML lang='en'>", "HTML page, not an image"),
        (b"<h1>Not found</h1>", "HTML page, not an image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<!-- drawn --><svg/>", "SVG"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML"),
        (b'{"error": "not found"}', "JSON"),
        (b"not found", "text"),
        ("nicht gefunden, schöne Grüße".encode(), "text"),
        (b"%PDF-1.7\n%\xe2\xe3", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "damaged or truncated HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL picture, a format that is not supported"),
        (b"\xff\x0a\xfa", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 picture, a format that is not supported"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"8BPS\0\1", "PSD"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "raw camera picture"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "MP4"),
        (b"PK\x03\x04\x14\0", "ZIP"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x01\x02\x03\x04", "any known format"),
    ],
)
def test_a_failure_names_the_appearance_of_bytes_that_are_no_picture(data: bytes, appearance: str) -> None:
    with pytest.raises(PermanentFailure, match=appearance):
        decode(data)


def test_a_page_of_nothing_but_comments_takes_no_time() -> None:
    with pytest.raises(PermanentFailure, match="text"):
        decode(b"<!---->" * 200)


def test_a_supported_format_under_another_name_stays_refused() -> None:
    with pytest.raises(PermanentFailure):
        decode(encoded(drawing(), "ICO"))


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    try:
        assert decode(data).mode == "RGB"
    except PermanentFailure as failure:
        assert str(failure).isprintable()


ENCODED = [
    *(encoded(noise((12, 9)), file_format, **options) for file_format, options in FORMATS.items()),
    encoded(noise((12, 9)).convert("P"), "PNG", transparency=3),
    encoded(noise((12, 9)), "TIFF", compression="tiff_lzw"),
    encoded(noise((12, 9)), "TIFF", compression="jpeg"),
    encoded(noise((12, 9)).convert("CMYK"), "JPEG"),
    encoded(Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)), "PNG"),
    encoded(noise((12, 9)), "GIF", save_all=True, append_images=[noise((12, 9)).convert("L")]),
]


@given(st.sampled_from(ENCODED), st.data())
def test_damaged_pictures_never_raise_anything_else(valid: bytes, draw: st.DataObject) -> None:
    damaged = bytearray(valid)
    for _ in range(draw.draw(st.integers(1, 8))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    try:
        assert decode(bytes(damaged), memory=Memory(32_000_000)).mode == "RGB"
    except PermanentFailure as failure:
        assert str(failure).isprintable()


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape() -> None:
    with Image.open(BytesIO(thumbnail(drawing(), 24))) as small:
        assert (small.format, small.size) == ("JPEG", (24, 16))
    with Image.open(BytesIO(thumbnail(drawing()))) as same:
        assert same.size == (48, 32)
