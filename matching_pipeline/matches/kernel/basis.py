"""Few directions that hold most of what tells vectors apart: products of shorter vectors cost less."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Matrix = NDArray[np.float64]

SAMPLE = 4096
STEP = 32
WORTH_CHOOSING = 2 * 10**11
"""With fewer multiplications in all, choosing costs more than it saves."""
LOST_BY_CODES = 0.016
"""Of a product of unit vectors, by 8-bit codes of both, about: to leave out as much again is not felt."""


@dataclass(frozen=True)
class Basis:
    """Directions (dimensions, depth) that are nearly orthonormal; a vector's part outside of them is its rest.

    With x = Qᵀa and y = Qᵀb of exact directions, a·b = x·y + a⊥·b⊥, and |a⊥·b⊥| ≤ |a⊥||b⊥| by Cauchy–Schwarz.
    """

    directions: Vectors

    @property
    def looseness(self) -> float:
        """By how much of its length a projection may be off: what ‖QᵀQ - I‖ is, and the rounding of its float32
        sums, each of `dimensions` products, in whatever order."""
        exact = self.directions.astype(np.float64)
        skew = float(np.linalg.norm(exact.T @ exact - np.eye(exact.shape[1])))
        rounding = 2 * (exact.shape[0] + 4) * 2.0**-24 * np.sqrt(exact.shape[1])
        return float(skew + 1.5 * rounding)


def choose_basis(left: Vectors, right: Vectors, centre: Vectors) -> Basis | None:
    """For products of the left with what the right differs from the centre.

    The principal directions of a sample, so many that what is left out is about what 8-bit codes lose anyway; None
    where that is not much fewer than all. Whatever is chosen, bounds hold: a bad choice costs time only.
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
    # mixed, so that no column is much larger than another, which 8-bit codes would pay for
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(depth, depth)))[0]
    return Basis(np.ascontiguousarray(directions[:, :depth] @ rotation, dtype=np.float32))


def _sample(vectors: Vectors) -> Matrix:
    spread = np.linspace(0, len(vectors) - 1, min(len(vectors), SAMPLE)).astype(np.intp)
    return vectors[spread].astype(np.float64)


def _lengths_left_out(vectors: Matrix, directions: Matrix) -> tuple[float, Matrix]:
    """The vectors' length in the mean, and that of what the first direction leaves out, the first two, and so on."""
    inside = np.cumsum(np.mean((vectors @ directions) ** 2, axis=0))
    return float(np.sqrt(inside[-1])), np.sqrt(np.maximum(inside[-1] - inside, 0))
