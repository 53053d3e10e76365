"""How each product of the demo's marketplace is painted, by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from tools.sample_pictures import shapes
from tools.sample_pictures.canvas import Canvas, Colour, bars, diamonds, dots, stripes, zigzag
from tools.sample_pictures.shapes import BRASS, INK, OAK

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


Placement = Literal["standing", "lying", "hanging"]


@dataclass(frozen=True)
class Painting:
    paint: Callable[[Canvas], None]
    placement: Placement = "standing"


PAINTINGS: Final = {
    "gourd lamp, ochre shade": Painting(
        partial(shapes.table_lamp, shade=MUSTARD, base=TEAL, foot=GOURD, top=0.18, rim=0.33),
    ),
    "column lamp, linen drum": Painting(
        partial(shapes.table_lamp, shade=CREAM, base=INK, foot=COLUMN, top=0.26, rim=0.28),
    ),
    "dome pendant, teal": Painting(
        partial(shapes.pendant, shade=TEAL, profile=DOME, band=BRASS),
        placement="hanging",
    ),
    "bell pendant, copper": Painting(
        partial(shapes.pendant, shade=(190, 110, 76), profile=BELL, band=INK),
        placement="hanging",
    ),
    "striped rug, terracotta": Painting(
        partial(shapes.rug, wool=TERRACOTTA, accent=CREAM, pattern=stripes(6, 0.36), spread=0.4, fringed=True),
        placement="lying",
    ),
    "round rug, ringed navy": Painting(
        partial(shapes.round_rug, wool=NAVY, accent=CREAM, rings=7),
        placement="lying",
    ),
    "square cushion, dotted rose": Painting(
        partial(
            shapes.cushion,
            cloth=ROSE,
            accent=CREAM,
            pattern=dots(6),
            width=0.86,
            height=0.86,
            tassels=False,
        ),
    ),
    "long cushion, zigzag navy": Painting(
        partial(
            shapes.cushion,
            cloth=NAVY,
            accent=MUSTARD,
            pattern=zigzag(4, 5),
            width=0.98,
            height=0.56,
            tassels=True,
        ),
    ),
    "bottle vase with dried stems": Painting(
        partial(shapes.vase, glaze=CREAM, accent=SKY, profile=BOTTLE, pattern=None, stems=5),
    ),
    "banded urn, blue glaze": Painting(
        partial(shapes.vase, glaze=(62, 104, 158), accent=CREAM, profile=URN, pattern=stripes(5, 0.3), stems=0),
    ),
    "armchair, plum velvet": Painting(partial(shapes.armchair, cloth=PLUM, wood=OAK)),
    "ladder-back chair, walnut": Painting(partial(shapes.side_chair, seat=(206, 178, 128), wood=WALNUT)),
    "landscape print, oak frame": Painting(partial(shapes.landscape_print, frame=OAK), placement="hanging"),
    "abstract print, black frame": Painting(partial(shapes.abstract_print, frame=INK), placement="hanging"),
    "striped mug, sky blue": Painting(
        partial(shapes.mug, glaze=CREAM, accent=(60, 130, 186), pattern=stripes(6), half=0.3, top=-0.32),
    ),
    "low cup, speckled sage": Painting(
        partial(shapes.mug, glaze=SAGE, accent=(80, 100, 72), pattern=dots(13, 0.16), half=0.36, top=-0.08),
    ),
    "leafy plant in clay pot": Painting(partial(shapes.leafy_plant, leaf=LEAF, pot=TERRACOTTA)),
    "cactus in white pot": Painting(
        partial(shapes.cactus, flesh=(88, 144, 96), pot=(236, 232, 224), ribs=bars(5, 0.3)),
    ),
    "wall clock, brass rim": Painting(
        partial(shapes.wall_clock, rim=BRASS, face=(248, 244, 234)),
        placement="hanging",
    ),
    "sunburst mirror, gold": Painting(partial(shapes.sun_mirror, rim=(206, 160, 72), rays=24), placement="hanging"),
    "three-legged stool, red seat": Painting(partial(shapes.stool, seat=(190, 58, 54), wood=OAK)),
    "low sideboard, walnut": Painting(
        partial(shapes.sideboard, wood=WALNUT, door=(140, 96, 66), doors=3, height=0.42),
    ),
    "narrow bookshelf, oak": Painting(partial(shapes.bookshelf, wood=OAK, shelves=4)),
    "runner, diamond weave in teal": Painting(
        partial(shapes.rug, wool=TEAL, accent=CREAM, pattern=diamonds(5), spread=0.26, fringed=False),
        placement="lying",
    ),
}
