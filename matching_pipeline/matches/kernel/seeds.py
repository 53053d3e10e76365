"""Floors before a search: each left row is compared with a few right entities near it.

A list takes no pair below the last of its first `limit` pairs, whichever these are. The better they are, the fewer
dimensions exclude most other pairs. So some left rows are centres, and each row goes to its nearest centre. The rows
of one centre are compared.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import numpy as np

from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.columns import Numbers, Rows, Vectors
from matching_pipeline.matches.kernel.images import ImageSet, Scorer

SAMPLED = 2048
"""Left rows that tell which coordinates differ most."""
LEFT_ROWS = 8
"""A centre serves about so many left rows."""
COMPARED = 8
"""So many right entities are compared at most for each place of a list."""
MOST_CENTRES = 1000
DRAWS = 4
"""Centres are drawn in so many turns: among all rows, the half that is far from the centres before, a quarter, …"""
COLUMNS = 64
"""So many coordinates tell which centre is the nearest, or nearly so."""
CHUNK_ROWS = 1024

Each = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""Such as `map`: in the caller's thread or in several."""


class Seeds:
    """Finds floors for the scores of two sides."""

    def __init__(self, scorer: Scorer, limit: int, each: Each) -> None:
        self._scorer, self._limit, self._each = scorer, limit, each
        self._candidates = scorer.right.starts
        self._rows = np.arange(len(scorer.left.image_ids))

    def floors(self) -> Numbers:
        """(left rows,): what at least `limit` right entities score with each, near ones."""
        floors = np.full(len(self._rows), -np.inf)
        if len(self._candidates) < self._limit:
            return floors

        def compare(group: tuple[Rows, Rows]) -> None:
            left, right = group
            scores = self._scorer.all_least(left, right)
            floors[left] = np.partition(scores, -self._limit, axis=0)[-self._limit]

        groups = ((left, right) for whole, right in self._groups() for left in _chunks(whole))
        deque(self._each(compare, groups), maxlen=0)
        return floors - self._scorer.nearness

    def _groups(self) -> Iterator[tuple[Rows, Rows]]:
        """The left rows in groups, each with right rows, at least `limit`."""
        most, count = COMPARED * self._limit, min(len(self._rows) // LEFT_ROWS, MOST_CENTRES)
        if count < DRAWS or len(self._candidates) <= most:
            yield self._rows, spread(self._candidates, most)
            return
        left, right = self._scorer.left, self._scorer.right
        centres, common = self._centres(count), spread(self._candidates, self._limit)
        others = np.setdiff1d(self._candidates, common)
        grouped = self._by_centre(left, self._rows, centres), self._by_centre(right, others, centres)
        for some, members in zip(*grouped, strict=True):
            if len(some):
                yield some, np.concatenate([members[-most:], common])

    def _centres(self, count: int) -> Rows:
        """So many left rows, more of them where the centres before are far."""
        centres = spread(self._rows, count // DRAWS)
        for draw in range(1, DRAWS):
            _, cosines = self._nearest(self._scorer.left, self._rows, centres)
            far = np.sort(np.argsort(cosines, kind="stable")[: len(self._rows) >> draw])
            centres = np.concatenate([centres, spread(far, count // DRAWS)])
        return centres

    def _by_centre(self, images: ImageSet, rows: Rows, centres: Rows) -> list[Rows]:
        """For each centre the rows of which it is the nearest, the nearest last."""
        centre, cosines = self._nearest(images, rows, centres)
        order = np.lexsort((cosines, centre))
        return np.split(rows[order], np.searchsorted(centre[order], np.arange(1, len(centres))))

    def _nearest(self, images: ImageSet, rows: Rows, centres: Rows) -> tuple[Rows, Numbers]:
        """For each row the number of the nearest centre, and their cosine as far as few coordinates tell it."""
        directions = self._narrow(self._scorer.left, centres)
        directions -= directions.mean(axis=0)

        def nearest(chunk: Rows) -> tuple[Rows, Numbers]:
            cosines = products.of_floats(self._narrow(images, chunk), directions)
            centre = cosines.argmax(axis=1)
            return centre, cosines[np.arange(len(chunk)), centre]

        centre, cosines = (np.concatenate(part) for part in zip(*self._each(nearest, _chunks(rows)), strict=True))
        return centre, cosines

    def _narrow(self, images: ImageSet, rows: Rows) -> Vectors:
        """(rows, columns): parts of the unit vectors, which are in the range of float32 whatever the length was."""
        narrow = np.take(images.embeddings[rows], self._columns, axis=1) / images.norms[rows, None]
        return narrow.astype(np.float32)

    @cached_property
    def _columns(self) -> Rows:
        """Coordinates that tell the left rows apart."""
        sample = self._scorer.left.unit(spread(self._rows, SAMPLED))
        return np.sort(np.argsort(-sample.var(axis=0))[:COLUMNS])


def _chunks(rows: Rows) -> list[Rows]:
    return np.split(rows, range(CHUNK_ROWS, len(rows), CHUNK_ROWS))


def spread(rows: Rows, most: int) -> Rows:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.intp)]
