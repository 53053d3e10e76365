"""The things around the product: light, floor, box, paper, card. Places are shares of the canvas."""

from typing import Final

import numpy as np
from PIL import ImageDraw, ImageFont

from matching_pipeline.providers.local.studio.arrays import Values
from matching_pipeline.providers.local.studio.canvas import SIDE, Rgb, axes, darken, paint, resized, shape
from matching_pipeline.providers.local.studio.matte import Box

Points = list[tuple[float, float]]

INK: Final = (70, 74, 80)
GRID: Final = (226, 229, 233)
BOARDS: Final = 6  # of the floor, across the near edge of the picture


def window_light(canvas: Values) -> None:
    """Four panes of sunlight on the wall, with the shadow of leaves across them."""
    lit = np.zeros((SIDE, SIDE), dtype=np.float32)
    for left, right in ((0.05, 0.3), (0.33, 0.58)):
        for top, bottom in ((-0.05, 0.22), (0.25, 0.56)):
            lean = 0.22
            corners = [
                (left + lean * top, top),
                (right + lean * top, top),
                (right + lean * bottom, bottom),
                (left + lean * bottom, bottom),
            ]
            lit = np.maximum(lit, shape(corners, blur=0.007))
    leaves = np.zeros_like(lit)
    for number, angle in enumerate(np.linspace(-0.5, 1.9, 8)):
        leaves = np.maximum(leaves, shape(leaf(-0.02, 0.12 + 0.02 * number, float(angle), 0.42), blur=0.012))
    canvas *= (1 + 0.13 * lit * (1 - 0.75 * leaves))[..., None]


def leaf(x: float, y: float, angle: float, length: float) -> Points:
    along = np.linspace(0, 1, 20)
    reach = np.concatenate([along, along[::-1]])
    side = 0.035 * np.sin(np.pi * reach**0.8) * np.repeat([1, -1], len(along))
    xs = x + np.cos(angle) * length * reach - np.sin(angle) * side
    ys = y + np.sin(angle) * length * reach + np.cos(angle) * side + 0.1 * reach**2
    return list(zip(xs.tolist(), ys.tolist(), strict=True))


def floor(canvas: Values, wood: Rgb, horizon: float) -> None:
    """Boards that run towards the wall, and a skirting board where they meet it."""
    across, down = axes()
    depth = np.clip((down - horizon) / (1 - horizon), 0, 1)
    along = ((across - 0.5) / (0.55 + 0.45 * depth) + 2) * BOARDS
    board = np.floor(along).astype(int)
    tone = np.random.default_rng(3).uniform(0.94, 1.05, board.max() + 1).astype(np.float32)[board]
    joint = np.minimum(along - board, board + 1 - along) * SIDE / BOARDS
    tone = tone * (1 - 0.18 * np.clip(1.5 - joint, 0, 1))
    tone = tone * (1 + 0.1 * depth - 0.1 * across) * (1 - 0.25 * np.exp(-depth / 0.05))
    below = np.clip((down - horizon) * SIDE, 0, 1) * np.ones_like(across)
    paint(canvas, below, np.array(wood, dtype=np.float32) * tone[..., None])
    top = horizon - 0.035
    paint(canvas, shape([(0, top), (1, top), (1, horizon), (0, horizon)]), (0.95, 0.94, 0.92))
    canvas *= (1 - 0.12 * np.exp(-(((down - top) / 0.003) ** 2)))[..., None]


def rulers(draw: ImageDraw.ImageDraw, box: Box, tenth: float) -> None:
    left, top, right, bottom = box
    font = ImageFont.load_default(19)
    beside, below = left - 30, bottom + 30
    for number in range(round((right - left) / tenth + 0.5) + 1):
        x = left + number * tenth
        draw.line((x, top, x, below), fill=GRID, width=2)
        draw.line((x, below, x, below + (16 if number % 5 == 0 else 9)), fill=INK, width=2)
        draw.text((x, below + 30), str(number), fill=INK, font=font, anchor="mm")
    for number in range(round((bottom - top) / tenth + 0.5) + 1):
        y = bottom - number * tenth
        draw.line((beside, y, right, y), fill=GRID, width=2)
        draw.line((beside, y, beside - (16 if number % 5 == 0 else 9), y), fill=INK, width=2)
        draw.text((beside - 32, y), str(number), fill=INK, font=font, anchor="mm")
    draw.line((beside, top, beside, bottom), fill=INK, width=3)
    draw.line((left, below, right, below), fill=INK, width=3)


