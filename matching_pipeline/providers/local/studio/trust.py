"""Whether to believe a mask: a torn outline is worse than none."""

from typing import Final

import numpy as np
from scipy import ndimage

from matching_pipeline.providers.local.studio.arrays import Labels, Mask, Values
from matching_pipeline.providers.local.studio.colours import colour_odds
from matching_pipeline.providers.local.studio.salience import border

SMALLEST, LARGEST = 0.03, 0.85  # shares of the photo
MOST_ON_BORDER: Final = 0.15
BAND: Final = 4  # pixels on each side of the contour
FAINT: Final = 8.0  # Lab units; the edge of a thing has a larger difference
MOST_FAINT: Final = 0.175  # of the contour
LONGEST_FAINT: Final = 0.42  # stretch of it, in sides of a square as large as the product
TILE: Final = 24  # pixels
FORESEEN: Final = 0.86  # of the pixels; half is chance
ANY_NEIGHBOUR: Final = np.ones((3, 3), dtype=bool)


def trusted(mask: Mask, lab: Values, bins: Labels) -> bool:
    """Whether the mask has a product's size, ends within the photo, follows edges, and is of colours of its own."""
    return (
        SMALLEST <= mask.mean() <= LARGEST
        and border(mask).mean() <= MOST_ON_BORDER
        and follows_edges(mask, lab)
        and has_own_colours(mask, bins)
    )


def follows_edges(mask: Mask, lab: Values) -> bool:
    contour = mask & ~ndimage.binary_erosion(mask)
    faint = contour & (np.linalg.norm(beside(mask, lab) - beside(~mask, lab), axis=-1) < FAINT)
    stretches = ndimage.label(faint, ANY_NEIGHBOUR)[0]
    longest = np.bincount(stretches[faint], minlength=1).max() / np.sqrt(mask.sum())
    return bool(faint.sum() < MOST_FAINT * contour.sum() and longest < LONGEST_FAINT)


def beside(side: Mask, lab: Values) -> Values:
    """The mean colour of the nearby pixels of one side of the contour, a band along it."""
    band = side & ndimage.binary_dilation(~side, iterations=BAND)
    weight = ndimage.gaussian_filter(band.astype(float), 3) + 1e-6
    sums = [ndimage.gaussian_filter(np.where(band, channel, 0), 3) for channel in np.moveaxis(lab, -1, 0)]
    return np.asarray(np.stack(sums, axis=-1) / weight[..., None])


def has_own_colours(mask: Mask, bins: Labels) -> bool:
    """Whether the colours on the black fields of a chessboard foretell the mask on the white ones, and the reverse.

    In a photo full of texture an outline can always be found, but its inside has the same colours as its outside.
    """
    y, x = np.indices(mask.shape)
    black = (y // TILE + x // TILE) % 2 == 0
    foreseen = []
    for learnt in (black, ~black):
        odds = colour_odds(bins, mask & learnt, ~mask & learnt)
        for side, right in ((mask, odds > 0), (~mask, odds < 0)):
            asked = side & ~learnt
            foreseen.append((right[asked].mean() + (odds[asked] == 0).mean() / 2) if asked.any() else 0.0)
    return bool(np.mean(foreseen) >= FORESEEN)
