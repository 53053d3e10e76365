"""The products on offer, by name, and which of them each project's room shows."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from matching_pipeline.sample_data import products
from matching_pipeline.sample_data.canvas import Canvas, Colour, bars, diamonds, dots, stripes, zigzag
from matching_pipeline.sample_data.products import BRASS, INK, OAK

CREAM: Final[Colour] = (240, 230, 210)
TERRACOTTA: Final[Colour] = (196, 100, 70)
MUSTARD: Final[Colour] = (218, 168, 56)
TEAL: Final[Colour] = (36, 118, 122)
NAVY: Final[Colour] = (40, 58, 100)
SAGE: Final[Colour] = (138, 160, 124)
PLUM: Final[Colour] = (118, 58, 92)
ROSE: Final[Colour] = (214, 140, 140)
SKY: Final[Colour] = (134, 176, 206)
WALNUT: Final[Colour] = (112, 74, 50)
LEAF: Final[Colour] = (72, 128, 70)

GOURD = [(0.04, 0.1), (0.12, 0.2), (0.21, 0.35), (0.16, 0.46), (0.13, 0.5)]
COLUMN = [(0.03, -0.05), (0.035, 0.3), (0.05, 0.42), (0.2, 0.46), (0.2, 0.5)]
DOME = [(0.05, -0.3), (0.2, -0.25), (0.38, -0.05), (0.48, 0.25)]
BELL = [(0.05, -0.45), (0.09, -0.2), (0.13, 0.1), (0.26, 0.42)]
BOTTLE = [(0.06, -0.1), (0.05, 0.02), (0.2, 0.25), (0.2, 0.4), (0.12, 0.5)]
URN = [(0.15, -0.42), (0.1, -0.3), (0.33, -0.02), (0.28, 0.2), (0.14, 0.46), (0.17, 0.5)]


Setting = Literal["standing", "lying", "hanging"]


@dataclass(frozen=True)
class Product:
    name: str
    paint: Callable[[Canvas], None]
    setting: Setting = "standing"


PRODUCTS: Final = [
    Product(
        "gourd lamp, ochre shade",
        partial(products.table_lamp, shade=MUSTARD, base=TEAL, foot=GOURD, top=0.18, rim=0.33),
    ),
    Product(
        "column lamp, linen drum",
        partial(products.table_lamp, shade=CREAM, base=INK, foot=COLUMN, top=0.26, rim=0.28),
    ),
    Product(
        "dome pendant, teal",
        partial(products.pendant, shade=TEAL, profile=DOME, band=BRASS),
        setting="hanging",
    ),
    Product(
        "bell pendant, copper",
        partial(products.pendant, shade=(190, 110, 76), profile=BELL, band=INK),
        setting="hanging",
    ),
    Product(
        "striped rug, terracotta",
        partial(products.rug, wool=TERRACOTTA, accent=CREAM, pattern=stripes(6, 0.36), spread=0.4, fringed=True),
        setting="lying",
    ),
    Product(
        "round rug, ringed navy",
        partial(products.round_rug, wool=NAVY, accent=CREAM, rings=7),
        setting="lying",
    ),
    Product(
        "square cushion, dotted rose",
        partial(
            products.cushion,
            cloth=ROSE,
            accent=CREAM,
            pattern=dots(6),
            width=0.86,
            height=0.86,
            tassels=False,
        ),
    ),
    Product(
        "long cushion, zigzag navy",
        partial(
            products.cushion,
            cloth=NAVY,
            accent=MUSTARD,
            pattern=zigzag(4, 5),
            width=0.98,
            height=0.56,
            tassels=True,
        ),
    ),
    Product(
        "bottle vase with dried stems",
        partial(products.vase, glaze=CREAM, accent=SKY, profile=BOTTLE, pattern=None, stems=5),
    ),
    Product(
        "banded urn, blue glaze",
        partial(products.vase, glaze=(62, 104, 158), accent=CREAM, profile=URN, pattern=stripes(5, 0.3), stems=0),
    ),
    Product("armchair, plum velvet", partial(products.armchair, cloth=PLUM, wood=OAK)),
    Product("ladder-back chair, walnut", partial(products.side_chair, seat=(206, 178, 128), wood=WALNUT)),
    Product("landscape print, oak frame", partial(products.landscape_print, frame=OAK), setting="hanging"),
    Product("abstract print, black frame", partial(products.abstract_print, frame=INK), setting="hanging"),
    Product(
        "striped mug, sky blue",
        partial(products.mug, glaze=CREAM, accent=(60, 130, 186), pattern=stripes(6), half=0.3, top=-0.32),
    ),
    Product(
        "low cup, speckled sage",
        partial(products.mug, glaze=SAGE, accent=(80, 100, 72), pattern=dots(13, 0.16), half=0.36, top=-0.08),
    ),
    Product("leafy plant in clay pot", partial(products.leafy_plant, leaf=LEAF, pot=TERRACOTTA)),
    Product(
        "cactus in white pot",
        partial(products.cactus, flesh=(88, 144, 96), pot=(236, 232, 224), ribs=bars(5, 0.3)),
    ),
    Product(
        "wall clock, brass rim",
        partial(products.wall_clock, rim=BRASS, face=(248, 244, 234)),
        setting="hanging",
    ),
    Product("sunburst mirror, gold", partial(products.sun_mirror, rim=(206, 160, 72), rays=24), setting="hanging"),
    Product("three-legged stool, red seat", partial(products.stool, seat=(190, 58, 54), wood=OAK)),
    Product(
        "low sideboard, walnut",
        partial(products.sideboard, wood=WALNUT, door=(140, 96, 66), doors=3, height=0.42),
    ),
    Product("narrow bookshelf, oak", partial(products.bookshelf, wood=OAK, shelves=4)),
    Product(
        "runner, diamond weave in teal",
        partial(products.rug, wool=TEAL, accent=CREAM, pattern=diamonds(5), spread=0.26, fringed=False),
        setting="lying",
    ),
]

PROJECTS: Final[dict[str, str]] = {
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
