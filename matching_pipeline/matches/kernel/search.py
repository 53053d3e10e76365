"""The best pairs of two sets of images: a coarse product of everything, and exact scores of what it leaves."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.attributes import Rows
from matching_pipeline.matches.kernel.basis import choose_basis
from matching_pipeline.matches.kernel.images import DECIMALS, Ids, ImageSet, Scorer
from matching_pipeline.matches.kernel.pairs import (
    MOST_COLUMNS,
    MOST_ROWS,
    Found,
    Keys,
    Pairs,
    concatenate,
    last_places,
    none_found,
    pack,
    places,
    ranked,
    unpack,
)
from matching_pipeline.matches.kernel.products import Coded, FloatProducts, Int8Products, Products, error, lengths_of

TILE_ROWS = 1024
BLOCK_ROWS = 2048
"""A tile of left rows times a block of right rows is one product: 8 MB."""

FEW_SCORES = 4_000_000
"""With fewer scores in all, 8-bit codes cost more than they save."""

CROWDED = 1 / 16
"""From this share of a product on, computing all of it more exactly is cheaper than looking at single pairs."""

MOST_WAITING = 4_000_000
"""Pairs of a tile that may wait for their exact scores: 32 MB."""

HALF = 0.5 * 10.0**-DECIMALS
"""Scores closer than this may be the same when they are rounded."""

Matrix = NDArray[Any]


class Span(NamedTuple):
    """Some owners of an image set that follow each other, and their rows."""

    owners: slice
    rows: slice


def spans(images: ImageSet, most_rows: int) -> Iterator[Span]:
    """Runs of owners with at most so many images, or single owners."""
    first = 0
    while first < len(images.owners):
        last = int(np.searchsorted(images.ends, images.starts[first] + most_rows, side="right"))
        last = max(last, first + 1)
        yield Span(slice(first, last), slice(int(images.starts[first]), int(images.ends[last - 1])))
        first = last


class Search:
    """Of every left owner the pairs that reach its floor; with a limit, the best so many of them.

    The right side comes in parts, so that no more than one is held at a time.
    """

    def __init__(self, left: ImageSet, weight: float, floors: NDArray[np.float64], limit: int | None) -> None:
        self.left, self.weight, self.limit = left, weight, limit
        self.floors = floors.astype(np.float64)
        """(left owners,): what a pair must reach; it rises as lists fill."""
        self.full = np.zeros(len(left.owners), dtype=np.bool_)
        """Whose list is full: as ties break by id, a right owner to come must then be better than the floor."""
        self.tiles = list(spans(left, TILE_ROWS))
        self.found = [none_found()] * len(self.tiles)
        if any(tile.rows.stop - tile.rows.start > MOST_ROWS for tile in self.tiles):
            raise ValueError(f"an owner has more than {MOST_ROWS} images: they cannot be matched")
        self._right_owners: list[Ids] = []
        self._right_images: list[Ids] = []

    def add(self, right: ImageSet) -> None:
        """A part of the right side; its owners come after all that were added before."""
        if len(right.image_ids) > MOST_COLUMNS:
            raise ValueError(f"a part of {len(right.image_ids)} images: {MOST_COLUMNS} can be compared at once")
        if len(self.left.owners) and len(right.owners):
            offsets = sum(map(len, self._right_owners)), sum(map(len, self._right_images))
            self.found = _Part(self, right, offsets).search()
        self._right_owners.append(right.owners)
        self._right_images.append(right.image_ids)

    def pairs(self) -> Pairs:
        found = concatenate([none_found(), *self.found])
        nobody = np.empty(0, dtype="S16")
        return Pairs(
            self.left.owners[found.left],
            np.concatenate([nobody, *self._right_owners])[found.right],
            found.similarity,
            self.left.image_ids[found.left_row],
            np.concatenate([nobody, *self._right_images])[found.right_row],
        )


class _Part:
    """A part of the right side against all tiles of the left."""

    def __init__(self, search: Search, right: ImageSet, offsets: tuple[int, int]) -> None:
        self._to, self._right, self._offsets = search, right, offsets
        self._scorer = Scorer(search.left, right, search.weight)
        self._left_vectors, self._right_vectors = self._scorer.folded()
        self._spans = list(spans(right, BLOCK_ROWS))
        # the vectors themselves are rounded to float32, and the scores that are sought to DECIMALS
        lengths = [lengths_of(vectors).max() for vectors in (self._left_vectors, self._right_vectors)]
        self._folding = 4 * np.finfo(np.float32).eps * lengths[0] * lengths[1] + 1.1 * HALF
        self._several = any(len(side.owners) < len(side.image_ids) for side in (search.left, right))
        few = len(self._left_vectors) * len(self._right_vectors) < FEW_SCORES
        self._in_floats = few or products.numkong is None
        self._products: Products = FloatProducts()
        if not self._in_floats:
            # what differs from the mean is smaller, and so is what 8 bits lose of it
            self._centre = self._right_vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
            self._products = Int8Products(choose_basis(self._left_vectors, self._right_vectors, self._centre))

    def search(self) -> list[Found]:
        tiles = range(len(self._to.tiles))
        if self._in_floats:  # numpy has threads of its own
            self._blocks = [self._block(span) for span in self._spans]
            return [self._tile(number) for number in tiles]
        with ThreadPoolExecutor(_cores()) as pool:
            self._blocks = list(pool.map(self._block, self._spans))
            return list(pool.map(self._tile, tiles))

    def _block(self, span: Span) -> Coded:
        vectors = self._right_vectors[span.rows]
        return self._products.right(vectors if self._in_floats else vectors - self._centre)

    def _tile(self, number: int) -> Found:
        """What the tile's lists are after this part. Exact scores wait until some blocks were looked at, so that
        few are needed of what is soon outdone."""
        tile, best, limit = self._coded_tile(self._to.tiles[number]), self._to.found[number], self._to.limit
        waiting: list[Keys] = []
        for done, (span, block) in enumerate(zip(self._spans, self._blocks, strict=True), start=1):
            product = self._products.multiply(tile.coded, block)
            # the sooner lists are good, the less reaches their floors
            if done == 1 and limit is not None and not len(best):
                best = self._settle(tile, best, self._take_best_looking(product, limit, span))
            waiting.append(self._candidates(tile, span, block, product))
            if done in (1, 4, 16, 64, len(self._spans)) or sum(map(len, waiting)) > MOST_WAITING:
                best, waiting = self._settle(tile, best, np.concatenate(waiting)), []
                self._to.full[last_places(best, limit).left] = True
        return best

    def _coded_tile(self, span: Span) -> "_Tile":
        vectors = self._left_vectors[span.rows]
        along_centre = np.zeros(len(vectors)) if self._in_floats else vectors.astype(np.float64) @ self._centre
        owner_of_row = self._to.left.owner_of_row[span.rows]
        return _Tile(span.rows, owner_of_row, self._products.left(vectors), along_centre)

    def _take_best_looking(self, product: Matrix, limit: int, span: Span) -> Keys:
        """Of each row some pairs, out of the product."""
        count = min(limit * (3 if self._several else 1), product.shape[1])
        columns = np.argpartition(product, product.shape[1] - count, axis=1)[:, -count:].ravel()
        rows = np.repeat(np.arange(len(product)), count)
        product[rows, columns] = self._products.lowest
        return pack(rows, np.ones(len(rows)), columns + span.rows.start)

    def _candidates(self, tile: "_Tile", span: Span, block: Coded, product: Matrix) -> Keys:
        """All pairs whose exact scores reach the floors, and few that do not, with what they reach at most."""
        floors = self._to.floors[tile.owner_of_row]
        off: NDArray[np.float64] = tile.along_centre + error(tile.coded, block) + self._folding
        scale = tile.coded.scale * block.scale
        reaching = product >= self._products.cuts((floors - off) / scale)[:, None]
        if np.count_nonzero(reaching) > CROWDED * reaching.size:
            # at a full list's floor a later owner stays behind those it ties with
            behind = self._to.full[tile.owner_of_row]
            taken = product == self._products.lowest
            product = self._scorer.all_scores(tile.rows, span.rows)
            off, scale = np.full(len(floors), 1.1 * HALF), np.ones(len(floors))
            reaching = ~taken & (product >= (floors + np.where(behind, 0.9, -1.1) * HALF)[:, None])
        flat = np.flatnonzero(reaching)
        rows = flat // product.shape[1]
        most = product.ravel()[flat] * scale[rows] + off[rows]
        return pack(rows, most, flat % product.shape[1] + span.rows.start)

    def _settle(self, tile: "_Tile", best: Found, keys: Keys) -> Found:
        """Merges those of the waiting pairs that belong into the lists."""
        limit, keys = self._to.limit, np.sort(keys)
        if limit is not None and len(keys) > 2 * limit * len(tile.owner_of_row):
            promising = places(unpack(keys)[0]) < limit  # others may then be outdone
            best = self._merge(tile, best, keys[promising])
            keys = keys[~promising]
        return self._merge(tile, best, keys)

    def _merge(self, tile: "_Tile", best: Found, keys: Keys) -> Found:
        rows, most, columns = unpack(keys)
        wanted = most >= self._to.floors[tile.owner_of_row[rows]]
        found = self._exact(tile, rows[wanted], columns[wanted])
        best = ranked(concatenate([best, found]), self._to.limit, self._several)
        last = last_places(best, self._to.limit)
        self._to.floors[last.left] = np.maximum(self._to.floors[last.left], last.similarity)
        return best

    def _exact(self, tile: "_Tile", rows: Rows, right_rows: Rows) -> Found:
        """Those of the pairs of a tile's row and a right row that reach the floors."""
        left_rows = rows + tile.rows.start
        scores = self._scorer.exact(left_rows, right_rows)
        left, right = self._to.left.owner_of_row[left_rows], self._right.owner_of_row[right_rows]
        owners_before, rows_before = self._offsets
        found = Found(left, right + owners_before, scores, left_rows, right_rows + rows_before)
        return found.take(scores >= self._to.floors[left])


@dataclass(frozen=True)
class _Tile:
    rows: slice
    owner_of_row: Rows
    coded: Coded
    along_centre: NDArray[np.float64]
    """(rows,): the part of a score that is the same for every right row."""


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
