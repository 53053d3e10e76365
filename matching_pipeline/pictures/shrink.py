"""Scales a decoded picture down, strip by strip, so that no second copy of its size is made."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRIP_LINES: Final = 64
"""of the picture that is made"""


def shrunk(picture: Image.Image, side: int) -> Image.Image:
    """Fits into a square of that side, in mode L, LA, RGB, RGBA, CMYK or LAB. A smaller picture is not enlarged."""
    picture.load()
    darkest, brightest = _extremes(picture)
    factor = max(max(picture.size) // side, 1)
    if factor == 1:
        small = _plain(picture, darkest, brightest)
    else:
        step = factor * STRIP_LINES
        size = (-(-picture.width // factor), -(-picture.height // factor))
        small = Image.new("1", (0, 0))
        for top in range(0, picture.height, step):
            strip = picture.crop((0, top, picture.width, min(top + step, picture.height)))
            reduced = _plain(strip, darkest, brightest).reduce(factor)
            if not top:
                small = Image.new(reduced.mode, size)
            small.paste(reduced, (0, top // factor))
    small.thumbnail((side, side))
    return small


def _extremes(picture: Image.Image) -> tuple[float, float]:
    if picture.mode not in ("I", "F"):
        return 0, 255
    levels = _numbers(picture)
    return float(levels.min()), float(levels.max())


def _numbers(picture: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(picture, dtype=np.float32), posinf=0, neginf=0)


def _plain(picture: Image.Image, darkest: float, brightest: float) -> Image.Image:
    """The picture with eight bits a channel, and an alpha channel if any pixel may be transparent.

    Sixteen bits of grey have a known range. Integers of 32 bits and floats have none, so their values are stretched.
    """
    mode = picture.mode
    if mode.startswith("I;16"):
        levels = np.asarray(picture)
        grey = Image.fromarray((levels >> 8).astype(np.uint8))
        if "transparency" in picture.info:
            opaque = levels != picture.info["transparency"]
            grey.putalpha(Image.fromarray(opaque.astype(np.uint8) * 255))
        return grey
    if mode in ("I", "F"):
        stretched = (_numbers(picture) - darkest) * (255 / ((brightest - darkest) or 1))
        return Image.fromarray(stretched.clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        return picture.convert("LA" if mode in ("1", "L", "LA", "La") else "RGBA")
    if mode in ("L", "CMYK", "LAB"):
        return picture.copy()
    return picture.convert("L" if mode == "1" else "RGB")
