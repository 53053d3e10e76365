"""How much the colours of a photo say of what is product and what is background."""

from typing import Final

import numpy as np
from scipy import ndimage

from matching_pipeline.providers.local.studio.arrays import Labels, Mask, Values

BINS: Final = (20, 28, 28)  # along L, a and b
LOW: Final = np.array([0.0, -70.0, -70.0])
HIGH: Final = np.array([100.0, 70.0, 70.0])
RARE: Final = 1e-5  # the likelihood of a colour that was never seen


def colour_bins(lab: Values) -> Labels:
    """Which of the colours that are told apart each pixel has."""
    share = np.clip((lab - LOW) / (HIGH - LOW), 0, 1)
    position = np.rint(share * (np.array(BINS) - 1)).astype(np.int64)
    return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(position, -1, 0)), BINS))


def colour_odds(bins: Labels, inside: Values | Mask, outside: Values | Mask) -> Values:
    """The logarithm of how much likelier each pixel's colour is inside than outside; both are weights of pixels."""

    def likelihood(weights: Values | Mask) -> Values:
        counts = np.bincount(bins.ravel(), weights.ravel().astype(float), minlength=int(np.prod(BINS)))
        density = ndimage.gaussian_filter(counts.reshape(BINS), 1.0).ravel()
        return np.asarray(density / (density.sum() + 1e-9) + RARE)

    return np.asarray(np.log(likelihood(inside) / likelihood(outside))[bins])
