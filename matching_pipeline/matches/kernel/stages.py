"""The stages of the search, as pure functions on one tile of left rows and one tile of right rows.

`search.py` derives why they lose no pair.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.coding import Coded, error
from matching_pipeline.matches.kernel.columns import Numbers, Rows
from matching_pipeline.matches.kernel.images import Scorer
from matching_pipeline.matches.kernel.pairs import NO_CANDIDATES, Candidates, Found, as_candidates

GROUPS = 8
"""So many groups of right rows for each place of a list tell about where the list ends."""


class Reached(NamedTuple):
    """The pairs of a left tile and a right tile whose products reach what they must."""

    tile: int
    """the number of the right tile"""
    first_column: int
    """its first row"""
    places: Rows
    """right row · left rows + left row"""
    products: NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """The most that each pair of a left tile and some right tiles scores: `product · scale + above`.

    They are made for all these tiles at once. Threads would wait for each other in many short operations.
    """

    scale: Numbers
    """(right tiles, left rows)"""
    above: Numbers
    """(right tiles, left rows)"""

    def cuts(self, floors: Numbers, form: np.dtype[Any]) -> NDArray[Any]:
        """(right tiles, left rows): the least products with which a pair may score its left row's floor."""
        return _rounded_down((floors - self.above) / self.scale, form)

    def candidates(self, reached: Sequence[Reached]) -> Candidates:
        if not reached:
            return NO_CANDIDATES
        lengths = [len(each.places) for each in reached]
        tiles, first = (np.repeat(np.array(each), lengths) for each in list(zip(*reached, strict=True))[:2])
        right, left = np.divmod(np.concatenate([each.places for each in reached]), self.scale.shape[1])
        products = np.concatenate([each.products for each in reached])
        return as_candidates(left, products * self.scale[tiles, left] + self.above[tiles, left], right + first)


def coarse(left: Coded, right: Sequence[Coded], slack: float) -> Bounds:
    """Bounds from products of codes. By `slack` a score may exceed the product of the two vectors that are coded."""
    scale, length, residual = (
        np.array([getattr(each, name) for each in right]) for name in ("scale", "length", "residual")
    )
    above = left.along_centre + error(left, length, residual) + slack
    return Bounds(left.scale * scale, above)


def reaching(products: NDArray[Any], cuts: NDArray[Any]) -> Rows:
    """The places of (right rows, left rows) whose products reach the cuts of their left rows."""
    return np.flatnonzero(products >= cuts)


def candidates(scores: Numbers, error: float, floors: Numbers, first_column: int) -> Candidates:
    """The pairs of (right rows, left rows) that may reach their left row's floor: the scores are off by `error`."""
    right, left = np.divmod(reaching(scores, _rounded_down(floors - error, scores.dtype)), scores.shape[1])
    bounds = scores[right, left].astype(np.float64) + error
    return as_candidates(left, bounds, right + first_column)


def last_of_best(scores: Numbers, right_rows: Rows, count: int) -> Numbers:
    """(left rows,): a score that so many of these right rows reach with each, -inf if there are fewer.

    It is the best score of a group of rows, so that fewer numbers are sorted. The groups are so many that two of the
    best rows are seldom in one.
    """
    if len(right_rows) < count:
        return np.full(scores.shape[1], -np.inf)
    size = max(1, len(right_rows) // (GROUPS * count))
    whole = len(right_rows) // size * size
    best = scores[right_rows[:whole]].reshape(size, -1, scores.shape[1]).max(axis=0)
    return np.asarray(np.partition(best, -count, axis=0)[-count], dtype=np.float64)


def near(scorer: Scorer, left_rows: Rows, right_rows: Rows) -> Numbers:
    """Bounds of paired rows that exceed their scores by 2 · `scorer.nearness` at most."""
    return scorer.near(left_rows, right_rows) + scorer.nearness


def exact(scorer: Scorer, left_rows: Rows, right_rows: Rows, floors: Numbers) -> Found:
    """The paired rows whose scores reach their floors."""
    scores = scorer.exact(left_rows, right_rows)
    left, right = scorer.left.entity_of_row[left_rows], scorer.right.entity_of_row[right_rows]
    return Found(left, right, scores, left_rows, right_rows).take(scores >= floors)


def _rounded_down(cuts: Numbers, form: np.dtype[Any]) -> NDArray[Any]:
    if form.kind == "i":
        return np.clip(np.floor(cuts), np.iinfo(form).min, np.iinfo(form).max).astype(form)
    return np.asarray(np.nextafter(cuts.astype(form), -np.inf, dtype=form))
