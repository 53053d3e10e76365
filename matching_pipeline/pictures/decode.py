"""Turns the bytes of a picture of any supported format into upright RGB pixels."""

from io import BytesIO

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.appearance import looks_like

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
DEFAULT_MAX_PIXELS = 40_000_000
THUMBNAIL_QUALITY = 80

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> Image.Image:
    """The picture in mode RGB: turned as its EXIF data say, laid on white, and of an animation the first frame.

    Raises PermanentFailure with what is wrong, and nothing else. `max_pixels` is the setting IMAGE_MAX_PIXELS.
    Above some 178 million pixels, Pillow's own limit applies.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            if picture.width * picture.height > max_pixels:
                raise PermanentFailure(
                    f"{picture.width} x {picture.height} pixels, over IMAGE_MAX_PIXELS ({max_pixels})"
                )
            picture.load()
            return _on_white(_eight_bit(_upright(picture)))
    except PermanentFailure:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PermanentFailure(f"over IMAGE_MAX_PIXELS ({max_pixels}): {error}") from error
    except UnidentifiedImageError as error:
        raise PermanentFailure(looks_like(data)) from error
    except Exception as error:  # damage shows in any exception: struct.error, KeyError, MemoryError, …
        reason = str(error) or type(error).__name__
        raise PermanentFailure(f"{looks_like(data)}: {reason}") from error


def thumbnail(picture: Image.Image, side: int = 96) -> bytes:
    """A JPEG of the RGB picture that fits into a square. A smaller picture is not enlarged."""
    small = picture.copy()
    small.thumbnail((side, side))
    file = BytesIO()
    small.save(file, "JPEG", quality=THUMBNAIL_QUALITY)
    return file.getvalue()


def _upright(picture: Image.Image) -> Image.Image:
    # Not by ImageOps.exif_transpose: it rewrites the EXIF data, and fails where they are damaged.
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return picture
    method = UPRIGHT.get(orientation)
    return picture if method is None else picture.transpose(method)


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Scales gray of more than eight bits, which Pillow would clip, to eight. Other pictures stay as they are.

    Sixteen bits have a known range. Integers of 32 bits and floats have none, so their values are stretched.
    """
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        levels = np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)
        darkest, brightest = float(levels.min()), float(levels.max())
        stretched = (levels - darkest) * (255 / ((brightest - darkest) or 1))
        return Image.fromarray(stretched.clip(0, 255).astype(np.uint8))
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
