"""The three stages of the search, as pure functions on one tile of left rows and one tile of right rows.

`search.py` derives why they lose no pair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.coding import Coded, Coding, error
from matching_pipeline.matches.kernel.columns import Mask, Numbers, Rows
from matching_pipeline.matches.kernel.images import Scorer
from matching_pipeline.matches.kernel.pairs import Candidates, Found, as_candidates
from matching_pipeline.matches.kernel.policy import ROUNDING

CROWDED = 1 / 8
"""From this share of a tile's pairs on, float64 scores of all pairs cost less than exact scores of single ones."""


@dataclass(frozen=True)
class Bounds:
    """The most that each pair of a left row and a right row scores: `products · scale + above`."""

    products: NDArray[Any]
    """(left rows, right rows)"""
    scale: Numbers
    """(left rows,)"""
    above: Numbers
    """(left rows,)"""
    loss: Numbers
    """(left rows,): by how much the scores may be below that; infinite if that is unknown"""

    def reaching(self, floors: Numbers) -> Mask:
        """(left rows, right rows): which pairs may score their left row's floor or more.

        The floors are brought to the scale of the products and rounded down, which leaves one comparison a pair.
        """
        cuts, form = (floors - self.above) / self.scale, self.products.dtype
        if form.kind == "i":
            cuts = np.clip(np.floor(cuts), np.iinfo(form).min, np.iinfo(form).max).astype(form)
        else:
            cuts = np.nextafter(cuts.astype(form), -np.inf, dtype=form)
        reaching: Mask = self.products >= cuts[:, None]
        return reaching

    def candidates(self, flat: Rows, first_column: int) -> Candidates:
        """Pairs by their positions in the flattened products."""
        rows, columns = np.divmod(flat, self.products.shape[1])
        bounds = self.products.ravel()[flat] * self.scale[rows] + self.above[rows]
        return as_candidates(rows, bounds, columns + first_column)


def coarse(coding: Coding, left: Coded, right: Coded, slack: float) -> Bounds:
    """Bounds from a product of codes. By `slack` a score may exceed the product of the two vectors that are coded."""
    off = error(left, right) + slack
    loss = 2 * off if coding.two_sided else np.full(len(off), np.inf)
    return Bounds(coding.multiply(left, right), left.scale * right.scale, left.along_centre + off, loss)


def fine(scorer: Scorer, left_rows: slice, right_rows: slice) -> Bounds:
    """Bounds from float64 scores, which exceed the scores by their rounding at most."""
    scores = scorer.all_scores(left_rows, right_rows)
    rounding = np.full(len(scores), ROUNDING)
    return Bounds(scores, np.ones(len(scores)), rounding, 2 * rounding)


def certain(bounds: Bounds, count: int, columns: Rows | slice) -> Numbers:
    """(left rows,): what at least `count` pairs of a row score, of the pairs with these columns."""
    products = bounds.products[:, columns]
    if count > products.shape[1] or np.isinf(bounds.loss).any():
        return np.full(len(products), -np.inf)
    last = np.partition(products, products.shape[1] - count, axis=1)[:, products.shape[1] - count]
    least: Numbers = last * bounds.scale + bounds.above - bounds.loss
    return least


def prune(bounds: Bounds, finer: Callable[[], Bounds], floors: Numbers) -> tuple[Bounds, Rows]:
    """All pairs whose scores reach their left row's floor, and few others, by positions in the flattened products.

    `finer` computes bounds that exclude more. They take the place of `bounds` where those exclude too little.
    """
    reaching = bounds.reaching(floors)
    if np.count_nonzero(reaching) > CROWDED * reaching.size:
        bounds = finer()
        reaching = bounds.reaching(floors)
    return bounds, np.flatnonzero(reaching)


def exact(scorer: Scorer, left_rows: Rows, right_rows: Rows, floors: Numbers) -> Found:
    """The paired rows whose scores reach their floors."""
    scores = scorer.exact(left_rows, right_rows)
    left, right = scorer.left.entity_of_row[left_rows], scorer.right.entity_of_row[right_rows]
    return Found(left, right, scores, left_rows, right_rows).take(scores >= floors)
