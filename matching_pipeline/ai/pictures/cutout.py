"""Tells the product from its background.

A first guess by salience, then rounds of what GrabCut does (Rother, Kolmogorov and Blake 2004): learn the colours
of both sides, judge each pixel by them, and let neighbours of like colour agree. The agreement is found not by a
minimum cut but by the random walker's linear system (Grady 2005), whose answer is a probability.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import ndimage
from scipy.sparse import diags_array
from scipy.sparse.linalg import cg

from matching_pipeline.ai.pictures.arrays import Labels, Mask, Values
from matching_pipeline.ai.pictures.salience import border, salience

ROUNDS: Final = 4
BINS: Final = (20, 28, 28)  # along L, a and b
COLOUR_LOW: Final = np.array([0.0, -70.0, -70.0])
COLOUR_HIGH: Final = np.array([100.0, 70.0, 70.0])
AGREEMENT: Final = 12.0  # how much neighbours count against what a pixel's own colour says

SMALLEST_PART: Final = 0.15  # of the largest part, for what lies beside it to be of the product too
TINY_HOLE: Final = 0.012  # of the product
ANY_NEIGHBOUR: Final = np.ones((3, 3), dtype=bool)
DISK: Final = np.hypot(*np.mgrid[-2:3, -2:3]) <= 2

SMALLEST, LARGEST = 0.03, 0.85  # shares of the photo
MOST_ON_BORDER: Final = 0.15
BAND: Final = 4  # pixels on each side of the contour
FAINT: Final = 8.0  # Lab units; what differs by less is no edge of a thing
MOST_FAINT: Final = 0.2


@dataclass(frozen=True)
class Cutout:
    """`mask` (height x width) is where the product is; `trusted` whether to believe it."""

    mask: Mask
    trusted: bool


def cut_out(lab: Values) -> Cutout:
    """Of a photo in Lab, a few hundred pixels a side."""
    smooth = np.stack([ndimage.gaussian_filter(channel, 0.7) for channel in np.moveaxis(lab, -1, 0)], axis=-1)
    salient = salience(smooth)
    threshold = otsu(salient)
    prior = probability = np.clip(0.5 + (salient - threshold), 0.05, 0.95)
    bins, links = colour_bins(smooth), colour_links(smooth)
    for _ in range(ROUNDS):
        belief = 1 / (1 + np.exp(-(colour_odds(bins, probability) + np.log(prior / (1 - prior)))))
        probability = agreed(belief, links)
        prior = np.clip((prior + probability) / 2, 0.05, 0.95)
    mask = cleaned(probability > 0.5, salient > threshold)
    return Cutout(mask, trusted(mask, smooth))


def trusted(mask: Mask, lab: Values) -> bool:
    """Whether the mask has a product's size, ends within the photo, and follows an edge nearly all along."""
    if not SMALLEST <= mask.mean() <= LARGEST or border(mask).mean() > MOST_ON_BORDER:
        return False
    contour = mask & ~ndimage.binary_erosion(mask)
    step = np.linalg.norm(beside(mask, lab) - beside(~mask, lab), axis=-1)[contour]
    return bool(np.mean(step < FAINT) < MOST_FAINT)


def beside(side: Mask, lab: Values) -> Values:
    """The mean colour of the nearby pixels of one side of the contour, a band along it."""
    band = side & ndimage.binary_dilation(~side, iterations=BAND)
    weight = ndimage.gaussian_filter(band.astype(float), 3) + 1e-6
    sums = [ndimage.gaussian_filter(np.where(band, channel, 0), 3) for channel in np.moveaxis(lab, -1, 0)]
    return np.asarray(np.stack(sums, axis=-1) / weight[..., None])


def cleaned(mask: Mask, salient: Mask) -> Mask:
    """Without threads, crumbs, and holes that are no openings. Straps and handles stay: they are held at two ends."""
    opened, count = ndimage.label(ndimage.binary_opening(mask, DISK))
    if count == 0:
        return mask
    sizes = np.bincount(opened.ravel())[1:]
    body = np.isin(opened, 1 + np.flatnonzero(sizes >= SMALLEST_PART * sizes.max()))
    body = mask & ndimage.binary_dilation(body, DISK)
    pieces, count = ndimage.label(mask & ~body, ANY_NEIGHBOUR)
    for number, place in enumerate(ndimage.find_objects(pieces), start=1):
        window = tuple(slice(max(0, along.start - 1), along.stop + 1) for along in place)
        touching = ndimage.binary_dilation(pieces[window] == number, ANY_NEIGHBOUR) & body[window]
        if ndimage.label(touching, ANY_NEIGHBOUR)[1] > 1:
            body[window] |= pieces[window] == number
    holes, count = ndimage.label(~body)
    numbers = np.arange(count + 1)
    tiny = ndimage.sum_labels(~body, holes, numbers) < TINY_HOLE * body.sum()
    enclosed = ~np.isin(numbers, border(holes))
    unlike = ndimage.mean(salient, holes, numbers) > 0.5
    return np.asarray(body | np.isin(holes, numbers[enclosed & (tiny | unlike) & (numbers > 0)]))


def otsu(values: Values) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values)) if values.min() < values.max() else 0.5  # type: ignore[no-untyped-call]


def colour_bins(lab: Values) -> Labels:
    share = np.clip((lab - COLOUR_LOW) / (COLOUR_HIGH - COLOUR_LOW), 0, 1)
    position = np.rint(share * (np.array(BINS) - 1)).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(position, -1, 0)), BINS))


def colour_odds(bins: Labels, probability: Values) -> Values:
    """The logarithm of how much likelier each pixel's colour is among the product's than among the background's."""

    def likelihood(weights: Values) -> Values:
        counts = np.bincount(bins.ravel(), weights.ravel(), minlength=int(np.prod(BINS)))
        density = ndimage.gaussian_filter(counts.reshape(BINS), 1.0).ravel()
        return np.asarray(density[bins] / (density.sum() + 1e-9) + 1e-5)

    inside = likelihood(np.where(probability > 0.5, probability, 0))
    outside = likelihood(np.where(probability > 0.5, 0, 1 - probability))
    return np.clip(np.log(inside / outside), -4, 4)


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
