"""The best pairs of two sets of images: every result is exact, and few pairs are scored exactly.

Images a and b score `s(a, b) = (1 - w) · cos(a, b) + w · overlap(a, b)`, rounded to 9 decimals. For every left
entity the search finds the pairs that reach its *floor*: the threshold, or the last score of its list once that is
full. Float64 scores of all pairs would cost far too much. So the search takes a tile of left rows and a tile of right
rows at a time, and does three things with them (`stages.py`).

**Coarse: a bound of every score from one product of short codes.** `Scorer` makes each image one vector: its unit
embedding times √(1 - w), then its attributes as columns times √w. For the vectors x of a and y of b it holds that
`s(a, b) ≤ x·y`. `coding.py` bounds x·y in three steps and adds up their errors:

1. With the mean c of all right vectors, `x·y = x·c + x·d` where `d = y - c`. The first term is computed once for
   each left row. d is shorter than y, so the following steps lose less of it.
2. Let Q have few orthonormal columns: some coordinates, or the principal directions of both sides. A vector is the
   sum of its part inside their span and its *rest*, x⊥ or d⊥. Then `x·d = Qᵀx·Qᵀd + x⊥·d⊥ ≤ Qᵀx·Qᵀd + |x⊥| |d⊥|` by
   Cauchy–Schwarz. The lengths follow from `|x⊥|² = |x|² - |Qᵀx|²`, and become further columns of the two vectors. So
   one product of the longer vectors u and v holds both terms.
3. For 8-bit products u and v are rounded to `û = scale · code`, and codes are multiplied exactly. From
   `u·v - û·v̂ = (u - û)·v + û·(v - v̂)` and Cauchy–Schwarz, the product is off by at most
   `|u - û| |v| + |û| |v - v̂|`, where `|û| ≤ |u| + |u - û|`. A product of floats is off by its rounding.

Together: `s(a, b) ≤ scale · scale · (product of codes) + x·c + error + slack`. The slack covers the rounding of x and
y to float32 and of s to 9 decimals. All vectors of a right tile share one scale, and the largest of their lengths
stands for each in the error. So scale, error and slack depend on the left row only, and `Bounds` is the matrix of
products with two numbers a row. Without Q the products are off by the error in both directions. So they also tell
what a pair scores at least, and floors rise before any pair is scored.

**Which codes** is a matter of time, not of the result (`choice.py`). A process takes 8-bit products if they are
clearly faster than those of floats; it times both. How many columns Q has follows from a sample of pairs: fewer
columns cost less, and leave more pairs to score. The higher the floors, the fewer columns exclude enough. So the
choice is made again as the search proceeds.

**Prune: the pairs that the bounds exclude.** A pair whose bound is below its floor can be in no list. The floor of a
row is brought to the scale of the products, and then each pair costs one comparison. If bounds are too loose to
exclude much (images that are nearly alike), float64 scores of the whole tile replace them.

**Exact: the scores of the other pairs.** `Scorer.exact` sums each pair alone, in float64, and gives every score in a
list. So a score depends on its two images only: not on tiles, parts or threads, nor on the other pairs of a search.
The coarse stage may leave out only pairs that no list keeps. Therefore incremental maintenance and a rebuild write
the same numbers.

Floors rise while lists fill, and a higher floor leaves fewer pairs to score. So pairs wait until some tiles were
pruned, and those with the best bounds are scored first.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.choice import Choice
from matching_pipeline.matches.kernel.coding import Coded, Coding
from matching_pipeline.matches.kernel.columns import Numbers, Rows, as_uuids, concatenate, places
from matching_pipeline.matches.kernel.images import ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import (
    BOUND_STEP,
    MOST_COLUMNS,
    MOST_ROWS,
    Candidates,
    Found,
    Pairs,
    bounds_in,
    columns_in,
    last_places,
    none_found,
    ranked,
    rows_in,
)
from matching_pipeline.matches.kernel.policy import DECIMALS, Policy
from matching_pipeline.matches.kernel.products import cores, one_thread_each
from matching_pipeline.matches.kernel.stages import Bounds, certain, coarse, exact, fine, prune
from matching_pipeline.matches.kernel.tally import Tally

LEFT_ROWS = 1024
RIGHT_ROWS = 2048
"""Rows of a left and of a right tile: their product takes 8 MB."""

PHASES = (1, 4, 8, 12, 16, 24, 32, 48, 64)
"""After so many right tiles the candidates are scored, and the bounds are chosen again."""

MOST_WAITING = 4_000_000
"""Candidates of a left tile that may wait for their exact scores: 32 MB."""

WAITING = 8
"""So many candidates for each place of a list may wait from phase to phase."""

NONE_WAITING = np.empty(0, dtype=np.uint64)

BETTER = 0.9 * 10.0**-DECIMALS
"""A better score is better by one decimal at least. Less than that covers the rounding of float64."""


def best_pairs(left: ImageSet, right_parts: Iterable[ImageSet], policy: Policy, tally: Tally | None = None) -> Pairs:
    """The list of every left entity. The right side comes in parts by ascending entity, of which one is held."""
    floors = np.full(len(left.entities), policy.threshold)
    return search(left, right_parts, policy.attribute_weight, floors, policy.limit, tally)


def pairs_above(left: ImageSet, right: ImageSet, policy: Policy, floors: Mapping[UUID, float]) -> Pairs:
    """All pairs that reach the threshold and, if their left entity has one, its floor."""
    lowest = np.full(len(left.entities), policy.threshold)
    if floors:
        lowest = np.maximum(lowest, [floors.get(entity, policy.threshold) for entity in as_uuids(left.entities)])
    return search(left, [right], policy.attribute_weight, lowest, limit=None)


def search(
    left: ImageSet,
    right_parts: Iterable[ImageSet],
    weight: float,
    floors: Numbers,
    limit: int | None,
    tally: Tally | None = None,
) -> Pairs:
    """For every left entity the pairs that reach its floor, or with a limit the best `limit` of them."""
    tiles, no_ids = list(_tiles(left, floors)), np.empty(0, dtype="S16")
    right_entities, right_images = [no_ids], [no_ids]
    for right in right_parts:
        if len(right.image_ids) > MOST_COLUMNS:
            raise ValueError(f"a part of {len(right.image_ids)} images: {MOST_COLUMNS} can be compared at once")
        if tiles and len(right.entities):
            before = sum(map(len, right_entities)), sum(map(len, right_images))
            tiles = _Part(left, right, weight, limit, before, tally or Tally()).search(tiles)
        right_entities.append(right.entities)
        right_images.append(right.image_ids)
    found = concatenate([none_found(), *(tile.kept for tile in tiles)])
    return Pairs(
        left.entities[found.left],
        np.concatenate(right_entities)[found.right],
        found.similarity,
        left.image_ids[found.left_row],
        np.concatenate(right_images)[found.right_row],
    )


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
    """pairs of the part under search that may belong into the lists"""
    loss: Numbers
    """(rows of the tile,): by how much less than their bounds these pairs may score"""

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

    def _above_last(self, limit: int | None, above: float) -> "Tile":
        last, floors = last_places(self.kept, limit), self.floors.copy()
        full = last.left - self.span.entities.start
        floors[full] = np.maximum(floors[full], last.similarity + above)
        return replace(self, floors=floors)


def _tiles(left: ImageSet, floors: Numbers) -> Iterator[Tile]:
    for span in spans(left, LEFT_ROWS):
        if span.rows.stop - span.rows.start > MOST_ROWS:
            raise ValueError(f"an entity has more than {MOST_ROWS} images: they cannot be matched")
        entity_of_row = left.entity_of_row[span.rows] - span.entities.start
        yield Tile(
            span,
            entity_of_row,
            floors[span.entities].astype(np.float64),
            none_found(),
            NONE_WAITING,
            np.zeros(len(entity_of_row)),
        )


class _Part:
    """A part of the right side, and the search of it for each left tile."""

    def __init__(
        self,
        left: ImageSet,
        right: ImageSet,
        weight: float,
        limit: int | None,
        before: tuple[int, int],
        tally: Tally,
    ) -> None:
        """`before` is the number of right entities and of images in earlier parts."""
        self._tally = tally
        self._scorer, self._limit, self._before = Scorer(left, right, weight), limit, before
        self._choice = Choice(self._scorer)
        self._several = any(len(side.entities) < len(side.image_ids) for side in (left, right))

    def search(self, tiles: list[Tile]) -> list[Tile]:
        if self._choice.few:
            return self._run(tiles, map)
        with one_thread_each(), ThreadPoolExecutor(cores()) as pool:
            return self._run(tiles, pool.map)

    def _run(
        self, tiles: list[Tile], each: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
    ) -> list[Tile]:
        for phase in self._phases():
            coding = self._choice.coding(self._floors(tiles))
            coded = list(each(partial(self._code, coding), phase))
            tiles = list(each(partial(self._search, coding, phase, coded), tiles))
        return list(each(self._settle, tiles))

    def _phases(self) -> Iterator[list[Span]]:
        """Right tiles, ever more at once. Floors rise between them, so that fewer dimensions exclude enough pairs."""
        all_spans = list(spans(self._scorer.right, RIGHT_ROWS))
        bounds = [0, *PHASES, len(all_spans)] if self._limit is not None else [0, len(all_spans)]
        yield from filter(None, (all_spans[first:last] for first, last in pairwise(bounds)))

    def _floors(self, tiles: list[Tile]) -> Numbers | None:
        """(left rows,); None before the first right tile, if no list of a limited length has a pair."""
        if self._limit is not None and not any(len(tile.kept) + len(tile.waiting) for tile in tiles):
            return None
        return np.concatenate([tile.floor_of_row for tile in tiles])

    def _code(self, coding: Coding, span: Span) -> Coded:
        return coding.right(self._scorer.right_vectors(span.rows))

    def _search(self, coding: Coding, phase: list[Span], coded: list[Coded], tile: Tile) -> Tile:
        """The tile, with the pairs of these right tiles that may belong into its lists."""
        left, found = coding.left(self._scorer.left_vectors(tile.span.rows)), [tile.waiting]
        loss = tile.loss
        for span, right in zip(phase, coded, strict=True):
            bounds = coarse(coding, left, right, self._scorer.slack)
            if self._limit is not None and span is phase[0] and not len(tile.waiting):
                # floors that are known at the start exclude much of what follows
                tile = tile.raised(certain(bounds, self._limit, self._one_an_entity(span)))
            self._tally.add(coding.name, bounds.products.size)
            bounds, flat = prune(bounds, partial(self._finer, tile.span, span), tile.floor_of_row)
            found.append(bounds.candidates(flat, span.rows.start))
            loss = np.maximum(loss, bounds.loss)
            if sum(map(len, found)) > MOST_WAITING:
                tile = self._settle(replace(tile, waiting=np.concatenate(found)))
                found = [tile.waiting]
        return self._sift(replace(tile, waiting=np.sort(np.concatenate(found))), loss)

    def _finer(self, left: Span, right: Span) -> Bounds:
        bounds = fine(self._scorer, left.rows, right.rows)
        self._tally.add(finer=bounds.products.size)
        return bounds

    def _one_an_entity(self, span: Span) -> Rows | slice:
        """Columns of a right tile, those of other entities each."""
        return self._scorer.right.starts[span.entities] - span.rows.start if self._several else slice(None)

    def _sift(self, tile: Tile, loss: Numbers) -> Tile:
        """The tile with fewer pairs waiting. Their bounds exceed their scores by less than `loss`, given by row."""
        rows = rows_in(tile.waiting)
        if self._limit is not None and not self._several and np.isfinite(loss).all():
            last = places(rows) + 1 == self._limit
            least = np.full(len(tile.entity_of_row), -np.inf)
            least[rows[last]] = bounds_in(tile.waiting[last]) - loss[rows[last]] - BOUND_STEP
            tile = tile.raised(least)
            waiting = tile.waiting[bounds_in(tile.waiting) >= tile.floor_of_row[rows]]
            if len(waiting) <= WAITING * self._limit * len(tile.entity_of_row):
                return replace(tile, waiting=waiting, loss=loss)
        return self._settle(tile)

    def _settle(self, tile: Tile) -> Tile:
        """The tile, with those of the waiting pairs that belong into its lists."""
        candidates = np.sort(tile.waiting)
        if self._limit is not None and len(candidates) > 2 * self._limit * len(tile.entity_of_row):
            promising = places(rows_in(candidates)) < self._limit  # they raise the floors for the others
            tile = self._score(tile, candidates[promising])
            candidates = candidates[~promising]
        tile = replace(self._score(tile, candidates), waiting=NONE_WAITING, loss=np.zeros(len(tile.entity_of_row)))
        return tile.without_ties(self._limit)

    def _score(self, tile: Tile, candidates: Candidates) -> Tile:
        floors = tile.floor_of_row[rows_in(candidates)]
        wanted = bounds_in(candidates) >= floors
        candidates, floors = candidates[wanted], floors[wanted]
        self._tally.add(exact=len(candidates))
        found = exact(self._scorer, rows_in(candidates) + tile.span.rows.start, columns_in(candidates), floors)
        entities_before, rows_before = self._before
        found = replace(found, right=found.right + entities_before, right_row=found.right_row + rows_before)
        return tile.with_pairs(found, self._limit, self._several)
