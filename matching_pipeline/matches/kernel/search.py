"""The best pairs of two sets of images: every result is exact, and few pairs are scored exactly.

Images a and b score `s(a, b) = (1 - w) · cos(a, b) + w · overlap(a, b)`, rounded to 9 decimals. For every left
entity the search finds the pairs that reach its *floor*: the threshold, or the last score of its list once that is
full. Float64 scores of all pairs would cost far too much. So the search first compares each left row with a few right
ones that are near it (`seeds.py`): a list takes no pair below the last of any `limit` pairs. Then it takes a tile of
left rows and a tile of right rows at a time, and does four things with them (`stages.py`).

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
y to float32 and of s to 9 decimals. All vectors of a right tile share one scale, and their error is computed with the
largest of their lengths. So scale, error and slack depend on the left row and the tile only, and `Bounds` has two
numbers for each left row and right tile.

**Which codes** is a matter of time, not of the result (`choice.py`). A process takes 8-bit products if they are
clearly faster than those of floats; it times both. How many columns Q has follows from a sample of pairs: fewer
columns cost less, and leave more pairs to score. The higher the floors, the fewer columns exclude enough. So the
choice is made again as the search proceeds.

**Prune: the pairs that the bounds exclude.** A pair whose bound is below its floor can be in no list. The floors are
brought to the scale of the products, which are compared with them. If bounds are too loose to exclude much (images
that are nearly alike, or floors that lack overlaps), float64 scores of the whole tile replace them, and raise the
floors.

**Near: a tight bound of each pair that is left.** `Scorer.near` sums the products of a pair in float32, which is off
by less than n · 2⁻²⁴ for n dimensions. The pairs with the best bounds come first. The last near score
of a full list, less twice the error, raises the floor. Pairs that still reach it wait for the other tiles.

**Exact: the scores of the pairs that wait.** `Scorer.exact` sums each pair alone, in float64, and gives every score
in a list. So a score depends on its two images only: not on tiles, parts or threads, nor on the other pairs of a
search. The other stages may leave out only pairs that no list keeps. Therefore incremental maintenance and a rebuild
write the same numbers.

**Few scores**, such as those of one changed entity, cost less than codes do. There near scores of all pairs take the
place of the first three stages.
"""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from uuid import UUID

import numpy as np

from matching_pipeline.matches.kernel.choice import Choice
from matching_pipeline.matches.kernel.coding import Coded, Coding
from matching_pipeline.matches.kernel.columns import Numbers, as_uuids, concatenate, places
from matching_pipeline.matches.kernel.images import ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import (
    MOST_COLUMNS,
    MOST_ROWS,
    NO_CANDIDATES,
    Candidates,
    Pairs,
    as_candidates,
    bounds_in,
    columns_in,
    none_found,
    rows_in,
)
from matching_pipeline.matches.kernel.policy import ROUNDING, Policy
from matching_pipeline.matches.kernel.products import cores, costs, one_thread_each
from matching_pipeline.matches.kernel.seeds import Seeds
from matching_pipeline.matches.kernel.stages import (
    Reached,
    candidates,
    coarse,
    exact,
    last_of_best,
    near,
    reaching,
)
from matching_pipeline.matches.kernel.tally import Tally
from matching_pipeline.matches.kernel.tiles import Span, Tile, spans

LEFT_ROWS = 512
RIGHT_ROWS = 1024
"""Rows of a left and of a right tile: their product takes 2 MB, which the processor's cache holds."""

FEW_SCORES = 40_000_000
"""For fewer scores in all, 8-bit codes cost more than they save."""
FEW_FLOAT_SCORES = 200_000_000
"""The same where all products are of floats: only fewer columns save anything."""
FEW_SCORES_WITH_WORDS = 15_000_000
"""The same with attributes: exact overlaps cost more than products."""
FEW_TILE_SCORES = 1 << 20
"""Scores of a tile in such a search: a tile costs more than its scores."""

PHASES = (8, 32)
"""After so many right tiles the candidates are scored, and the bounds are chosen again."""

CROWDED = 1 / 8
"""From this share of a tile's pairs on, float64 scores of all pairs cost less than scores of single ones."""

