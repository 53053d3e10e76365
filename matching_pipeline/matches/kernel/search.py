"""The best pairs of two sets of images: every result is exact, and few pairs are scored exactly.

Images a and b score `s(a, b) = (1 - w) · cos(a, b) + w · overlap(a, b)`, rounded to 9 decimals. For every left
entity the search finds the pairs that reach its *floor*: the threshold, or the last score of its list once that is
full. Float64 scores of all pairs would cost far too much. So the search takes a tile of left rows and a tile of right
rows at a time, and does three things with them (`stages.py`).

**Coarse: a bound of every score from one integer product.** `Scorer.folded` makes each image one vector: its unit
embedding times √(1 - w), then its attributes as columns times √w. For the vectors x of a and y of b it holds that
`s(a, b) ≤ x·y`. `coding.py` approximates x·y in three steps and adds up their errors:

1. With the mean c of all right vectors, `x·y = x·c + x·d` where `d = y - c`. The first term is computed once for
   each left row. d is shorter than y, so the following steps lose less of it.
2. Let Q have few orthonormal columns, the principal directions of both sides. A vector is the sum of its part inside
   their span and its *rest*, x⊥ or d⊥. Then `x·d = Qᵀx·Qᵀd + x⊥·d⊥`, and only the first term is computed. By
   Cauchy–Schwarz `|x⊥·d⊥| ≤ |x⊥| |d⊥|`. The lengths follow from `|x⊥|² = |x|² - |Qᵀx|²`. So the product of two
   lengths, one a row, bounds what the few directions leave out. Without a basis (`basis.py`) there is no rest.
3. `u = Qᵀx` and `v = Qᵀd` are rounded to `û = scale · code` with codes of 8 bits, and codes are multiplied exactly.
   From `u·v - û·v̂ = (u - û)·v + û·(v - v̂)` and Cauchy–Schwarz, the product is off by at most
   `|u - û| |v| + |û| |v - v̂|`, where `|û| ≤ |u| + |u - û|`.

Together: `s(a, b) ≤ scale · scale · (product of codes) + x·c + error + slack`. The slack covers the rounding of x and
y to float32 and of s to 9 decimals. All vectors of a right tile share one scale, and the largest of their lengths
stands for each in the error. So scale, error and slack depend on the left row only, and `Bounds` is the matrix of
products with two numbers a row. Without NumKong, or for few pairs, float32 products take the place of codes.

**Prune: the pairs that the bounds exclude.** A pair whose bound is below its floor can be in no list. The floor of a
row is brought to the scale of the products, and then each pair costs one comparison. Where bounds are too loose to
exclude much (images that are nearly alike), float64 scores of the whole tile replace them.

**Exact: the scores of the other pairs.** `Scorer.exact` sums each pair alone, in float64, and gives every score in a
list. So a score depends on its two images only: not on tiles, parts or threads, nor on the other pairs of a search.
The coarse stage may leave out only pairs that no list keeps. Therefore incremental maintenance and a rebuild write
the same numbers.

Floors rise while lists fill, and a higher floor leaves fewer pairs to score. So candidates wait until some tiles were
pruned, and those with the best bounds are scored first.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.coding import Coded, choose_coding, lengths_of
from matching_pipeline.matches.kernel.columns import Numbers, Rows, as_uuids, concatenate, places
from matching_pipeline.matches.kernel.images import ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import (
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
from matching_pipeline.matches.kernel.stages import ROUNDING, best_looking, coarse, exact, fine, prune

LEFT_ROWS = 1024
RIGHT_ROWS = 2048
"""Rows of a left and of a right tile: their product takes 8 MB."""

MOST_WAITING = 4_000_000
"""Candidates of a left tile that may wait for their exact scores: 32 MB."""

BETTER = 0.9 * 10.0**-DECIMALS
"""A better score is better by one decimal at least. Less than that covers the rounding of float64."""


def best_pairs(left: ImageSet, right_parts: Iterable[ImageSet], policy: Policy) -> Pairs:
    """The list of every left entity. The right side comes in parts by ascending entity, of which one is held."""
    floors = np.full(len(left.entities), policy.threshold)
    return search(left, right_parts, policy.attribute_weight, floors, policy.limit)


def pairs_above(left: ImageSet, right: ImageSet, policy: Policy, floors: Mapping[UUID, float]) -> Pairs:
    """All pairs that reach the threshold and, where their left entity has one, its floor."""
    lowest = np.full(len(left.entities), policy.threshold)
    if floors:
        lowest = np.maximum(lowest, [floors.get(entity, policy.threshold) for entity in as_uuids(left.entities)])
    return search(left, [right], policy.attribute_weight, lowest, limit=None)


def search(
    left: ImageSet, right_parts: Iterable[ImageSet], weight: float, floors: Numbers, limit: int | None
) -> Pairs:
    """For every left entity the pairs that reach its floor, or with a limit the best `limit` of them."""
    tiles, no_ids = list(_tiles(left, floors)), np.empty(0, dtype="S16")
    right_entities, right_images = [no_ids], [no_ids]
    for right in right_parts:
        if len(right.image_ids) > MOST_COLUMNS:
            raise ValueError(f"a part of {len(right.image_ids)} images: {MOST_COLUMNS} can be compared at once")
        if tiles and len(right.entities):
            before = sum(map(len, right_entities)), sum(map(len, right_images))
            tiles = _Part(left, right, weight, limit, before).search(tiles)
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

    def with_pairs(self, found: Found, limit: int | None, several: bool) -> "Tile":
        kept = ranked(concatenate([self.kept, found]), limit, several)
        return replace(self, kept=kept)._raised(limit, 0)

    def without_ties(self, limit: int | None) -> "Tile":
        """After a right tile, as ties break by id: later entities must score more than a full list's last pair."""
        return self._raised(limit, BETTER)

    def _raised(self, limit: int | None, above: float) -> "Tile":
        last, floors = last_places(self.kept, limit), self.floors.copy()
        full = last.left - self.span.entities.start
        floors[full] = np.maximum(floors[full], last.similarity + above)
        return replace(self, floors=floors)


