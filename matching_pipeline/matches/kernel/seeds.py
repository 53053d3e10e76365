"""Floors before a search: each left row is compared with a few right entities near it.

A list takes no pair below the last of its first `limit` pairs, whichever these are. The better they are, the fewer
dimensions exclude most other pairs. So some left rows are centres, and each row goes to its nearest centre. The rows
of one centre are compared. The left rows with the lowest floors are tried again with other centres.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
COLUMNS = 96
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

    def floors(self, rounds: int) -> Numbers:
        """(left rows,): what at least `limit` right entities score with each, near ones if there are rounds."""
        floors, rows = np.full(len(self._rows), -np.inf), self._rows
        if len(self._candidates) < self._limit:
            return floors

        def compare(group: tuple[Rows, Rows]) -> None:
            floors[group[0]] = np.maximum(floors[group[0]], self._floors_within(*group))

        if not rounds:
            compare((rows, spread(self._candidates, COMPARED * self._limit)))
        for _ in range(rounds):
            deque(self._each(compare, self._groups(rows)), maxlen=0)
            rows = np.sort(rows[np.argsort(floors[rows], kind="stable")[: len(rows) // 2]])
        if rounds > 1:
            # few low floors would let through more pairs than all others
            chunks = np.split(self._candidates, range(CHUNK_ROWS, len(self._candidates), CHUNK_ROWS))
            best = np.concatenate(list(self._each(partial(self._best, rows), chunks)), axis=1)
            floors[rows] = self._last(best)
        return floors

    def _groups(self, rows: Rows) -> Iterator[tuple[Rows, Rows]]:
        """These left rows in groups, each with right rows that may be near, at least `limit`."""
        most, count = COMPARED * self._limit, min(len(rows) // LEFT_ROWS, MOST_CENTRES)
        if count < 2 or len(self._candidates) <= most:
            yield rows, spread(self._candidates, most)
            return
        left, right = self._narrow
        centres = left[spread(rows, count)]
        centres = centres - centres.mean(axis=0)
        common = spread(self._candidates, self._limit)
        grouped = (self._by_centre(vectors, centres) for vectors in (left[rows], right))
        for some, members in zip(*grouped, strict=True):
            if len(some):
                yield rows[some], np.union1d(self._candidates[members[-most:]], common)

    def _floors_within(self, left_rows: Rows, right_rows: Rows) -> Numbers:
        return self._last(self._best(left_rows, right_rows))

    def _best(self, left_rows: Rows, right_rows: Rows) -> NDArray[Any]:
        """(left rows, at most `limit`): the best near scores of each."""
        scores = self._scorer.all_near(left_rows, right_rows)
        return (
            np.partition(scores, -self._limit, axis=1)[:, -self._limit :] if len(right_rows) > self._limit else scores
        )

    def _last(self, scores: NDArray[Any]) -> Numbers:
        last: Numbers = np.partition(scores, -self._limit, axis=1)[:, -self._limit] - np.float64(
            self._scorer.nearness
        )
        return last

    @cached_property
    def _narrow(self) -> tuple[Vectors, Vectors]:
        """(left rows, columns) and (candidates, columns): coordinates that tell unit vectors apart."""
        columns = np.argsort(-self._scorer.left.unit(spread(self._rows, SAMPLED)).var(axis=0))[:COLUMNS]

        def narrow(images: ImageSet, rows: Rows) -> Vectors:
            return np.asarray(images.embeddings[rows[:, None], columns] / images.norms[rows, None], dtype=np.float32)

        return narrow(self._scorer.left, self._rows), narrow(self._scorer.right, self._candidates)

    def _by_centre(self, vectors: Vectors, centres: Vectors) -> list[Rows]:
        """For each centre, the places of the vectors of which it is the nearest, the nearest last."""

        def nearest(chunk: Vectors) -> tuple[Rows, Vectors]:
            cosines = products.of_floats(chunk, centres)
            centre = cosines.argmax(axis=1)
            return centre, cosines[np.arange(len(chunk)), centre]

        chunks = np.split(vectors, range(CHUNK_ROWS, len(vectors), CHUNK_ROWS))
        centre, cosine = (np.concatenate(part) for part in zip(*self._each(nearest, chunks), strict=True))
        order = np.lexsort((cosine, centre))
        return np.split(order, np.searchsorted(centre[order], np.arange(1, len(centres))))


def spread(rows: Rows, most: int) -> Rows:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(np.intp)]
