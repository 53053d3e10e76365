"""Few directions that hold most of the vectors: products of shorter vectors cost less."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matching_pipeline.matches.kernel.columns import Numbers, Rows, Vectors


@dataclass(frozen=True)
class Coordinates:
    """Some of the vectors' own coordinates."""

    columns: Rows
    looseness = 0.0

    @property
    def depth(self) -> int:
        return len(self.columns)

    def inside(self, vectors: Vectors) -> Vectors:
        return vectors[:, self.columns]

    def leading(self, depth: int) -> "Coordinates":
        return Coordinates(np.sort(self.columns[:depth]))


@dataclass(frozen=True)
class Directions:
    """Columns (dimensions, depth) that are nearly orthonormal."""

    columns: Vectors

    @property
    def depth(self) -> int:
        return int(self.columns.shape[1])

    def inside(self, vectors: Vectors) -> Vectors:
        return vectors @ self.columns

    def leading(self, depth: int) -> "Directions":
        """The first directions, turned at random, so that no column is much larger than another.

        8-bit codes share one scale.
        """
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(depth, depth)))[0]
        return Directions(np.ascontiguousarray(self.columns[:, :depth] @ turn, dtype=np.float32))

    @cached_property
    def looseness(self) -> float:
        """The share of its length by which a projection may be off.

        The sum of ‖QᵀQ - I‖ and of the rounding of float32 sums of `dimensions` products in any order.
        """
        exact = self.columns.astype(np.float64)
        skew = float(np.linalg.norm(exact.T @ exact - np.eye(exact.shape[1])))
        rounding = 2 * (exact.shape[0] + 4) * 2.0**-24 * np.sqrt(exact.shape[1])
        return float(skew + 1.5 * rounding)


Basis = Coordinates | Directions
"""A vector has a part inside its span. The part outside is the vector's rest."""


def strongest_coordinates(left: Vectors, right: Vectors) -> Coordinates:
    """All coordinates, those first that hold most of both sides."""
    energy = np.mean(np.square(left), axis=0, dtype=np.float64) * np.mean(np.square(right), axis=0, dtype=np.float64)
    return Coordinates(np.argsort(-energy, kind="stable"))


def principal_directions(left: Vectors, right: Vectors) -> Directions | None:
    """All directions, those first in which the vectors differ most. None if they differ about alike in most."""
    moments = _moments(left) + _moments(right)
    if np.trace(moments) ** 2 > len(moments) / 2 * np.sum(moments**2):
        return None
    return Directions(np.linalg.eigh(moments)[1][:, ::-1].astype(np.float32))


def _moments(vectors: Vectors) -> Numbers:
    moments = (vectors.T @ vectors).astype(np.float64)
    scaled: Numbers = moments / max(float(np.trace(moments)), 1e-30)
    return scaled
