"""Describes a picture by its pixels alone, without trained weights.

A picture is split into foreground and background by colour. The vector describes the outline of the
foreground, the edges inside it and its colours; the attributes name properties of the pixels. Two pictures of
the same lamp come close together; two different lamps need not.
"""

from functools import cache
from itertools import product
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float64]

DETAIL_SIDE: Final = 192  # longest side, in pixels, at which edges are read
COARSE_SIDE: Final = 64  # longest side, in pixels, at which foreground and colours are read

GRID: Final = 6  # cells along each side of an edge descriptor
ORIENTATIONS: Final = 8
OUTLINE_CROP: Final = 48
INTERIOR_CROP: Final = 96
CROP_MARGIN: Final = 0.15  # on each side, as a share of the foreground's extent

COLOUR_BINS: Final = (4, 7, 7)  # along L, a and b
COLOUR_LOW: Final = np.array([0.0, -60.0, -60.0])
COLOUR_HIGH: Final = np.array([100.0, 60.0, 60.0])

DIMENSIONS: Final = 2 * GRID * (GRID // 2) * ORIENTATIONS + int(np.prod(COLOUR_BINS))

# Outlines tell most about the thing in the picture; the other two parts tell things of one shape apart.
OUTLINE_WEIGHT: Final = 1.0
INTERIOR_WEIGHT: Final = 0.5
COLOUR_WEIGHT: Final = 0.3

# From each part its value for a featureless picture is subtracted, so that unrelated pictures score low.
# A little of it stays: otherwise the embedding of a featureless picture would have no direction.
EXPECTED_SHARE: Final = 0.8

PALETTE: Final[dict[str, list[tuple[int, int, int]]]] = {
    "black": [(15, 15, 15), (38, 36, 36)],
    "grey": [(80, 80, 80), (125, 125, 125), (170, 170, 170)],
    "white": [(218, 218, 218), (250, 250, 250)],
    "red": [(200, 30, 40), (140, 20, 30), (225, 75, 75)],
    "orange": [(240, 130, 40), (205, 95, 45)],
    "yellow": [(245, 215, 60), (215, 175, 50), (175, 145, 45)],
    "green": [(50, 140, 60), (15, 110, 75), (30, 75, 45), (125, 180, 95), (90, 105, 55)],
    "teal": [(30, 140, 140), (20, 85, 90), (110, 195, 185)],
    "blue": [(40, 85, 185), (20, 30, 215), (80, 125, 175), (150, 190, 230)],
    "navy": [(25, 35, 80), (40, 50, 70), (25, 28, 112)],
    "purple": [(120, 60, 150), (75, 40, 85), (165, 140, 200)],
    "pink": [(240, 150, 180), (220, 70, 140), (235, 195, 200)],
    "brown": [(110, 70, 40), (70, 45, 30), (150, 110, 80)],
    "beige": [(220, 200, 170), (190, 165, 130)],
}


class Box(NamedTuple):
    """Edges as shares of the picture's width and height."""

    left: float
    top: float
    right: float
    bottom: float


class Description(NamedTuple):
    """`vector` of shape (DIMENSIONS,) and unit length."""

    vector: Floats
    attributes: dict[str, str | list[str]]


def described(picture: Image.Image) -> Description:
    from skimage.color import rgb2lab

    detail = scaled(picture, min(DETAIL_SIDE, max(picture.size)))
    lab = rgb2lab(np.asarray(scaled(detail, COARSE_SIDE)))
    foreground = foreground_probability(lab)
    box = bounding_box(foreground)
    outline = square_crop(foreground, box, OUTLINE_CROP)
    lightness = square_crop(np.asarray(detail.convert("L")) / 255, box, INTERIOR_CROP, extended=True)
    inside = square_crop(foreground, box, INTERIOR_CROP)
    parts = [
        OUTLINE_WEIGHT * (edges(outline) - EXPECTED_SHARE * blob_edges()),
        INTERIOR_WEIGHT * centred(edges(lightness, weights=inside**2)),
        COLOUR_WEIGHT * centred(colour_histogram(lab, weights=foreground**2)),
    ]
    attributes = properties(picture, lab, foreground) | {"texture": texture(lightness, weights=inside**4)}
    return Description(unit(np.concatenate(parts)), attributes)


def scaled(picture: Image.Image, longest_side: int) -> Image.Image:
    """The picture at its own aspect ratio, up or down to the given longest side."""
    factor = longest_side / max(picture.size)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.BILINEAR)


