"""Pairs of entities as columns, and candidates as single numbers that sort in the order of the search."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.columns import Columns, Ids, Numbers, Rows, places, starts_of

Candidates = NDArray[np.uint64]
"""Pairs of a row and a column with a bound of their score, 64 bits each: 16 of the row, 24 of the bound, 24 of the
column. They sort by row, then by bound, best first, then by column."""
NO_CANDIDATES: Candidates = np.empty(0, dtype=np.uint64)

MOST_ROWS, MOST_COLUMNS = 1 << 16, 1 << 24
_ROW_SHIFT, _BOUND_SHIFT = np.uint64(48), np.uint64(24)
_STEPS = 1 << 21
"""Steps of a bound for each unit: 24 bits hold bounds from -2 to 6."""
BOUND_STEP = 1 / _STEPS
_TOP = np.uint64((1 << 24) - 1)


@dataclass(frozen=True)
class Pairs(Columns):
    """Entities that match and the images that prove it, by id; sorted by left id, best first, ties by right id."""

    left: Ids
    right: Ids
    similarity: Numbers
    left_image: Ids
    right_image: Ids

    @property
    def ranks(self) -> Rows:
        """The ranks from 1 in each left entity's list."""
        return places(self.left) + 1

    @property
    def turned(self) -> "Pairs":
        """The same pairs in the same order, each with its sides exchanged."""
        return Pairs(self.right, self.left, self.similarity, self.right_image, self.left_image)


@dataclass(frozen=True)
class Found(Columns):
    """Pairs by position while a search runs: of entities (`left`, `right`) and of their images' rows."""

    left: Rows
    right: Rows
    similarity: Numbers
    left_row: Rows
    right_row: Rows


_NO_IDS: Ids = np.empty(0, dtype="S16")
NO_PAIRS = Pairs(_NO_IDS, _NO_IDS, np.empty(0), _NO_IDS, _NO_IDS)


def none_found() -> Found:
    empty = np.empty(0, dtype=np.intp)
    return Found(empty, empty, np.empty(0), empty, empty)


def ranked(found: Found, limit: int | None, several: bool) -> Found:
    """The pairs by left entity, best first, ties by right entity, at most `limit` each.

    `several` says that a pair of entities may occur more than once. Its best images prove it, the first of equals.
    """
    if several:
        found = found.take(np.lexsort((found.right_row, found.left_row, -found.similarity, found.right, found.left)))
        found = found.take(np.union1d(starts_of(found.left), starts_of(found.right)))
    found = found.take(np.lexsort((found.right, -found.similarity, found.left)))
    return found if limit is None else found.take(places(found.left) < limit)


def last_places(lists: Found, limit: int | None) -> Found:
    """The last pair of each ranked list that is full."""
    return lists.take(places(lists.left) + 1 == limit)


def as_candidates(rows: Rows, bounds: Numbers, columns: Rows) -> Candidates:
    """Rows are below MOST_ROWS, columns below MOST_COLUMNS. Bounds are rounded up, by less than 2⁻²¹."""
    steps = np.ceil(np.clip((bounds + 2) * _STEPS, 0, _TOP)).astype(np.uint64)
    packed = (rows.astype(np.uint64) << _ROW_SHIFT) | ((_TOP - steps) << _BOUND_SHIFT) | columns.astype(np.uint64)
    return np.asarray(packed, dtype=np.uint64)


def rows_in(candidates: Candidates) -> Rows:
    return (candidates >> _ROW_SHIFT).astype(np.intp)


def bounds_in(candidates: Candidates) -> Numbers:
    return (_TOP - ((candidates >> _BOUND_SHIFT) & _TOP)).astype(np.float64) / _STEPS - 2


def columns_in(candidates: Candidates) -> Rows:
    return (candidates & np.uint64(MOST_COLUMNS - 1)).astype(np.intp)
