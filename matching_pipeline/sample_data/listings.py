"""The demo's marketplace: products, and projects of which each shows one product in a room.

`tools/draw_sample_pictures.py` draws the pictures.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from matching_pipeline.settings import SAMPLE_PICTURES

NAMESPACE: Final = uuid.UUID("6f1d1c0e-7a53-4f0e-9a3b-2f9f6c1b8d42")

PRODUCTS: Final = (
    "gourd lamp, ochre shade",
    "column lamp, linen drum",
    "dome pendant, teal",
    "bell pendant, copper",
    "striped rug, terracotta",
    "round rug, ringed navy",
    "square cushion, dotted rose",
    "long cushion, zigzag navy",
    "bottle vase with dried stems",
    "banded urn, blue glaze",
    "armchair, plum velvet",
    "ladder-back chair, walnut",
    "landscape print, oak frame",
    "abstract print, black frame",
    "striped mug, sky blue",
    "low cup, speckled sage",
    "leafy plant in clay pot",
    "cactus in white pot",
    "wall clock, brass rim",
    "sunburst mirror, gold",
    "three-legged stool, red seat",
    "low sideboard, walnut",
    "narrow bookshelf, oak",
    "runner, diamond weave in teal",
)
SHOWN: Final = {
    "reading corner with a warm lamp": "gourd lamp, ochre shade",
    "kitchen counter under a teal light": "dome pendant, teal",
    "living room floor, earthy stripes": "striped rug, terracotta",
    "sofa for a rainy weekend": "long cushion, zigzag navy",
    "hallway shelf, blue and white": "banded urn, blue glaze",
    "plum corner by the window": "armchair, plum velvet",
    "dining table, country style": "ladder-back chair, walnut",
    "gallery wall, one bold print": "abstract print, black frame",
    "slow breakfast for two": "striped mug, sky blue",
    "urban jungle, first attempt": "leafy plant in clay pot",
    "entrance with a golden sun": "sunburst mirror, gold",
    "studio with a red stool": "three-legged stool, red seat",
}
"""The product that each project shows."""


@dataclass(frozen=True)
class SamplePicture:
    id: uuid.UUID
    file: Path

    @property
    def url(self) -> str:
        return self.file.as_uri()


@dataclass(frozen=True)
class SampleListing:
    """Its id, and the ids of its pictures, stay the same from run to run."""

    id: uuid.UUID
    name: str
    pictures: tuple[SamplePicture, ...]


@dataclass(frozen=True)
class Marketplace:
    """`expected` names the product that each project must match best: project id -> product id."""

    projects: tuple[SampleListing, ...]
    products: tuple[SampleListing, ...]
    expected: dict[uuid.UUID, uuid.UUID]


def sample_marketplace() -> Marketplace:
    projects = tuple(_listing("project", name, number) for number, name in enumerate(SHOWN))
    products = tuple(_listing("product", name, number) for number, name in enumerate(PRODUCTS))
    ids = {product.name: product.id for product in products}
    return Marketplace(projects, products, {project.id: ids[SHOWN[project.name]] for project in projects})


def _listing(kind: Literal["project", "product"], name: str, number: int) -> SampleListing:
    """Every second listing has a second picture."""
    file_name = f"{kind}-{name.replace(',', '').replace(' ', '-')}"
    pictures = tuple(
        SamplePicture(
            uuid.uuid5(NAMESPACE, f"{kind}/{name}/{index}"), SAMPLE_PICTURES / f"{file_name}-{index + 1}.jpg"
        )
        for index in range(1 + number % 2)
    )
    return SampleListing(uuid.uuid5(NAMESPACE, f"{kind}/{name}"), name, pictures)