def foreground_probability(lab: Floats) -> Floats:
    """Probability of each pixel (height x width) of a Lab picture to be foreground.

    It starts from the belief that things are in the middle. Then it alternates, as expectation maximisation does,
    between colour histograms of both sides and each pixel's odds under them. A picture of one colour keeps
    the initial belief.
    """
    bins = (8, 12, 12)
    height, width = lab.shape[:2]
    position = np.rint(colour_positions(lab, bins)).astype(int)
    index = np.ravel_multi_index(tuple(np.moveaxis(position, -1, 0)), bins)
    y, x = pixel_centres(height)[:, None], pixel_centres(width)[None, :]
    belief = np.clip(0.9 * np.exp(-(x**2 + y**2) / (2 * 0.55**2)), 0.02, 0.9)
    prior_logit = np.log(belief / (1 - belief))

    def colour_probability(weights: Floats) -> Floats:
        counts = np.bincount(index.ravel(), weights.ravel(), minlength=int(np.prod(bins)))
        density = blurred(counts.reshape(bins).astype(float), sigma=0.7).ravel()
        return np.asarray(density[index] / density.sum() + 1e-4)

    probability = belief
    for _ in range(6):
        logit = np.log(colour_probability(probability) / colour_probability(1 - probability))
        # Twice: the smoothed odds of a neighbourhood count for more than those of a lone pixel.
        probability = 1 / (1 + np.exp(-(2 * blurred(logit, sigma=1.5) + prior_logit)))
    return probability


def bounding_box(foreground: Floats) -> Box:
    """The box that leaves one hundredth of the foreground beyond each of its edges."""
    solid = foreground > 0.5
    if solid.mean() < 0.02:
        solid = foreground >= np.quantile(foreground, 0.8)
    mass = foreground * solid

    def extent(profile: Floats) -> tuple[float, float]:
        share = np.cumsum(profile) / profile.sum()
        first, last = np.searchsorted(share, 0.01), np.searchsorted(share, 0.99)
        return float(first / len(profile)), float((last + 1) / len(profile))

    (left, right), (top, bottom) = extent(mass.sum(axis=0)), extent(mass.sum(axis=1))
    return Box(left, top, right, bottom)


def square_crop(plane: Floats, box: Box, side: int, *, extended: bool = False) -> Floats:
    """The box with a margin, as side x side values; its aspect ratio is halved on a logarithmic scale.

    A full stretch would hide whether a thing is tall or wide; without any, a long thing would leave most of the
    square empty. Beyond the picture lie zeros or, if extended, its outermost values.
    """
    height, width = plane.shape
    box_width, box_height = (box.right - box.left) * width, (box.bottom - box.top) * height
    longest = max(box_width, box_height)

    def interpolation(middle: float, extent: float, pixels: int) -> Floats:
        half = np.sqrt(extent * longest) * (0.5 + CROP_MARGIN)
        position = middle * pixels + half * pixel_centres(side) - 0.5
        if extended:
            position = np.clip(position, 0, pixels - 1)
        return np.asarray(np.maximum(0, 1 - np.abs(position[:, None] - np.arange(pixels)[None, :])))

    rows = interpolation((box.top + box.bottom) / 2, box_height, height)
    columns = interpolation((box.left + box.right) / 2, box_width, width)
    return np.asarray(rows @ plane @ columns.T)