def _tiles(left: ImageSet, floors: Numbers) -> Iterator[Tile]:
    for span in spans(left, LEFT_ROWS):
        if span.rows.stop - span.rows.start > MOST_ROWS:
            raise ValueError(f"an entity has more than {MOST_ROWS} images: they cannot be matched")
        entity_of_row = left.entity_of_row[span.rows] - span.entities.start
        yield Tile(span, entity_of_row, floors[span.entities].astype(np.float64), none_found())


class _Part:
    """A part of the right side, and the search of it for each left tile."""

    def __init__(
        self, left: ImageSet, right: ImageSet, weight: float, limit: int | None, before: tuple[int, int]
    ) -> None:
        """`before` is the number of right entities and of images in earlier parts."""
        self._scorer, self._limit, self._before = Scorer(left, right, weight), limit, before
        self._left_vectors, self._right_vectors = self._scorer.folded()
        self._coding = choose_coding(self._left_vectors, self._right_vectors)
        lengths = [lengths_of(vectors).max() for vectors in (self._left_vectors, self._right_vectors)]
        self._slack = 4 * np.finfo(np.float32).eps * lengths[0] * lengths[1] + ROUNDING
        self._several = any(len(side.entities) < len(side.image_ids) for side in (left, right))
        self._spans = list(spans(right, RIGHT_ROWS))

    def search(self, tiles: list[Tile]) -> list[Tile]:
        with ThreadPoolExecutor(1 if self._coding.has_threads else _cores()) as pool:
            self._coded = list(pool.map(self._code, self._spans))
            return list(pool.map(self._search, tiles))

    def _code(self, span: Span) -> Coded:
        return self._coding.right(self._right_vectors[span.rows])

    def _search(self, tile: Tile) -> Tile:
        """The tile, with the pairs that this part adds to its lists."""
        left, waiting = self._coding.left(self._left_vectors[tile.span.rows]), list[Candidates]()
        for done, (span, right) in enumerate(zip(self._spans, self._coded, strict=True), start=1):
            bounds, seen = coarse(self._coding, left, right, self._slack), np.empty(0, dtype=np.intp)
            # good lists at the start raise the floors for all that follows
            if done == 1 and self._limit is not None and not len(tile.kept):
                seen = best_looking(bounds, self._limit * (3 if self._several else 1))
                tile = self._settle(tile, bounds.candidates(seen, span.rows.start))
            finer = partial(fine, self._scorer, tile.span.rows, span.rows)
            waiting.append(prune(bounds, finer, tile.floors[tile.entity_of_row], seen, span.rows.start))
            if done in (1, 4, 16, 64, len(self._spans)) or sum(map(len, waiting)) > MOST_WAITING:
                tile = self._settle(tile, np.concatenate(waiting)).without_ties(self._limit)
                waiting.clear()
        return tile

    def _settle(self, tile: Tile, candidates: Candidates) -> Tile:
        """The tile, with those of the candidates that belong into its lists."""
        candidates = np.sort(candidates)
        if self._limit is not None and len(candidates) > 2 * self._limit * len(tile.entity_of_row):
            promising = places(rows_in(candidates)) < self._limit  # they raise the floors for the others
            tile = self._score(tile, candidates[promising])
            candidates = candidates[~promising]
        return self._score(tile, candidates)

    def _score(self, tile: Tile, candidates: Candidates) -> Tile:
        floors = tile.floors[tile.entity_of_row[rows_in(candidates)]]
        wanted = bounds_in(candidates) >= floors
        candidates, floors = candidates[wanted], floors[wanted]
        found = exact(self._scorer, rows_in(candidates) + tile.span.rows.start, columns_in(candidates), floors)
        entities_before, rows_before = self._before
        found = replace(found, right=found.right + entities_before, right_row=found.right_row + rows_before)
        return tile.with_pairs(found, self._limit, self._several)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
