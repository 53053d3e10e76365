"""Turns the bytes of a picture of any supported format into upright sRGB pixels."""

import logging
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import Final

from pi_heif.as_plugin import HeifImageFile
from PIL import Image, _imaging
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures import jpeg, png
from matching_pipeline.pictures.appearance import looks_like
from matching_pipeline.pictures.colours import in_srgb
from matching_pipeline.pictures.formats import format_of, webp_size
from matching_pipeline.pictures.memory import DEFAULT_MEMORY, Memory, process_memory
from matching_pipeline.pictures.metadata import Stripped, orientation_of
from matching_pipeline.pictures.shrink import shrunk

# The C library gives such large blocks back to the system at once. It would keep smaller ones, for each thread.
_imaging.set_block_size(40 * 2**20)


def silence_libraries() -> None:
    """What they warn of either fails the picture, or does not matter."""
    for library in ("PIL", "pi_heif"):
        warnings.filterwarnings("ignore", module=rf"{library}\b")
        logging.getLogger(library).setLevel(logging.CRITICAL)


silence_libraries()

OPENERS: Final[dict[str, Callable[[BytesIO], ImageFile]]] = {
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "AVIF": AvifImageFile,
    "HEIC": HeifImageFile,
}
"""Not Image.open: it refuses large pictures by a limit of the whole process, and warns of some."""

BYTES_A_PIXEL: Final = {"WebP": 18, "GIF": 9, "BMP": 4, "TIFF": 9, "AVIF": 12, "HEIC": 9}
"""What decoding takes at most, by measurement. For JPEG and PNG it is computed."""

STRIPS: Final = 8 * 2**20

SIDE: Final = 1536
"""No provider takes a larger picture."""
THUMBNAIL_QUALITY: Final = 80

UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, side: int = SIDE, memory: Memory | None = None) -> Image.Image:
    """The picture in sRGB, mode RGB: turned as its EXIF data say, laid on white, and of an animation the first frame.

    Scaled down to fit into a square of that side. It has no metadata, and those of the file neither fail nor change
    it. Raises PermanentFailure with what is wrong, and nothing else.
    """
    memory = memory or process_memory(DEFAULT_MEMORY)
    try:
        kind = format_of(data)
        if kind is None:
            raise PermanentFailure(looks_like(data))
        small, stripped = _jpeg(data, side, memory) if kind == "JPEG" else _other(kind, data, side, memory)
        upright = in_srgb(small, stripped.profile)
        method = UPRIGHT.get(stripped.orientation)
        return upright if method is None else upright.transpose(method)
    except PermanentFailure:
        raise
    except Exception as error:  # a damaged file can raise any exception: struct.error, KeyError, MemoryError, …
        reason = str(error) or type(error).__name__
        raise PermanentFailure(f"{looks_like(data)}: {reason}") from error


def thumbnail(picture: Image.Image, side: int = 96) -> bytes:
    """A JPEG of the RGB picture that fits into a square. A smaller picture is not enlarged."""
    small = picture.copy()
    small.thumbnail((side, side))
    file = BytesIO()
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return file.getvalue()


def _jpeg(data: bytes, side: int, memory: Memory) -> tuple[Image.Image, Stripped]:
    stripped, frame = jpeg.strip(data)
    with _drafted(stripped.data, side) as picture:
        width, height = JpegImageFile(BytesIO(stripped.data)).size
        pixels = picture.width * picture.height * (1 if picture.mode == "L" else 4)
        coefficients = 2 * width * height * frame.coefficients if frame.is_buffered else 0
        with memory.hold(_around(data) + int(pixels + coefficients)):
            try:
                return shrunk(picture, side), stripped
            except OSError:
                whole = jpeg.completed(stripped.data, frame)
                if whole is None:
                    raise
            with _drafted(whole, side) as picture_with_end:
                return shrunk(picture_with_end, side), stripped


def _drafted(data: bytes, side: int) -> JpegImageFile:
    """Will be decoded at a half, a quarter or an eighth of its size, if that is large enough."""
    picture = JpegImageFile(BytesIO(data))
    width, height = picture.size
    share = min(side / max(width, height), 1)
    picture.draft(None, (max(int(width * share), 1), max(int(height * share), 1)))
    return picture


def _other(kind: str, data: bytes, side: int, memory: Memory) -> tuple[Image.Image, Stripped]:
    stripped = png.strip(data) if kind == "PNG" else Stripped(data)
    if kind == "WebP":
        width, height = webp_size(data)  # opening one takes the memory already
        pixels = width * height * BYTES_A_PIXEL["WebP"]
    else:
        with OPENERS[kind](BytesIO(stripped.data)) as picture:
            pixels = picture.width * picture.height * _bytes_a_pixel(kind, picture)
    with memory.hold(_around(data) + pixels), OPENERS[kind](BytesIO(stripped.data)) as picture:
        if kind == "PNG" and "transparency" in picture.info:
            picture.info["transparency"] = png.transparent_colour(data, picture.info["transparency"])
        if kind in ("WebP", "AVIF", "HEIC", "TIFF"):
            # for the last two the library has turned the pixels already
            exif = picture.info.get("exif") if kind in ("WebP", "AVIF") else None
            stripped = Stripped(b"", picture.info.get("icc_profile"), orientation_of(exif))
        return shrunk(_whole_screen(picture) if kind == "GIF" else picture, side), stripped


def _whole_screen(picture: ImageFile) -> Image.Image:
    """A GIF's first frame may be a part of its screen: the rest is transparent."""
    if not picture.tile or picture.tile[0][1] in (None, (0, 0, *picture.size)):
        return picture
    box = picture.tile[0][1]
    screen = Image.new("RGBA", picture.size)
    screen.paste(picture.convert("RGBA").crop(box), box)
    return screen


def _around(data: bytes) -> int:
    """The file, as it came and without its metadata, and the strips in which the picture is scaled down."""
    return 2 * len(data) + STRIPS


def _bytes_a_pixel(kind: str, picture: ImageFile) -> int:
    if kind == "PNG":
        return {"1": 1, "L": 1, "P": 1, "I;16": 2}.get(picture.mode, 4)
    if picture.mode in ("I", "F"):
        return 16
    deep = kind == "HEIC" and picture.info.get("bit_depth", 8) > 8
    return BYTES_A_PIXEL[kind] + (5 if deep else 0)
