"""How likely each colour of a photo belongs to the product or to the background."""

from typing import Final

import numpy as np
from scipy import ndimage

from matching_pipeline.providers.local.studio.arrays import Labels, Mask, Values

BINS: Final = (20, 28, 28)  # along L, a and b
LOW: Final = np.array([0.0, -70.0, -70.0])
HIGH: Final = np.array([100.0, 70.0, 70.0])
RARE: Final = 1e-5  # the likelihood of a colour that was never seen


def colour_bins(lab: Values) -> Labels:
    """The number of each pixel's colour, among BINS colours."""
    share = np.clip((lab - LOW) / (HIGH - LOW), 0, 1)
    position = np.rint(share * (np.array(BINS) - 1)).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(position, -1, 0)), BINS))


def colour_odds(bins: Labels, inside: Values | Mask, outside: Values | Mask) -> Values:
    """The log odds of each pixel's colour to be inside and not outside; both are weights of pixels."""

    def likelihood(weights: Values | Mask) -> Values:
        counts = np.bincount(bins.ravel(), weights.ravel().astype(float), minlength=int(np.prod(BINS)))
        density = ndimage.gaussian_filter(counts.reshape(BINS), 1.0).ravel()
        return np.asarray(density / (density.sum() + 1e-9) + RARE)

    return np.asarray(np.log(likelihood(inside) / likelihood(outside))[bins])
