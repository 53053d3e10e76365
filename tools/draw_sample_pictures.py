"""Draws the demo's pictures into the package: `python -m tools.draw_sample_pictures [FOLDER]`."""

import sys
from pathlib import Path
from typing import Final

import numpy as np

from matching_pipeline.sample_data.listings import SHOWN, sample_marketplace
from matching_pipeline.settings import SAMPLE_PICTURES
from tools.sample_pictures.canvas import Canvas, Colour, Paint, block
from tools.sample_pictures.paintings import PAINTINGS, Painting, Placement

SIDE: Final = 480
JPEG_QUALITY: Final = 80
WALLS: Final[list[Colour]] = [
    (222, 214, 202),
    (206, 214, 212),
    (226, 208, 196),
    (212, 210, 220),
    (214, 218, 200),
]
FLOORS: Final[list[Colour]] = [(206, 182, 154), (196, 190, 182), (188, 164, 140)]
HORIZONS: Final[dict[Placement, float]] = {"standing": 0.2, "lying": -0.3, "hanging": 0.37}
BACKDROPS: Final[list[Colour]] = [(238, 236, 232), (230, 226, 218), (228, 232, 236)]


def main(folder: Path = SAMPLE_PICTURES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    market = sample_marketplace()
    scenes = [
        *((product.pictures, PAINTINGS[product.name], paint_studio) for product in market.products),
        *((project.pictures, PAINTINGS[SHOWN[project.name]], paint_room) for project in market.projects),
    ]
    for pictures, painting, paint in scenes:
        for number, picture in enumerate(pictures):
            canvas = Canvas(SIDE)
            paint(canvas, painting, np.random.default_rng(picture.id.int), closer=number > 0)
            canvas.picture().save(folder / picture.file.name, quality=JPEG_QUALITY, optimize=True)


def paint_studio(canvas: Canvas, painting: Painting, random: np.random.Generator, *, closer: bool) -> None:
    """The product before a backdrop."""
    backdrop = BACKDROPS[random.integers(len(BACKDROPS))]
    canvas.fill(block(-0.5, -0.5, 0.5, 0.5), Paint(backdrop, lambda across, down: 1.02 - 0.08 * down**2))
    canvas.place(0.5, 0.5, 0.8 if closer else 0.7)
    painting.paint(canvas)


def paint_room(canvas: Canvas, painting: Painting, random: np.random.Generator, *, closer: bool) -> None:
    """The product in a room with sunlight."""
    wall, floor = WALLS[random.integers(len(WALLS))], FLOORS[random.integers(len(FLOORS))]
    horizon = HORIZONS[painting.placement]
    canvas.fill(block(-0.5, -0.5, 0.5, 0.5), Paint(wall, lambda across, down: 1.04 - 0.12 * across - 0.04 * down))
    canvas.fill(block(-0.5, horizon, 0.5, 0.5), Paint(floor, lambda across, down: 0.86 + 0.16 * down - 0.06 * across))
    canvas.fill(
        block(-0.5, horizon - 0.035, 0.5, horizon),
        Paint((240, 236, 228), lambda across, down: 1 - 0.1 * across),
    )
    sun = random.uniform(-0.42, 0.1)
    for pane in (sun, sun + 0.17):
        canvas.glow([(pane, -0.5), (pane + 0.15, -0.5), (pane + 0.05, horizon - 0.04), (pane - 0.1, horizon - 0.04)])
    x, y = random.uniform(0.46, 0.54), random.uniform(0.47, 0.52)
    canvas.place(x, y, random.uniform(0.66, 0.72) if closer else random.uniform(0.56, 0.62))
    painting.paint(canvas)
    canvas.pixels *= random.uniform(0.92, 1.04) * np.array([1.03, 1.0, random.uniform(0.93, 1.0)])
    canvas.pixels += random.normal(0, 2.0, (canvas.side, canvas.side, 1))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
