"""The stages of the search, as pure functions on one tile of left rows and one tile of right rows.

`search.py` derives why they lose no pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.coding import Coded, Coding, error
from matching_pipeline.matches.kernel.columns import Numbers, Rows
from matching_pipeline.matches.kernel.images import Scorer
from matching_pipeline.matches.kernel.pairs import Candidates, Found, as_candidates
from matching_pipeline.matches.kernel.policy import ROUNDING

GROUPS = 8
"""So many groups of right rows for each place of a list tell about where the list ends."""
CROWDED = 1 / 8
"""From this share of a tile's pairs on, float64 scores of all pairs cost less than scores of single ones."""


@dataclass(frozen=True)
class Bounds:
    """The most that each pair of a right row and a left row scores: `products · scale + above`."""

    products: NDArray[Any]
    """(right rows, left rows)"""
    scale: Numbers
    """(left rows,)"""
    above: Numbers
    """(left rows,)"""

    def reaching(self, floors: Numbers) -> tuple[Rows, Rows]:
        """The right and the left rows of the pairs that may score their left row's floor or more.

        The floors are brought to the scale of the products and rounded down.
        """
        return _places(self.products >= self._cuts(floors))

    def last(self, right_rows: Rows, count: int) -> Numbers:
        """(left rows,): a bound that so many of these right rows reach with each, -inf if there are fewer.

        It is the best bound of a group of rows, so that fewer numbers are sorted. The groups are so many that two of
        the best rows are seldom in one.
        """
        if len(right_rows) < count:
            return np.full(len(self.scale), -np.inf)
        size = max(1, len(right_rows) // (GROUPS * count))
        whole = len(right_rows) // size * size
        best = self.products[right_rows[:whole]].reshape(size, -1, len(self.scale)).max(axis=0)
        return np.asarray(np.partition(best, -count, axis=0)[-count] * self.scale + self.above)

    def candidates(self, right: Rows, left: Rows, first_column: int) -> Candidates:
        bounds = self.products[right, left] * self.scale[left] + self.above[left]
        return as_candidates(left, bounds, right + first_column)

    def _cuts(self, floors: Numbers) -> NDArray[Any]:
        cuts, form = (floors - self.above) / self.scale, self.products.dtype
        if form.kind == "i":
            return np.clip(np.floor(cuts), np.iinfo(form).min, np.iinfo(form).max).astype(form)
        return np.asarray(np.nextafter(cuts.astype(form), -np.inf, dtype=form))


def coarse(coding: Coding, left: Coded, right: Coded, slack: float) -> Bounds:
    """Bounds from a product of codes. By `slack` a score may exceed the product of the two vectors that are coded."""
    above = left.along_centre + error(left, right) + slack
    return Bounds(coding.multiply(left, right), left.scale * right.scale, above)


def fine(scorer: Scorer, left_rows: slice, right_rows: slice) -> Bounds:
    """Bounds from float64 scores, which exceed the scores by their rounding at most."""
    return _above(scorer.all_scores(left_rows, right_rows), ROUNDING)


def near_all(scorer: Scorer, left_rows: slice, right_rows: slice) -> Bounds:
    """Bounds of all pairs that exceed their scores by 2 · `scorer.nearness` at most."""
    return _above(scorer.all_near(left_rows, right_rows), scorer.nearness)


def prune(bounds: Bounds, finer: Callable[[], Bounds], floors: Numbers) -> tuple[Bounds, Rows, Rows]:
    """The right and left rows of all pairs whose scores reach their left row's floor, and of few others.

    `finer` computes bounds that exclude more. They take the place of `bounds` where those exclude too little.
    """
    right, left = bounds.reaching(floors)
    if len(right) > CROWDED * bounds.products.size:
        bounds = finer()
        right, left = bounds.reaching(floors)
    return bounds, right, left


def near(scorer: Scorer, left_rows: Rows, right_rows: Rows) -> Numbers:
    """Bounds of paired rows that exceed their scores by 2 · `scorer.nearness` at most."""
    return scorer.near(left_rows, right_rows) + scorer.nearness


def exact(scorer: Scorer, left_rows: Rows, right_rows: Rows, floors: Numbers) -> Found:
    """The paired rows whose scores reach their floors."""
    scores = scorer.exact(left_rows, right_rows)
    left, right = scorer.left.entity_of_row[left_rows], scorer.right.entity_of_row[right_rows]
    return Found(left, right, scores, left_rows, right_rows).take(scores >= floors)


def _above(scores: Numbers, error: float) -> Bounds:
    return Bounds(scores, np.ones(scores.shape[1]), np.full(scores.shape[1], error))


def _places(mask: NDArray[np.bool_]) -> tuple[Rows, Rows]:
    """Rows and columns of what is true; several times as fast as `np.nonzero`."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns
