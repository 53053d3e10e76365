"""A small marketplace for the demo, drawn by code: products, and rooms of projects that show some of them."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from matching_pipeline.sample_data.canvas import Canvas, Colour, Paint, block
from matching_pipeline.sample_data.catalogue import PRODUCTS, PROJECTS, Product, Setting

NAMESPACE: Final = uuid.UUID("6f1d1c0e-7a53-4f0e-9a3b-2f9f6c1b8d42")
SIDE: Final = 480
WALLS: Final[list[Colour]] = [
    (222, 214, 202),
    (206, 214, 212),
    (226, 208, 196),
    (212, 210, 220),
    (214, 218, 200),
]
FLOORS: Final[list[Colour]] = [(206, 182, 154), (196, 190, 182), (188, 164, 140)]
HORIZONS: Final[dict[Setting, float]] = {"standing": 0.2, "lying": -0.3, "hanging": 0.37}
STUDIO: Final[list[Colour]] = [(238, 236, 232), (230, 226, 218), (228, 232, 236)]


@dataclass(frozen=True)
class SampleEntity:
    """A listing; its ids, and those of its pictures, stay the same from run to run."""

    id: uuid.UUID
    name: str
    pictures: list[tuple[uuid.UUID, Path]]


@dataclass(frozen=True)
class SampleData:
    """`expected` says which product each project must match best: project id -> product id."""

    projects: list[SampleEntity]
    products: list[SampleEntity]
    expected: dict[uuid.UUID, uuid.UUID]


def draw_sample_data(folder: Path) -> SampleData:
    """Writes the pictures that are not yet in the folder, as JPEG, and describes all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    products = {product.name: product for product in PRODUCTS}
    offered = [
        draw_entity(folder, "product", product.name, product, 1 + number % 2)
        for number, product in enumerate(PRODUCTS)
    ]
    projects = [
        draw_entity(folder, "project", name, products[shown], 1 + number % 2)
        for number, (name, shown) in enumerate(PROJECTS.items())
    ]
    ids = {entity.name: entity.id for entity in offered}
    return SampleData(projects, offered, {project.id: ids[PROJECTS[project.name]] for project in projects})


def draw_entity(folder: Path, kind: str, name: str, shown: Product, count: int) -> SampleEntity:
    """A product is painted before a studio backdrop, a project as a room with that product in it."""
    pictures = []
    for number in range(count):
        picture_id = uuid.uuid5(NAMESPACE, f"{kind}/{name}/{number}")
        path = folder / f"{kind}-{name.replace(',', '').replace(' ', '-')}-{number + 1}.jpg"
        if not path.exists():
            random = np.random.default_rng(picture_id.int)
            canvas = Canvas(SIDE)
            if kind == "product":
                paint_studio(canvas, shown, random, closer=number > 0)
            else:
                paint_room(canvas, shown, random, closer=number > 0)
            canvas.picture().save(path, quality=90)
        pictures.append((picture_id, path))
    return SampleEntity(uuid.uuid5(NAMESPACE, f"{kind}/{name}"), name, pictures)


def paint_studio(canvas: Canvas, product: Product, random: np.random.Generator, *, closer: bool) -> None:
    backdrop = STUDIO[random.integers(len(STUDIO))]
    canvas.fill(block(-0.5, -0.5, 0.5, 0.5), Paint(backdrop, lambda across, down: 1.02 - 0.08 * down**2))
    canvas.place(0.5, 0.5, 0.8 if closer else 0.7)
    product.paint(canvas)


def paint_room(canvas: Canvas, product: Product, random: np.random.Generator, *, closer: bool) -> None:
    wall, floor = WALLS[random.integers(len(WALLS))], FLOORS[random.integers(len(FLOORS))]
    horizon = HORIZONS[product.setting]
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
    product.paint(canvas)
    canvas.pixels *= random.uniform(0.92, 1.04) * np.array([1.03, 1.0, random.uniform(0.93, 1.0)])
    canvas.pixels += random.normal(0, 2.0, (canvas.side, canvas.side, 1))
