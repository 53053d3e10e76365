"""Consecutive left entities with their lists while a search runs, and spans of consecutive entities."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from matching_pipeline.matches.kernel.columns import Numbers, Rows, concatenate, places
from matching_pipeline.matches.kernel.images import ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import (
    BOUND_STEP,
    Candidates,
    Found,
    bounds_in,
    columns_in,
    last_places,
    ranked,
    rows_in,
)
from matching_pipeline.matches.kernel.policy import DECIMALS

BETTER = 0.9 * 10.0**-DECIMALS
"""A better score is better by one decimal at least. Less than that covers the rounding of float64."""


class Span(NamedTuple):
    """Consecutive entities of an image set, and their rows."""

    entities: slice
    rows: slice


def spans(images: ImageSet, most_rows: int) -> Iterator[Span]:
    """Runs of entities with at most `most_rows` images, or single entities that have more."""
    first = 0
    while first < len(images.entities):
        last = int(np.searchsorted(images.ends, images.starts[first] + most_rows, side="right"))
        last = max(last, first + 1)
        yield Span(slice(first, last), slice(int(images.starts[first]), int(images.ends[last - 1])))
        first = last


@dataclass(frozen=True)
class Tile:
    """Consecutive left entities, and their lists after the tiles that were searched."""

    span: Span
    entity_of_row: Rows
    """(rows of the tile,): the position of a row's entity within the tile"""
    floors: Numbers
    """(entities of the tile,): the least score of a pair that their lists take; it rises as they fill"""
    kept: Found
    waiting: Candidates
    """pairs of the part under search that may belong into the lists, by their near scores"""

    @property
    def floor_of_row(self) -> Numbers:
        return self.floors[self.entity_of_row]

    def with_pairs(self, found: Found, limit: int | None, several: bool) -> "Tile":
        kept = ranked(concatenate([self.kept, found]), limit, several)
        return replace(self, kept=kept)._above_last(limit, 0)

    def without_ties(self, limit: int | None) -> "Tile":
        """After a right tile, as ties break by id: later entities must score more than a full list's last pair."""
        return self._above_last(limit, BETTER)

    def raised(self, least: Numbers) -> "Tile":
        """Floors are at least these, given by row."""
        floors = self.floors.copy()
        np.maximum.at(floors, self.entity_of_row, least)
        return replace(self, floors=floors)

    def raised_by(self, scorer: Scorer, limit: int, several: bool) -> "Tile":
        """Floors are at least those of the lists that the waiting pairs make; pairs below them wait no more."""
        rows, loss = rows_in(self.waiting), 2 * scorer.nearness + BOUND_STEP
        least = bounds_in(self.waiting) - loss
        if several:
            columns = columns_in(self.waiting)
            entities = self.entity_of_row[rows], scorer.right.entity_of_row[columns]
            last = last_places(ranked(Found(*entities, least, rows, columns), limit, several), limit)
            rows, least = last.left_row, last.similarity
        else:
            last_of_row = places(rows) + 1 == limit
            rows, least = rows[last_of_row], least[last_of_row]
        floors = np.full(len(self.entity_of_row), -np.inf)
        floors[rows] = least
        tile = self.raised(floors)
        wanted = bounds_in(self.waiting) >= tile.floor_of_row[rows_in(self.waiting)]
        return replace(tile, waiting=self.waiting[wanted])

    def _above_last(self, limit: int | None, above: float) -> "Tile":
        last, floors = last_places(self.kept, limit), self.floors.copy()
        full = last.left - self.span.entities.start
        floors[full] = np.maximum(floors[full], last.similarity + above)
        return replace(self, floors=floors)