MOST_REACHED = 200_000
"""So many pairs of a left tile become candidates at once, which takes some 100 bytes for each."""

MOST_WAITING = 4_000_000
"""Candidates of a left tile that may wait for their exact scores: 32 MB."""

WAITING = 8
"""So many candidates for each place of a list may wait from phase to phase."""


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
            NO_CANDIDATES,
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
        self._several = any(len(side.entities) < len(side.image_ids) for side in (left, right))

    def search(self, tiles: list[Tile]) -> list[Tile]:
        few = self._has_few_scores()
        # also for few scores: threads of numpy's products would keep all cores busy for a while after each
        with one_thread_each():
            if few and len(tiles) == 1:
                return [self._search_few(tiles[0])]
            with ThreadPoolExecutor(cores()) as pool:
                return list(pool.map(self._search_few, tiles)) if few else self._search_many(tiles, pool)

    def _has_few_scores(self) -> bool:
        scores = len(self._scorer.left.image_ids) * len(self._scorer.right.image_ids)
        if self._scorer.has_words:
            return scores < FEW_SCORES_WITH_WORDS
        return scores < FEW_SCORES or (scores < FEW_FLOAT_SCORES and not costs().codes_are_faster)

    def _search_few(self, tile: Tile) -> Tile:
        scorer, rows = self._scorer, len(tile.entity_of_row)
        for number, span in enumerate(spans(scorer.right, FEW_TILE_SCORES // rows)):
            scores = scorer.all_near(tile.span.rows, span.rows)
            self._tally.add("float32 scores of all", scores.size)
            if number == 0:
                tile = self._raised(tile, span, scores, scorer.nearness)
            found = candidates(scores, scorer.nearness, tile.floor_of_row, span.rows.start)
            tile = self._settle_if_many(self._with_waiting(tile, found))
        return self._settle(tile)

    def _search_many(self, tiles: list[Tile], pool: ThreadPoolExecutor) -> list[Tile]:
        each, choice = pool.map, pool.submit(Choice, self._scorer, costs())
        if self._limit is not None and not any(len(tile.kept) for tile in tiles):
            floors = Seeds(self._scorer, self._limit, each).floors()
            tiles = [tile.raised(floors[tile.span.rows]) for tile in tiles]
        for phase in self._phases():
            coding = choice.result().coding(np.concatenate([tile.floor_of_row for tile in tiles]))
            coded = list(each(partial(self._code, coding), phase))
            tiles = list(each(partial(self._search, coding, phase, coded), tiles))
        return list(each(self._settle, tiles))

    def _phases(self) -> Iterator[list[Span]]:
        """Right tiles, ever more at once. Floors rise between them, so that fewer dimensions exclude enough pairs."""
        all_spans = list(spans(self._scorer.right, RIGHT_ROWS))
        bounds = [0, *PHASES, len(all_spans)] if self._limit is not None else [0, len(all_spans)]
        yield from filter(None, (all_spans[first:last] for first, last in pairwise(bounds)))

    def _code(self, coding: Coding, span: Span) -> Coded:
        return coding.right(self._scorer.right_vectors(span.rows))

    def _search(self, coding: Coding, phase: list[Span], coded: list[Coded], tile: Tile) -> Tile:
        """The tile, with the pairs of these right tiles that may belong into its lists."""
        left, found, reached = (
            coding.left(self._scorer.left_vectors(tile.span.rows)),
            [NO_CANDIDATES],
            list[Reached](),
        )
        bounds = coarse(left, coded, self._scorer.slack)
        cuts = bounds.cuts(tile.floor_of_row, coding.form)
        for number, (span, right) in enumerate(zip(phase, coded, strict=True)):
            products = coding.multiply(left, right)
            self._tally.add(coding.name, products.size)
            places = reaching(products, cuts[number])
            if len(places) > CROWDED * products.size:
                tile, some = self._crowded(tile, span)
                found.append(some)
                cuts = bounds.cuts(tile.floor_of_row, coding.form)
            else:
                reached.append(Reached(number, span.rows.start, places, products.reshape(-1)[places]))
            if sum(len(each.places) for each in reached) > MOST_REACHED:
                found.append(bounds.candidates(reached))
                reached.clear()
            if sum(map(len, found)) > MOST_WAITING:
                # all of them, as a list that is settled admits no tie of a right entity with a lower id
                tile = self._approach(tile, np.concatenate([bounds.candidates(reached), *found]))
                found, reached = [NO_CANDIDATES], []
                cuts = bounds.cuts(tile.floor_of_row, coding.form)
        return self._approach(tile, np.concatenate([bounds.candidates(reached), *found]))

    def _crowded(self, tile: Tile, right: Span) -> tuple[Tile, Candidates]:
        """Those of the pairs that may reach their floors, by float64 scores, which are not rounded."""
        scores = self._scorer.all_scores(tile.span.rows, right.rows)
        self._tally.add(finer=scores.size)
        tile = self._raised(tile, right, scores, ROUNDING)
        return tile, candidates(scores, ROUNDING, tile.floor_of_row, right.rows.start)

    def _raised(self, tile: Tile, right: Span, scores: Numbers, error: float) -> Tile:
        """The tile, with the floors that these scores make, which are off by `error`."""
        if self._limit is None:
            return tile
        entities = self._scorer.right.starts[right.entities] - right.rows.start
        return tile.raised(last_of_best(scores, entities, self._limit) - error)

    def _approach(self, tile: Tile, candidates: Candidates) -> Tile:
        """The tile, with these candidates waiting by their near scores, as far as these reach its floors."""
        for some in self._promising_first(tile, candidates):
            rows, columns, bounds = rows_in(some), columns_in(some), bounds_in(some)
            wanted = bounds >= tile.floor_of_row[rows]
            rows, columns, bounds = rows[wanted], columns[wanted], bounds[wanted]
            self._tally.add(near=len(rows))
            bounds = np.minimum(bounds, near(self._scorer, rows + tile.span.rows.start, columns))
            tile = self._with_waiting(tile, as_candidates(rows, bounds, columns))
        # not between two groups of candidates, for the sake of ties
        return self._settle_if_many(tile)

    def _with_waiting(self, tile: Tile, candidates: Candidates) -> Tile:
        """The tile, with these pairs waiting by their near scores, as far as these reach its floors."""
        tile = replace(tile, waiting=np.sort(np.concatenate([tile.waiting, candidates])))
        return tile if self._limit is None else tile.raised_by(self._scorer, self._limit, self._several)

    def _settle_if_many(self, tile: Tile) -> Tile:
        most = MOST_WAITING
        if self._limit is not None:
            most = min(most, WAITING * self._limit * len(tile.entity_of_row))
        return self._settle(tile) if len(tile.waiting) > most else tile

    def _settle(self, tile: Tile) -> Tile:
        """The tile, with those of the waiting pairs that belong into its lists."""
        waiting, tile = tile.waiting, replace(tile, waiting=NO_CANDIDATES)
        for some in self._promising_first(tile, waiting):
            tile = self._score(tile, some)
        return tile.without_ties(self._limit)

    def _promising_first(self, tile: Tile, candidates: Candidates) -> list[Candidates]:
        """Those with the best bounds raise the floors for the others."""
        if self._limit is None or len(candidates) < 2 * self._limit * len(tile.entity_of_row):
            return [candidates]
        candidates = np.sort(candidates)
        promising = places(rows_in(candidates)) < self._limit
        return [candidates[promising], candidates[~promising]]

    def _score(self, tile: Tile, candidates: Candidates) -> Tile:
        floors = tile.floor_of_row[rows_in(candidates)]
        wanted = bounds_in(candidates) >= floors
        candidates, floors = candidates[wanted], floors[wanted]
        self._tally.add(exact=len(candidates))
        found = exact(self._scorer, rows_in(candidates) + tile.span.rows.start, columns_in(candidates), floors)
        entities_before, rows_before = self._before
        found = replace(found, right=found.right + entities_before, right_row=found.right_row + rows_before)
        return tile.with_pairs(found, self._limit, self._several)