def open_box(canvas: Values, board: Rgb) -> None:
    """Four flaps folded out, each with the light of its own slope, and the dark inside."""
    near, far, rim = 0.13, 0.03, 0.015
    low, high = 1 - near, 1 - far
    flaps = [
        ([(near, near), (low, near), (low + 0.02, far), (near - 0.02, far)], 1.05),
        ([(near, near), (near, low), (far, low + 0.02), (far, near - 0.02)], 1.0),
        ([(low, near), (low, low), (high, low + 0.02), (high, near - 0.02)], 0.93),
        ([(near, low), (low, low), (low + 0.02, high), (near - 0.02, high)], 0.9),
    ]
    for corners, light in flaps:
        sheet(canvas, corners, darker(board, light), lift=0.012)
    sheet(canvas, square(near), darker(board, 0.84), lift=0)
    sheet(canvas, square(near + rim), darker(board, 0.6), lift=0)


def square(inset: float) -> Points:
    low = 1 - inset
    return [(inset, inset), (low, inset), (low, low), (inset, low)]


def tissue(canvas: Values, colour: Rgb) -> None:
    """Crumpled paper that fills the box and laps over its rim; each facet has its own light."""
    random = np.random.default_rng(11)
    turns = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    reach = 0.375 / np.maximum(np.abs(np.cos(turns)), np.abs(np.sin(turns))) + random.uniform(-0.02, 0.025, 44)
    outline = list(zip((0.5 + reach * np.cos(turns)).tolist(), (0.5 + reach * np.sin(turns)).tolist(), strict=True))
    along = np.linspace(0, 1, SIDE // 4, dtype=np.float32)
    across, down = along[None, :], along[:, None]
    folds = np.zeros((len(along), len(along)), dtype=np.float32)
    for _ in range(26):
        angle, x, y = random.uniform(0, np.pi), random.uniform(0.13, 0.87), random.uniform(0.13, 0.87)
        distance = (across - x) * np.cos(angle) + (down - y) * np.sin(angle)
        folds += random.uniform(-1, 1) * np.where(distance > 0, np.exp(-distance / 0.09), 0).astype(np.float32)
    facets = resized(np.tanh(folds), (SIDE, SIDE))
    light = 0.97 + 0.035 * facets - 0.12 * (1 - shape(square(0.16), blur=0.03))
    darken(canvas, shape([(x + 0.006, y + 0.012) for x, y in outline], blur=0.01), 0.35)
    paint(canvas, shape(outline), np.array(colour, dtype=np.float32) * light[..., None])


def card(canvas: Values, paper: Rgb, ink: Rgb) -> None:
    """A blank card with a line of ribbon, half out of the box."""
    corners = [(0.76, 0.83), (0.955, 0.8), (0.972, 0.91), (0.777, 0.94)]
    sheet(canvas, corners, paper, lift=0.012)
    ribbon = [(0.848, 0.8165), (0.866, 0.8137), (0.883, 0.9237), (0.865, 0.9265)]
    paint(canvas, shape(ribbon), ink)


def sheet(canvas: Values, corners: Points, colour: Rgb, lift: float) -> None:
    """A flat piece of material, with its shadow if it is lifted."""
    if lift:
        darken(canvas, shape([(x + lift * 0.5, y + lift) for x, y in corners], blur=lift), 0.4)
    paint(canvas, shape(corners), colour)


def darker(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = colour
    return red * factor, green * factor, blue * factor
