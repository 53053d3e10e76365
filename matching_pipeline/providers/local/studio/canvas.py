"""The parts of every scene: tones that suit the product, light, shadow, and the product in its place."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from matching_pipeline.providers.local.studio.arrays import Values
from matching_pipeline.providers.local.studio.matte import Box, plane
from matching_pipeline.providers.local.studio.subject import Subject, in_lab, pixels

SIDE: Final = 1080  # pixels of every picture's sides
SHADOW_STEP: Final = 4  # shadows are soft: they are blurred at a quarter of the size
NEUTRAL_CHROMA: Final = 9.0  # below it a product has no hue of its own
SAND_HUE: Final = 1.25  # radians in the plane of a and b; the hue of paper, sand and wood
Rgb = tuple[float, float, float]


@dataclass(frozen=True)
class Tones:
    """The product's lightness (0 to 100) and hue (radians); a product without a hue gets the hue of sand."""

    lightness: float
    hue: float

    def shade(self, lightness: float, chroma: float, turn: float = 0.0) -> Rgb:
        """A colour of the product's hue, or turned away from it by some radians."""
        hue = self.hue + turn
        return rgb(lightness, chroma * np.cos(hue), chroma * np.sin(hue))

    def wood(self, lightness: float) -> Rgb:
        return rgb(lightness, 7 + 3 * np.cos(self.hue), 16 + 6 * np.sin(self.hue))


def rgb(lightness: float, a: float, b: float) -> Rgb:
    from skimage.color import lab2rgb

    red, green, blue = np.clip(lab2rgb(np.array([[[lightness, a, b]]]))[0, 0], 0, 1)
    return float(red), float(green), float(blue)


def tones_of(subject: Subject) -> Tones:
    small = Image.fromarray((np.clip(subject.colour, 0, 1) * 255).astype(np.uint8)).reduce(12)
    weight = np.asarray(plane(subject.alpha).resize(small.size, Image.Resampling.BOX), dtype=float) + 1e-6
    lightness, a, b = (float(np.average(channel, weights=weight)) for channel in np.moveaxis(in_lab(small), -1, 0))
    hue = float(np.arctan2(b, a)) if np.hypot(a, b) > NEUTRAL_CHROMA else SAND_HUE
    return Tones(lightness, hue)


def plain(colour: Rgb) -> Values:
    return np.full((SIDE, SIDE, 3), colour, dtype=np.float32)


def axes() -> tuple[Values, Values]:
    """How far across (1 x side) and down (side x 1) the canvas each pixel lies, 0 to 1."""
    along = (np.arange(SIDE, dtype=np.float32) + 0.5) / SIDE
    return along[None, :], along[:, None]


@dataclass(frozen=True)
class Placed:
    """The product on the canvas: pixels of the whole canvas, and the box that it fills, in shares of the canvas."""

    colour: Values
    alpha: Values
    box: Box


def placed(subject: Subject, room: Box, *, standing: bool = False) -> Placed:
    """The product as large as fits into the room, in its middle or, standing, at its foot."""
    height, width = subject.alpha.shape
    left, top, right, bottom = (edge * SIDE for edge in room)
    factor = min((right - left) / width, (bottom - top) / height)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    x = round((left + right - size[0]) / 2)
    y = round(bottom - size[1]) if standing else round((top + bottom - size[1]) / 2)
    region = slice(y, y + size[1]), slice(x, x + size[0])
    colour, alpha = np.zeros((SIDE, SIDE, 3), dtype=np.float32), np.zeros((SIDE, SIDE), dtype=np.float32)
    alpha[region] = np.clip(resized(subject.alpha, size), 0, 1)
    colour[region] = np.stack([resized(channel, size) for channel in np.moveaxis(subject.colour, -1, 0)], axis=-1)
    return Placed(colour, alpha, (x / SIDE, y / SIDE, (x + size[0]) / SIDE, (y + size[1]) / SIDE))


def resized(values: Values, size: tuple[int, int]) -> Values:
    return np.asarray(plane(values).resize(size, Image.Resampling.LANCZOS))


def put(canvas: Values, product: Placed) -> None:
    canvas += product.alpha[..., None] * (product.colour - canvas)


def darken(canvas: Values, shade: Values, strength: float) -> None:
    """Takes away light by the shade (side x side, 0 to 1); shadows keep a little of the surface's warmth."""
    canvas *= 1 - strength * shade[..., None] * np.array([1.0, 0.97, 0.94], dtype=np.float32)


def cast_shadow(product: Placed, across: float, down: float, blur: float) -> Values:
    """The product's shadow on a surface close behind it, moved and blurred by shares of the canvas."""
    small = product.alpha[::SHADOW_STEP, ::SHADOW_STEP]
    pixels_a_share = SIDE / SHADOW_STEP
    moved = ndimage.shift(small, (down * pixels_a_share, across * pixels_a_share), order=1)
    return enlarged(ndimage.gaussian_filter(moved, blur * pixels_a_share))


def ground_shadow(product: Placed, depth: float = 0.02) -> Values:
    """The shadow on the ground below a standing product, where its foot is near the ground."""
    alpha = product.alpha[::SHADOW_STEP, ::SHADOW_STEP]
    side = len(alpha)
    ground = product.box[3] * side
    near = alpha[: round(ground)][-max(1, round(0.14 * (product.box[3] - product.box[1]) * side)) :]
    height = np.where(near.max(axis=0) > 0.5, np.argmax(near[::-1] > 0.5, axis=0), 0)
    foot = ground - 0.7 * ndimage.gaussian_filter1d(height.astype(np.float32), 0.01 * side)
    touching = ndimage.gaussian_filter1d(near.max(axis=0), 0.015 * side)
    rows = np.arange(side)[:, None]
    shade = touching * np.exp(-(((rows - foot) / (depth * side)) ** 2))
    return enlarged(ndimage.gaussian_filter(shade, 0.006 * side))


def enlarged(small: Values) -> Values:
    return np.asarray(plane(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 1)


def shape(points: list[tuple[float, float]], blur: float = 0.0) -> Values:
    """1 inside a polygon, 0 outside; the corners and the blur are shares of the canvas."""
    mask = Image.new("L", (SIDE * 2, SIDE * 2))
    ImageDraw.Draw(mask).polygon([(x * SIDE * 2, y * SIDE * 2) for x, y in points], fill=255)
    if blur == 0:
        return pixels(mask.reduce(2))
    return enlarged(ndimage.gaussian_filter(pixels(mask.reduce(2 * SHADOW_STEP)), blur * SIDE / SHADOW_STEP))


def paint(canvas: Values, cover: Values, colour: Rgb | Values) -> None:
    canvas += cover[..., None] * (np.asarray(colour, dtype=np.float32) - canvas)


def finished(canvas: Values) -> Image.Image:
    """Makes a picture with a grain too fine to see: without it a soft gradient shows steps."""
    grain = np.random.default_rng(7).random((SIDE, SIDE, 1), dtype=np.float32)
    levels = np.where(canvas >= 1, 255, canvas * 255 + grain)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))
