"""Pairs as columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.attributes import Rows
from matching_pipeline.matches.kernel.images import Ids

Keys = NDArray[np.uint64]

_STEPS = 1 << 21
"""Of a score, for each unit; 24 bits hold those from -2 to 6."""
_TOP = np.uint64((1 << 24) - 1)
MOST_ROWS, MOST_COLUMNS = 1 << 16, 1 << 24
_ROW_SHIFT, _SCORE_SHIFT = np.uint64(48), np.uint64(24)


@dataclass(frozen=True)
class Columns:
    """Arrays of one length, a row of them an entry."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def take(self, which: Rows | NDArray[np.bool_] | slice) -> Self:
        return type(self)(*(column[which] for column in vars(self).values()))


AnyColumns = TypeVar("AnyColumns", bound=Columns)


def concatenate(parts: Sequence[AnyColumns]) -> AnyColumns:
    """Of one part or more."""
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return type(parts[0])(*(np.concatenate(each) for each in columns))


@dataclass(frozen=True)
class Pairs(Columns):
    """Owners that match and the images that prove it, by id; sorted by left id, best first, ties by right id."""

    left: Ids
    right: Ids
    similarity: NDArray[np.float64]
    left_image: Ids
    right_image: Ids

    @property
    def ranks(self) -> NDArray[np.intp]:
        """From 1 in each left owner's list."""
        return places(self.left) + 1


@dataclass(frozen=True)
class Found(Columns):
    """The same by position, while a search is under way."""

    left: Rows
    right: Rows
    similarity: NDArray[np.float64]
    left_row: Rows
    right_row: Rows


def none_found() -> Found:
    empty = np.empty(0, dtype=np.intp)
    return Found(empty, empty, np.empty(0), empty, empty)


def ranked(found: Found, limit: int | None, several: bool) -> Found:
    """By left owner, best first, ties by right owner, at most `limit` each.

    `several`: a pair of owners may occur more than once; its best images stand, the first of equals.
    """
    if several:
        found = found.take(np.lexsort((found.right_row, found.left_row, -found.similarity, found.right, found.left)))
        first = np.ones(len(found), dtype=np.bool_)
        first[1:] = (found.left[1:] != found.left[:-1]) | (found.right[1:] != found.right[:-1])
        found = found.take(first)
    found = found.take(np.lexsort((found.right, -found.similarity, found.left)))
    return found if limit is None else found.take(places(found.left) < limit)


def last_places(lists: Found, limit: int | None) -> Found:
    """Of each ranked list that is full, the last pair."""
    return lists.take(places(lists.left) + 1 == limit)


def places(groups: NDArray[Any]) -> Rows:
    """Of each element of a sorted array, how many equal ones stand before it."""
    first = np.ones(len(groups), dtype=np.bool_)
    first[1:] = groups[1:] != groups[:-1]
    starts = np.flatnonzero(first)
    return np.arange(len(groups)) - np.repeat(starts, np.diff(np.append(starts, len(groups))))


def pack(rows: Rows, most: NDArray[np.float64], columns: Rows) -> Keys:
    """Keys that sort by row, then by what the pair scores at most, best first, then by column. Rows are below
    MOST_ROWS, columns below MOST_COLUMNS; scores are rounded up, by less than 2⁻²¹."""
    steps = np.ceil(np.clip((most + 2) * _STEPS, 0, _TOP)).astype(np.uint64)
    keys = (rows.astype(np.uint64) << _ROW_SHIFT) | ((_TOP - steps) << _SCORE_SHIFT) | columns.astype(np.uint64)
    return np.asarray(keys, dtype=np.uint64)


def unpack(keys: Keys) -> tuple[Rows, NDArray[np.float64], Rows]:
    steps = _TOP - ((keys >> _SCORE_SHIFT) & _TOP)
    columns = (keys & np.uint64(MOST_COLUMNS - 1)).astype(np.intp)
    return (keys >> _ROW_SHIFT).astype(np.intp), steps.astype(np.float64) / _STEPS - 2, columns
