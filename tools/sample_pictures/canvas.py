"""A small painting surface: shaded, patterned, anti-aliased polygons and soft shadows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Floats = NDArray[np.float64]
Points = list[tuple[float, float]]
Field = Callable[[Floats, Floats], Floats]
"""A value for each place; across (1 x width) and down (height x 1) run from 0 to 1 over the painted shape."""

OVERSAMPLING: Final = 3


def flat(across: Floats, down: Floats) -> Floats:
    return np.ones((1, 1))


def round_light(across: Floats, down: Floats) -> Floats:
    """Light on an upright cylinder, from the left."""
    return 1.1 - 0.75 * np.abs(across - 0.34) ** 1.6 - 0.08 * down


def ball_light(across: Floats, down: Floats) -> Floats:
    """Light on a ball, from the upper left."""
    return 1.12 - 0.62 * np.hypot(across - 0.34, down - 0.28) ** 1.5


def soft_light(across: Floats, down: Floats) -> Floats:
    """Light on a matt surface, from above."""
    return 1.06 - 0.2 * down - 0.06 * across


@dataclass(frozen=True)
class Paint:
    """A colour under a light, with an accent colour as far as the pattern is 1."""

    colour: Colour
    light: Field = flat
    accent: Colour = (255, 255, 255)
    pattern: Field | None = None


class Canvas:
    """A square picture. Shapes are given around (0, 0); the painted thing is one unit large; y is down."""

    def __init__(self, side: int) -> None:
        self.side = side
        self.pixels: Floats = np.zeros((side, side, 3))
        self.place(0.5, 0.5, 1.0)

    def place(self, x: float, y: float, size: float) -> None:
        """Sets the origin and the unit of the next shapes, as shares of the picture's side."""
        self.origin = np.array([x, y]) * self.side
        self.unit = size * self.side

    def fill(self, points: Points, paint: Paint) -> None:
        outline = np.array(points) * self.unit + self.origin
        left, top = np.clip(np.floor(outline.min(axis=0)), 0, self.side).astype(int)
        right, bottom = np.clip(np.ceil(outline.max(axis=0)), 0, self.side).astype(int)
        if right <= left or bottom <= top:
            return
        cover = coverage(outline - (left, top), int(right - left), int(bottom - top))[..., None]
        (first_x, first_y), (width, height) = outline.min(axis=0), np.ptp(outline, axis=0)
        across = (np.arange(left, right)[None, :] + 0.5 - first_x) / width
        down = (np.arange(top, bottom)[:, None] + 0.5 - first_y) / height
        colour = np.array(paint.colour, dtype=float)
        if paint.pattern is not None:
            share = paint.pattern(across, down)[..., None]
            colour = colour * (1 - share) + np.array(paint.accent) * share
        region = self.pixels[top:bottom, left:right]
        region += cover * (colour * paint.light(across, down)[..., None] - region)

    def shadow(self, x: float, y: float, width: float, height: float, strength: float = 0.45) -> None:
        """Darkens softly around a point; beyond width and height little of the shadow is left."""
        axis = np.arange(self.side) + 0.5
        distance_x = (axis[None, :] - self.origin[0] - x * self.unit) / (width / 2 * self.unit)
        distance_y = (axis[:, None] - self.origin[1] - y * self.unit) / (height / 2 * self.unit)
        self.pixels *= (1 - strength * np.exp(-2 * (distance_x**2 + distance_y**2)))[..., None]

    def glow(self, points: Points, strength: float = 0.05) -> None:
        """Brightens the inside of the outline, as a patch of sunlight does."""
        lit = coverage(np.array(points) * self.unit + self.origin, self.side, self.side)
        self.pixels *= (1 + strength * lit)[..., None]

    def picture(self) -> Image.Image:
        return Image.fromarray(np.clip(self.pixels, 0, 255).astype(np.uint8))


def coverage(outline: Floats, width: int, height: int) -> Floats:
    """The share of each pixel (height x width) that lies within the outline."""
    mask = Image.new("L", (width * OVERSAMPLING, height * OVERSAMPLING))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in outline * OVERSAMPLING], fill=255)
    return np.asarray(mask.reduce(OVERSAMPLING)) / 255


def oval(x: float, y: float, width: float, height: float, squareness: float = 2.0) -> Points:
    """A superellipse: 2 is an ellipse, more is a rectangle with rounded corners."""
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    cosine, sine = np.cos(angles), np.sin(angles)
    power = 2 / squareness
    xs = x + width / 2 * np.sign(cosine) * np.abs(cosine) ** power
    ys = y + height / 2 * np.sign(sine) * np.abs(sine) ** power
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def block(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def turned(profile: Points) -> Points:
    """The rounded outline of a thing turned on a lathe; the profile gives half widths and heights, from the top."""
    heights = np.linspace(profile[0][1], profile[-1][1], 60)
    angular = np.interp(heights, [y for _, y in profile], [half for half, _ in profile])
    window = np.hanning(15)
    widths = np.convolve(np.pad(angular, 7, mode="reflect", reflect_type="odd"), window / window.sum(), "valid")
    right = list(zip(widths.tolist(), heights.tolist(), strict=True))
    return right + [(-x, y) for x, y in reversed(right)]


def stripes(count: float, share: float = 0.5) -> Field:
    """Bands across; the accent covers the given share of each."""
    return lambda across, down: inked(share / 2 - np.abs(cell(down, count)), count)


def bars(count: float, share: float = 0.5) -> Field:
    """Upright bands."""
    return lambda across, down: stripes(count, share)(down, across)


def dots(count: float, radius: float = 0.3) -> Field:
    def field(across: Floats, down: Floats) -> Floats:
        shift = 0.5 / count * np.mod(np.floor(down * count), 2)
        return inked(radius - np.hypot(cell(across + shift, count), cell(down, count)), count)

    return field


def zigzag(count: float, teeth: float) -> Field:
    return lambda across, down: inked(
        0.25 - np.abs(cell(down + 2 * np.abs(cell(across, teeth)) / count, count)), count
    )


def diamonds(count: float) -> Field:
    def field(across: Floats, down: Floats) -> Floats:
        reach = np.abs(cell(across, count)) + np.abs(cell(down, count))
        return inked(0.34 - reach, count) + inked(0.06 - np.abs(reach - 0.44), count)

    return field


def cell(place: Floats, count: float) -> Floats:
    """The place within its repeat of the pattern, from -0.5 to 0.5."""
    return np.asarray(np.mod(place * count, 1) - 0.5)


def inked(inside: Floats, count: float) -> Floats:
    """1 where inside (in repeats of the pattern) is positive and 0 elsewhere, blended in between."""
    return np.asarray(np.clip(inside * 130 / count + 0.5, 0, 1))
