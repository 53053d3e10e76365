"""The difference between the rows that a table of pairs should have and those that it has."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from matching_pipeline.matches.kernel.columns import Columns, Ids, Mask

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
    """which of the upserts have no row yet"""
    deletions: AnyPairRows

    def parts(self, lists: int) -> Iterator["Change[AnyPairRows]"]:
        """Parts with all rows of so many left entities each."""
        columns = [next(iter(vars(rows).values())) for rows in (self.upserts, self.deletions)]
        left = np.unique(np.concatenate(columns))
        upserts, deletions = (np.searchsorted(left, column) // lists for column in columns)
        for part in range(0, -(-len(left) // lists)):
            ours = upserts == part
            yield Change(self.upserts.take(ours), self.new[ours], self.deletions.take(deletions == part))


def pair_keys(left: Ids, right: Ids) -> Ids:
    """Both ids of each pair in one value ("S32") that sorts as (left, right) does."""
    both = np.empty((len(left), 2), dtype="S16")
    both[:, 0], both[:, 1] = left, right
    return both.view("S32").ravel()


def difference(wanted: AnyPairRows, stored: AnyPairRows) -> Change[AnyPairRows]:
    _, here, there = np.intersect1d(wanted.keys, stored.keys, assume_unique=True, return_indices=True)
    new, left_over = np.ones(len(wanted), dtype=np.bool_), np.ones(len(stored), dtype=np.bool_)
    new[here], left_over[there] = False, False
    upserts = new.copy()
    for name, column in vars(wanted).items():
        ours, theirs = column[here], getattr(stored, name)[there]
        upserts[here] |= np.abs(ours - theirs) >= TOLERANCE if name == "similarity" else ours != theirs
    return Change(wanted.take(upserts), new[upserts], stored.take(left_over))
