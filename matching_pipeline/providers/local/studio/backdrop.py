"""Fits a plain backdrop to the photo's border, as a smooth surface: a pixel that differs from it is not backdrop."""

from typing import Final

import numpy as np

from matching_pipeline.providers.local.studio.arrays import Values

STRIP: Final = 0.05  # of the photo's sides
PLAIN: Final = 2.0  # Lab units that a plain backdrop's border may stray from a smooth surface
LEAST_SEEN: Final = 0.7  # of the border; a product may hide the rest
SENSITIVITY: Final = 0.6  # Lab units; no photo is smoother than this
DARKEST: Final = 0.24  # of a shadow: this share less of L + 16 is less than half of the light


def backdrop_odds(lab: Values) -> Values:
    """The log odds of each pixel not to be backdrop; all 0 if the photo has no plain backdrop."""
    height, width = lab.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * y, x**2, y**2], axis=-1)
    rim = np.maximum(np.abs(x), np.abs(y)) > 1 - 2 * STRIP
    seen = np.ones(int(rim.sum()), dtype=bool)
    for _ in range(4):
        weights = np.linalg.lstsq(terms[rim][seen], lab[rim][seen], rcond=None)[0]
        astray = np.linalg.norm(lab[rim] - terms[rim] @ weights, axis=-1)
        seen = astray < max(3 * float(np.median(astray)), 1.0)
    stray = float(np.sqrt(np.mean(astray[seen] ** 2)))
    if stray > PLAIN or seen.mean() < LEAST_SEEN:
        return np.zeros((height, width))
    apart = lab - terms @ weights
    apart += shadow(apart, terms @ weights)
    return np.asarray(np.clip(0.7 * (np.linalg.norm(apart, axis=-1) / max(stray, SENSITIVITY) - 4), -2, 3))


def shadow(apart: Values, surface: Values) -> Values:
    """The part of the difference to the surface that can be a shadow on it.

    Less light scales L + 16, a and b by one factor, the cube root of the light.
    """
    lit = surface + np.array([16, 0, 0])
    strength = np.linalg.norm(lit, axis=-1, keepdims=True)
    direction = lit / strength
    darkness = -(apart * direction).sum(axis=-1, keepdims=True)
    return np.asarray(direction * np.clip(darkness, 0, DARKEST * strength))
