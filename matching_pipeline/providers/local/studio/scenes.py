"""The six pictures of a pack. Each function draws one from the subject alone."""

from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from matching_pipeline.providers.local.studio.arrays import Values
from matching_pipeline.providers.local.studio.canvas import (
    SIDE,
    Placed,
    axes,
    cast_shadow,
    darken,
    finished,
    ground_shadow,
    paint,
    placed,
    plain,
    put,
    tones_of,
)
from matching_pipeline.providers.local.studio.matte import Box
from matching_pipeline.providers.local.studio.props import INK, card, floor, open_box, rulers, tissue, window_light
from matching_pipeline.providers.local.studio.subject import Subject


def white_background(subject: Subject) -> Image.Image:
    canvas = plain((1, 1, 1))
    product = placed(subject, (0.1, 0.09, 0.9, 0.89))
    shade(canvas, subject, product, strength=0.3)
    put(canvas, product)
    return finished(canvas)


def shade(canvas: Values, subject: Subject, product: Placed, strength: float) -> None:
    """A whole photo lies on the surface as a print does; a product stands on it."""
    if subject.outlined:
        darken(canvas, ground_shadow(product), strength)
    else:
        darken(canvas, cast_shadow(product, 0.004, 0.008, 0.01), strength)


def lifestyle(subject: Subject) -> Image.Image:
    """A wall with light from a window on the left and a wooden floor, in tones of the product."""
    tones = tones_of(subject)
    light_product = tones.lightness > 66
    canvas = plain(tones.shade(63 if light_product else 84, 10))
    across, down = axes()
    canvas *= (1.08 - 0.16 * across - 0.1 * down)[..., None]
    window_light(canvas)
    floor(canvas, tones.wood(52 if light_product else 66), horizon=0.76)
    product = placed(subject, (0.14, 0.1, 0.86, 0.87), standing=True)
    darken(canvas, cast_shadow(product, 0.035, -0.012, 0.02), 0.3)
    darken(canvas, ground_shadow(product, 0.03), 0.5)
    put(canvas, product)
    canvas *= (1.02 - 0.05 * across)[..., None]
    return finished(canvas)


def detail_close_up(subject: Subject) -> Image.Image:
    """The square with the most detail inside the product, as close as the photo's pixels bear, sharpened."""
    height, width = subject.alpha.shape
    side = round(min(max(0.4 * max(height, width), 130 * subject.zoom), 0.8 * min(height, width)))
    lightness = subject.colour.mean(axis=-1)
    steep = np.hypot(*np.gradient(lightness)) * subject.alpha
    step = max(1, side // 24)

    def within(values: Values) -> Values:
        """The sum over each square, by its upper left corner, every `step` pixels."""
        total = np.pad(values.astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
        return np.asarray(sums[::step, ::step])

    score = within(np.minimum(steep, 0.08)) * (within(subject.alpha) / side**2) ** 6
    row, column = (int(place) * step for place in np.unravel_index(score.argmax(), score.shape))
    region = slice(row, row + side), slice(column, column + side)
    alpha = subject.alpha[region][..., None]
    colour = subject.colour[region] * alpha + (1 - alpha) * np.array(tones_of(subject).shade(92, 4), dtype=np.float32)
    crop = Image.fromarray((colour.clip(0, 1) * 255).astype(np.uint8))
    crop = crop.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return crop.filter(ImageFilter.UnsharpMask(radius=4, percent=70, threshold=2))


def scale(subject: Subject) -> Image.Image:
    """The product on a grid of tenths of its longer side. A photo holds no measure, and the picture says so."""
    product = placed(subject, (0.15, 0.07, 0.93, 0.85))
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(sheet)
    left, top, right, bottom = extent(product)
    tenth = max(right - left, bottom - top) / 10
    rulers(draw, (left, top, right, bottom), tenth)
    draw.text(
        (SIDE / 2, SIDE - 34),
        "Grid: tenths of the longer side. Proportions only, no size was measured.",
        fill=INK,
        font=ImageFont.load_default(22),
        anchor="mm",
    )
    canvas = np.asarray(sheet, dtype=np.float32) / 255
    darken(canvas, cast_shadow(product, 0.004, 0.006, 0.008), 0.25)
    put(canvas, product)
    return finished(canvas)


def extent(product: Placed) -> Box:
    """Where the product begins and ends, in pixels."""
    rows = np.flatnonzero((product.alpha > 0.5).any(axis=1))
    columns = np.flatnonzero((product.alpha > 0.5).any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def packaging_flat_lay(subject: Subject) -> Image.Image:
    """From above: the product on tissue paper in an open box, with a card."""
    tones = tones_of(subject)
    canvas = plain(tones.shade(58 if tones.lightness > 66 else 80, 9, turn=0.5))
    across, down = axes()
    canvas *= (1.06 - 0.1 * across - 0.08 * down)[..., None]
    open_box(canvas, tones.wood(62))
    tissue(canvas, tones.shade(95, 3))
    product = placed(subject, (0.17, 0.17, 0.83, 0.83))
    darken(canvas, cast_shadow(product, 0.008, 0.014, 0.012), 0.4)
    put(canvas, product)
    card(canvas, tones.shade(97, 2), tones.shade(45, 25))
    return finished(canvas)


def social_square(subject: Subject) -> Image.Image:
    """A coloured backdrop opposite to the product's hue, with a lighter disc behind it."""
    tones = tones_of(subject)
    backdrop_lightness = 58 if tones.lightness > 66 else 78
    canvas = plain(tones.shade(backdrop_lightness, 19, turn=np.pi * 0.85))
    across, down = axes()
    canvas *= (1.05 - 0.12 * down)[..., None]
    disc = np.clip((0.41 - np.hypot(across - 0.5, down - 0.5)) * SIDE, 0, 1)
    paint(canvas, disc, tones.shade(backdrop_lightness + 9, 14, turn=np.pi * 0.85))
    product = placed(subject, (0.17, 0.17, 0.83, 0.83))
    darken(canvas, cast_shadow(product, 0.012, 0.022, 0.018), 0.35)
    put(canvas, product)
    return finished(canvas)


SCENES: Final[dict[str, Callable[[Subject], Image.Image]]] = {
    scene.__name__: scene
    for scene in (white_background, lifestyle, detail_close_up, scale, packaging_flat_lay, social_square)
}