def edges(plane: Floats, weights: Floats | float = 1.0) -> Floats:
    """Unit vector of gradient orientations over a grid of cells, averaged with its mirror image.

    Histograms of oriented gradients (Dalal and Triggs 2005), softly assigned to cells and orientations, with
    one normalisation for the whole grid after a square root (Hellinger): faint noise then stays faint. The
    mirrored average is symmetric, hence only the left half of the grid is kept.
    """
    gradient_y, gradient_x = np.gradient(plane)
    strength = np.hypot(gradient_y, gradient_x) * weights
    turn = np.mod(np.arctan2(gradient_y, gradient_x), np.pi) / np.pi * ORIENTATIONS - 0.5
    lower = np.floor(turn).astype(int)
    upper_share = turn - lower
    cell = (np.arange(len(plane)) + 0.5) / len(plane) * GRID - 0.5
    membership = np.maximum(0, 1 - np.abs(cell[:, None] - np.arange(GRID)[None, :]))
    grid = np.empty((GRID, GRID, ORIENTATIONS))
    for orientation in range(ORIENTATIONS):
        in_lower = (lower % ORIENTATIONS == orientation) * (1 - upper_share)
        in_upper = ((lower + 1) % ORIENTATIONS == orientation) * upper_share
        grid[:, :, orientation] = membership.T @ (strength * (in_lower + in_upper)) @ membership
    mirrored = grid[:, ::-1, ::-1]
    return unit(np.sqrt((grid + mirrored)[:, : GRID // 2]).ravel())


@cache
def blob_edges() -> Floats:
    """The edges of a rounded square with a soft rim that fills the box: an outline without features."""
    axis = pixel_centres(OUTLINE_CROP) * (1 + 2 * CROP_MARGIN)
    radius = (np.abs(axis[:, None]) ** 3 + np.abs(axis[None, :]) ** 3) ** (1 / 3)
    return edges(1 / (1 + np.exp((radius - 1) / 0.1)))


def colour_histogram(lab: Floats, weights: Floats) -> Floats:
    """Unit vector: square roots of a weighted Lab histogram, each pixel shared among its 8 nearest bins."""
    position = np.minimum(colour_positions(lab, COLOUR_BINS), np.array(COLOUR_BINS) - 1.001)
    lower = np.floor(position).astype(int)
    upper_share = position - lower
    histogram = np.zeros(COLOUR_BINS)
    for step in product((0, 1), repeat=3):
        share = np.prod(np.where(step, upper_share, 1 - upper_share), axis=-1)
        np.add.at(histogram, tuple(np.moveaxis(lower + step, -1, 0)), share * weights)
    return unit(np.sqrt(histogram).ravel())


def colour_positions(lab: Floats, bins: tuple[int, int, int]) -> Floats:
    """Fractional bin positions, shape of `lab`, each within 0 and its number of bins minus one."""
    share = np.clip((lab - COLOUR_LOW) / (COLOUR_HIGH - COLOUR_LOW), 0, 1)
    return np.asarray(share * (np.array(bins) - 1))


def pixel_centres(count: int) -> Floats:
    return (np.arange(count) + 0.5) / count * 2 - 1


def blurred(values: Floats, sigma: float) -> Floats:
    """Gaussian blur along every axis; sigma in array elements."""
    from skimage.filters import gaussian

    return np.asarray(gaussian(values, sigma=sigma))  # type: ignore[no-untyped-call]


def centred(vector: Floats) -> Floats:
    """The vector minus most of its mean: the mean alone would be a flat histogram."""
    return np.asarray(vector - EXPECTED_SHARE * vector.mean())


def unit(vector: Floats) -> Floats:
    length = float(np.linalg.norm(vector))
    return np.asarray(vector / length) if length > 0 else vector


def properties(picture: Image.Image, lab: Floats, foreground: Floats) -> dict[str, str | list[str]]:
    """Attributes that are true of the pixels; `lab` and `foreground` are at the coarse size."""
    surroundings = lab[foreground < 0.1]
    # Spread in Lab units: paper, walls and evenly lit floors stay below 12, patterns and clutter rarely do.
    plain = surroundings.size == 0 or float(np.sqrt(surroundings.var(axis=0).sum())) < 12
    # Well inside: at its soft rim the foreground already shows the colours of the background.
    subject = lab[foreground >= 0.9 * foreground.max()] if plain else lab.reshape(-1, 3)
    chroma = float(np.hypot(subject[:, 1], subject[:, 2]).mean())
    return {
        "colors": colour_names(subject),
        "orientation": level(picture.width / picture.height, (0.95, 1.05), ("portrait", "square", "landscape")),
        "brightness": level(float(lab[..., 0].mean()), (35, 65), ("dark", "medium", "bright")),
        "saturation": level(chroma, (12, 35), ("muted", "moderate", "vivid")),
        "background": "plain" if plain else "busy",
    }


def texture(lightness: Floats, weights: Floats) -> str:
    """`smooth`, `fine` if details of a pixel or two vary most under the weights, `coarse` if larger patches do."""

    def variation(difference: Floats) -> float:
        return float(np.sqrt(np.average(difference**2, weights=weights + 1e-9)))

    softened = blurred(lightness, sigma=1)
    fine, coarse = variation(lightness - softened), variation(softened - blurred(lightness, sigma=4))
    if max(fine, coarse) < 0.04:
        return "smooth"
    return "fine" if fine > 0.7 * coarse else "coarse"


def level(value: float, bounds: tuple[float, float], names: tuple[str, str, str]) -> str:
    return names[int(np.searchsorted(bounds, value))]


@cache
def palette_in_lab() -> tuple[list[str], Floats]:
    """The name of each anchor colour and the anchors, shape (anchors, 3)."""
    from skimage.color import rgb2lab

    names = [name for name, anchors in PALETTE.items() for _ in anchors]
    anchors = np.array([anchor for anchors in PALETTE.values() for anchor in anchors])
    return names, rgb2lab(anchors / 255)


def colour_names(pixels: Floats) -> list[str]:
    """One to four palette names, most frequent first, each of at least a tenth of the pixels (count, 3)."""
    names, anchors = palette_in_lab()
    nearest = np.linalg.norm(pixels[:, None] - anchors[None], axis=-1).argmin(axis=1)
    counts = dict.fromkeys(PALETTE, 0)
    for anchor, count in enumerate(np.bincount(nearest, minlength=len(names))):
        counts[names[anchor]] += int(count)
    ranked = sorted(counts, key=lambda name: -counts[name])[:4]
    return ranked[:1] + [name for name in ranked[1:] if counts[name] >= len(pixels) / 10]
