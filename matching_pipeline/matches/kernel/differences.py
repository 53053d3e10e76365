"""The rows that must be written so that a table of pairs holds what it should."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from matching_pipeline.matches.kernel.columns import Columns, Ids, Mask, Rows

TOLERANCE = 1e-8
"""Scores that differ by less are the same score, computed on another machine."""


@dataclass(frozen=True)
class PairRows(Columns):
    """Rows of pairs, each pair once. The first two columns are its ids, a column `similarity` its score."""

    @property
    def keys(self) -> Ids:
        left, right, *_ = vars(self).values()
        return pair_keys(left, right)


AnyPairRows = TypeVar("AnyPairRows", bound=PairRows)


@dataclass(frozen=True)
class Change(Generic[AnyPairRows]):
    upserts: AnyPairRows
    new: Mask
    """which of the upserts are no row yet"""
    deletions: AnyPairRows

    def parts(self, size: int) -> Iterator["Change[AnyPairRows]"]:
        for begin in range(0, max(len(self.upserts), len(self.deletions)), size):
            part = slice(begin, begin + size)
            yield Change(self.upserts.take(part), self.new[part], self.deletions.take(part))


@dataclass(frozen=True)
class Comparison:
    """A comparison of wanted keys with stored ones."""

    found: Mask
    """which of the wanted are stored"""
    place: Rows
    """for each of those that are stored, its place among the stored"""
    left_over: Mask
    """which of the stored are not wanted"""


def pair_keys(left: Ids, right: Ids) -> Ids:
    """Both ids of each pair in one value ("S32") that sorts as (left, right) does."""
    both = np.empty((len(left), 2), dtype="S16")
    both[:, 0], both[:, 1] = left, right
    return both.view("S32").ravel()


def difference(wanted: AnyPairRows, stored: AnyPairRows) -> Change[AnyPairRows]:
    seen = compare(wanted.keys, stored.keys)
    differs = np.ones(len(wanted), dtype=np.bool_)
    differs[seen.found] = _differs(wanted.take(seen.found), stored.take(seen.place))
    return Change(wanted.take(differs), ~seen.found[differs], stored.take(seen.left_over))


def compare(wanted: Ids, stored: Ids) -> Comparison:
    """Each key occurs once on either side."""
    order = np.argsort(stored)
    after = np.minimum(np.searchsorted(stored, wanted, sorter=order), max(len(stored) - 1, 0))
    place = order[after] if len(stored) else np.zeros(len(wanted), dtype=np.intp)
    found = stored[place] == wanted if len(stored) else np.zeros(len(wanted), dtype=np.bool_)
    left_over = np.ones(len(stored), dtype=np.bool_)
    left_over[place[found]] = False
    return Comparison(found, place[found], left_over)


def among(values: Ids, members: Ids) -> Mask:
    """Which of the values are members. The members are sorted."""
    if not len(members):
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[at] == values)


def _differs(wanted: AnyPairRows, stored: AnyPairRows) -> Mask:
    """Row by row, for rows of equal keys."""
    differs = np.zeros(len(wanted), dtype=np.bool_)
    for name, column in vars(wanted).items():
        other = getattr(stored, name)
        differs |= np.abs(column - other) >= TOLERANCE if name == "similarity" else column != other
    return differs
