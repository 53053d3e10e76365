"""Few directions in which vectors differ most: products of shorter vectors cost less."""

from dataclasses import dataclass

import numpy as np

from matching_pipeline.matches.kernel.columns import Numbers, Vectors

SAMPLED_ROWS = 4096
STEP = 32
WORTH_CHOOSING = 2 * 10**11
"""With fewer multiplications in all, the choice costs more than it saves."""
LOST_BY_CODES = 0.016
"""About the part of a product of unit vectors that 8-bit codes of both lose. A basis may leave out as much again."""


@dataclass(frozen=True)
class Basis:
    """Directions (dimensions, depth) that are nearly orthonormal. A vector's part outside of them is its rest."""

    directions: Vectors

    @property
    def looseness(self) -> float:
        """By how much of its length a projection may be off.

        The sum of ‖QᵀQ - I‖ and of the rounding of float32 sums of `dimensions` products in any order.
        """
        exact = self.directions.astype(np.float64)
        skew = float(np.linalg.norm(exact.T @ exact - np.eye(exact.shape[1])))
        rounding = 2 * (exact.shape[0] + 4) * 2.0**-24 * np.sqrt(exact.shape[1])
        return float(skew + 1.5 * rounding)


def choose_basis(left: Vectors, right: Vectors, centre: Vectors) -> Basis | None:
    """A basis for products of the left vectors with the right ones less the centre.

    It holds the principal directions of a sample, so many that the rest is about as large as the loss of 8-bit codes.
    None where these are not much fewer than all directions. Bounds hold for any choice: a bad one costs time only.
    """
    dimensions = left.shape[1]
    if len(left) * len(right) * dimensions < WORTH_CHOOSING:
        return None
    a, b = _sample(left), _sample(right) - centre
    directions = np.linalg.eigh(a.T @ a / len(a) + b.T @ b / len(b))[1][:, ::-1]
    length_a, rests_a = _lengths_left_out(a, directions)
    length_b, rests_b = _lengths_left_out(b, directions)
    enough = np.flatnonzero(rests_a * rests_b <= LOST_BY_CODES * length_a * length_b)[0] + 1
    depth = min(-(-enough // STEP) * STEP, dimensions)
    if depth > 0.75 * dimensions:
        return None
    # a random rotation, so that no column is much larger than another: 8-bit codes share one scale
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(depth, depth)))[0]
    return Basis(np.ascontiguousarray(directions[:, :depth] @ rotation, dtype=np.float32))


def _sample(vectors: Vectors) -> Numbers:
    spread = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLED_ROWS)).astype(np.intp)
    return vectors[spread].astype(np.float64)


def _lengths_left_out(vectors: Numbers, directions: Numbers) -> tuple[float, Numbers]:
    """The vectors' mean length (root of mean squares), and the length that the first k directions leave out, by k."""
    inside = np.cumsum(np.mean((vectors @ directions) ** 2, axis=0))
    return float(np.sqrt(inside[-1])), np.sqrt(np.maximum(inside[-1] - inside, 0))
