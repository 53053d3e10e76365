"""How good top-k lists are, as far as people have judged their pairs."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.columns import Columns, Mask, Numbers, Ranks, Rows, places

PLACES = 10
"""nDCG looks at so many places of a list."""
GOOD = 1.0
"""A pair of this grade or more belongs together."""
_DEVIATIONS = 1.959964
"""95 % of a normal distribution lie within so many standard deviations."""


@dataclass(frozen=True)
class Judged(Columns):
    """Pairs that people have judged, one for each entity that keeps a list."""

    owner: Rows
    """the number of the entity that keeps the list"""
    grade: Numbers
    """from 0 to 3"""
    rank: Ranks
    """the place in the list, from 1; 0 if the pair is not in it"""


@dataclass(frozen=True)
class Estimate:
    """A mean from 0 to 1, and the interval that has its true value with a confidence of 95 %."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True)
class Quality:
    """None if no pair tells: precision needs a listed pair, nDCG and recall one that belongs together."""

    entities: int
    """that keep lists and have judged pairs"""
    pairs: int
    ndcg: Estimate | None
    precision: Estimate | None
    """of the judged pairs in the lists, the share that belongs together"""
    recall: Estimate | None
    """of the judged pairs that belong together, the share in the lists"""


def quality(judged: Judged) -> Quality:
    count = int(judged.owner.max(initial=-1)) + 1
    good, listed = judged.grade >= GOOD, judged.rank > 0

    def per_owner(which: Mask) -> Numbers:
        return np.bincount(judged.owner[which], minlength=count).astype(np.float64)

    found = per_owner(good & listed)
    gain, best = (_discounted(judged.take(which), by, count) for which, by in ((listed, "rank"), (good, "grade")))
    tells = best > 0
    ndcg = _estimate(gain[tells] / best[tells], np.ones(np.count_nonzero(tells)))
    return Quality(
        len(np.unique(judged.owner)),
        len(judged),
        ndcg,
        precision=_estimate(found, per_owner(listed)),
        recall=_estimate(found, per_owner(good)),
    )


def _discounted(judged: Judged, by: str, count: int) -> Numbers:
    """(owners,): the discounted cumulated gain of the judged pairs, in the order of their ranks or of their grades.

    Järvelin and Kekäläinen (2002), with the gain 2^grade - 1 of Burges et al. (2005). Pairs without a judgment are
    left out before, as in Sakai (2007): nothing is known of them.
    """
    order: NDArray[np.intp] = np.lexsort((judged.rank if by == "rank" else -judged.grade, judged.owner))
    ordered = judged.take(order)
    place = places(ordered.owner)
    gains = np.where(ordered.grade >= GOOD, 2**ordered.grade - 1, 0) / np.log2(place + 2)
    sums: Numbers = np.bincount(ordered.owner, np.where(place < PLACES, gains, 0), minlength=count).astype(np.float64)
    return sums


def _estimate(parts: Numbers, wholes: Numbers) -> Estimate | None:
    """The sum of the parts over the sum of the wholes, given by owner.

    The interval is Wilson's (1927). Pairs of one entity are not independent, so that it counts entities, by their
    effective number (Kish 1965): it is rather too wide than too narrow.
    """
    whole = float(wholes.sum())
    if not whole:
        return None
    share, effective = float(parts.sum()) / whole, whole**2 / float((wholes**2).sum())
    part = _DEVIATIONS**2 / effective
    centre = (share + part / 2) / (1 + part)
    spread = sqrt(share * (1 - share) * part + part**2 / 4) / (1 + part)
    return Estimate(share, max(0.0, centre - spread), min(1.0, centre + spread))
