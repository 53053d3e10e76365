"""Tells the product from its background.

A first guess by salience is followed by rounds as in GrabCut (Rother, Kolmogorov and Blake 2004). A round learns the
colours of both sides, judges each pixel by them, and lets neighbours of like colour agree. It finds the agreement not
by a minimum cut but by the random walker's linear system (Grady 2005), whose solution is a probability.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage
from scipy.sparse import diags_array
from scipy.sparse.linalg import cg

from matching_pipeline.providers.local.studio.arrays import Mask, Values
from matching_pipeline.providers.local.studio.backdrop import backdrop_odds
from matching_pipeline.providers.local.studio.colours import colour_bins, colour_odds
from matching_pipeline.providers.local.studio.salience import border, salience
from matching_pipeline.providers.local.studio.trust import trusted

ROUNDS: Final = 4
MOST_ODDS: Final = 4.0  # that a pixel's own colour can give, as a logarithm
AGREEMENT: Final = 12.0  # how much neighbours count against a pixel's own colour

SMALLEST_PART: Final = 0.15  # of the largest part; a smaller part beside it is not of the product
TINY_HOLE: Final = 0.012  # of the product
OPENING: Final = 12.0  # Lab units by which the background may differ where it shows through an opening
MOSTLY: Final = 0.7
SURELY_BACKDROP: Final = -1.4
RAGGED: Final = 3.0  # times the largest disc inside: openings are compact, prints are not
SURROUNDINGS: Final = 12  # pixels
ANY_NEIGHBOUR: Final = np.ones((3, 3), dtype=bool)
THREAD: Final = np.hypot(*np.mgrid[-1:2, -1:2]) <= 1.5  # a narrower part is one


@dataclass(frozen=True)
class Cutout:
    """`mask` (height x width) is true on the product; `trusted` says whether to believe it."""

    mask: Mask
    trusted: bool


def cut_out(lab: Values) -> Cutout:
    """Cuts the product out of a photo in Lab, a few hundred pixels a side."""
    smooth = np.stack([ndimage.gaussian_filter(channel, 0.7) for channel in np.moveaxis(lab, -1, 0)], axis=-1)
    salient = salience(smooth)
    threshold = otsu(salient)
    apart = backdrop_odds(smooth)
    prior: Values = np.clip(0.5 + (salient - threshold) + apart / 6, 0.05, 0.95)
    probability = prior
    bins, links = colour_bins(smooth), colour_links(smooth)
    for _ in range(ROUNDS):
        inside = np.where(probability > 0.5, probability, 0)
        outside = np.where(probability > 0.5, 0, 1 - probability)
        odds = np.clip(colour_odds(bins, inside, outside), -MOST_ODDS, MOST_ODDS)
        belief = 1 / (1 + np.exp(-(odds + apart + np.log(prior / (1 - prior)))))
        probability = agreed(belief, links)
        prior = np.clip((prior + probability) / 2, 0.05, 0.95)
    mask = filled(cleaned(probability > 0.5), smooth, apart < SURELY_BACKDROP)
    return Cutout(mask, trusted(mask, smooth, bins))


def cleaned(mask: Mask) -> Mask:
    """Removes threads and crumbs. Straps and handles stay: they are held at two ends."""
    opened, count = ndimage.label(ndimage.binary_opening(mask, THREAD))
    if count == 0:
        return mask
    sizes = np.bincount(opened.ravel())[1:]
    body = np.isin(opened, 1 + np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()))
    body = mask & ndimage.binary_dilation(body, THREAD)
    pieces, count = ndimage.label(mask & ~body, ANY_NEIGHBOUR)
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        window = tuple(slice(max(0, along.start - 1), along.stop + 1) for along in place)
        touching = ndimage.binary_dilation(pieces[window] == number, ANY_NEIGHBOUR) & body[window]
        if ndimage.label(touching, ANY_NEIGHBOUR)[1] > 1:
            body[window] |= pieces[window] == number
    return np.asarray(body)


def filled(body: Mask, lab: Values, backdrop: Mask) -> Mask:
    """The mask with its holes closed, if they are tiny, not of the background's colour, or shaped like a print.

    A plain backdrop is known, and shows through an opening of any shape.
    """
    if not body.any():
        return body
    holes, count = ndimage.label(~body)
    numbers = np.arange(count + 1)
    enclosed = (numbers > 0) & ~np.isin(numbers, border(holes))
    around = ndimage.binary_dilation(body, iterations=SURROUNDINGS) & ~body & ~enclosed[holes]
    background = lab[around].mean(axis=0) if around.any() else lab[~body].mean(axis=0)
    alike = np.linalg.norm(lab - background, axis=-1) < OPENING
    unlike = ndimage.mean(alike, holes, numbers) < MOSTLY
    area = np.bincount(holes.ravel())
    radius = ndimage.maximum(ndimage.distance_transform_edt(~body), holes, numbers)
    ragged = area > RAGGED * np.pi * np.asarray(radius) ** 2
    ragged &= np.asarray(ndimage.mean(backdrop, holes, numbers)) < MOSTLY
    return np.asarray(body | (enclosed & ((area < TINY_HOLE * body.sum()) | unlike | ragged))[holes])


def otsu(values: Values) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values)) if values.min() < values.max() else 0.5  # type: ignore[no-untyped-call]


def colour_links(lab: Values) -> tuple[Values, Values]:
    """How alike each pixel is to its right neighbour and to the one below: 0 to 1."""
    across = ((lab[:, 1:] - lab[:, :-1]) ** 2).sum(axis=-1)
    down = ((lab[1:] - lab[:-1]) ** 2).sum(axis=-1)
    scale = 2 * np.concatenate([across.ravel(), down.ravel()]).mean() + 1e-6
    return np.exp(-across / scale) + 0.01, np.exp(-down / scale) + 0.01


def agreed(belief: Values, links: tuple[Values, Values]) -> Values:
    """The probabilities that are nearest to the pixels' beliefs and change least between linked neighbours."""
    height, width = belief.shape
    certainty = np.abs(2 * belief - 1).ravel() + 0.02
    across, down = np.zeros((height, width)), np.zeros((height, width))
    across[:, :-1], down[:-1] = links[0], links[1]
    right, below = AGREEMENT * across.ravel()[:-1], AGREEMENT * down.ravel()[:-width]
    total = certainty.copy()
    total[:-1] += right
    total[1:] += right
    total[:-width] += below
    total[width:] += below
    system = diags_array([total, -right, -right, -below, -below], offsets=[0, 1, -1, width, -width], format="csr")
    answer, _ = cg(
        system, certainty * belief.ravel(), x0=belief.ravel(), rtol=1e-3, maxiter=150, M=diags_array(1 / total)
    )
    return np.asarray(answer.reshape(height, width).clip(0, 1))
