"""Images of many entities as arrays, and the score of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matching_pipeline.matches.kernel.attributes import all_overlaps, overlaps, shared_words
from matching_pipeline.matches.kernel.columns import Ids, Numbers, Rows, Vectors, starts_of
from matching_pipeline.matches.kernel.policy import DECIMALS, ROUNDING

_CHUNK_ROWS = 128
"""Small, so that a chunk stays in the processor's cache."""


@dataclass(frozen=True)
class ImageSet:
    """Images grouped by entity. Rows are sorted by (entity, image id), entities by id, so row order is id order."""

    entities: Ids
    starts: Rows
    """(entities,): the first row of each entity. Every entity has at least one image."""
    image_ids: Ids
    embeddings: Vectors
    """(images, dimensions), of any length but zero."""
    tokens: Sequence[frozenset[str]]

    @cached_property
    def ends(self) -> Rows:
        return np.append(self.starts[1:], len(self.image_ids))

    @cached_property
    def entity_of_row(self) -> Rows:
        return np.repeat(np.arange(len(self.entities)), self.ends - self.starts)

    @cached_property
    def norms(self) -> Numbers:
        squares = np.empty(len(self.image_ids), dtype=np.float64)
        for begin in range(0, len(squares), _CHUNK_ROWS):
            exact = self.embeddings[begin : begin + _CHUNK_ROWS].astype(np.float64)
            np.einsum("ij,ij->i", exact, exact, out=squares[begin : begin + _CHUNK_ROWS])
        return np.sqrt(squares)

    def unit(self, rows: slice) -> Numbers:
        return self.embeddings[rows].astype(np.float64) / self.norms[rows, None]


def image_set(
    entity_of_row: Ids, image_ids: Ids, embeddings: Vectors, tokens: Sequence[frozenset[str]] | None = None
) -> ImageSet:
    """Makes a set from rows that are sorted by (entity, image id); without tokens no image has any."""
    starts = starts_of(entity_of_row)
    return ImageSet(entity_of_row[starts], starts, image_ids, embeddings, tokens or [frozenset()] * len(image_ids))


class Scorer:
    """Scores of the images of two sets: `(1 - w) · cosine + w · overlap`."""

    def __init__(self, left: ImageSet, right: ImageSet, attribute_weight: float) -> None:
        self.left, self.right, self.weight = left, right, attribute_weight
        self._words = shared_words(left.tokens, right.tokens) if attribute_weight else None

    def exact(self, left_rows: Rows, right_rows: Rows) -> Numbers:
        """Scores of paired rows in float64. Each row is summed alone, so a score depends on its two images only."""
        scores = _row_products(self.left.embeddings, self.right.embeddings, left_rows, right_rows)
        scores *= (1 - self.weight) / (self.left.norms[left_rows] * self.right.norms[right_rows])
        if self._words:
            scores += self.weight * overlaps(*self._words, left_rows, right_rows)
        return np.clip(np.round(scores, DECIMALS), -1, 1)

    def all_scores(self, left_rows: slice, right_rows: slice) -> Numbers:
        """(left rows, right rows): scores in float64 that are not rounded, by one matrix product."""
        scores: Numbers = self.left.unit(left_rows) @ self.right.unit(right_rows).T
        scores *= 1 - self.weight
        if self._words:
            scores += self.weight * all_overlaps(*self._words, left_rows, right_rows)
        return scores

    @property
    def width(self) -> int:
        """Dimensions of the folded vectors."""
        words = self._words[0].folded_columns if self._words else 0
        return int(self.left.embeddings.shape[1]) + words

    @cached_property
    def slack(self) -> float:
        """How much a score may exceed the product of two folded vectors, which are rounded to float32."""
        lengths = [np.sqrt(1 - self.weight) + np.sqrt(self.weight) * self._longest(side) for side in (0, 1)]
        return float(4.1 * np.finfo(np.float32).eps * lengths[0] * lengths[1] + ROUNDING)

    def left_vectors(self, rows: slice | Rows) -> Vectors:
        """(left rows, width): vectors whose inner products with those of right rows are at least the scores.

        They are the scores if every word has a column of its own.
        """
        return self._folded(self.left, 0, rows)

    def right_vectors(self, rows: slice | Rows) -> Vectors:
        return self._folded(self.right, 1, rows)

    def _longest(self, side: int) -> float:
        """No row of folded words is longer."""
        return float(np.sqrt(self._words[side].counts.max(initial=0))) if self._words else 0.0

    def _folded(self, images: ImageSet, side: int, rows: slice | Rows) -> Vectors:
        embeddings, dimensions = images.embeddings[rows], images.embeddings.shape[1]
        folded = np.empty((len(embeddings), self.width), dtype=np.float32)
        scale = np.sqrt(1 - self.weight) / images.norms[rows]
        if scale.min(initial=1) > 1e-30 and scale.max(initial=1) < 1e30:
            np.multiply(embeddings, scale.astype(np.float32)[:, None], out=folded[:, :dimensions])
        else:  # float32 holds no scale for vectors that are so long or so short
            folded[:, :dimensions] = embeddings * scale[:, None]
        if self._words:
            folded[:, dimensions:] = np.sqrt(self.weight) * self._words[side].folded(rows)
        return folded


def _row_products(left: Vectors, right: Vectors, left_rows: Rows, right_rows: Rows) -> Numbers:
    """Inner products of paired rows in float64, a chunk at a time.

    New memory for each chunk would cost more than the products.
    """
    products, chunk = np.empty(len(left_rows), dtype=np.float64), (_CHUNK_ROWS, left.shape[1])
    gathered = np.empty(chunk, dtype=np.float32)
    a, b = np.empty(chunk, dtype=np.float64), np.empty(chunk, dtype=np.float64)
    for begin in range(0, len(left_rows), _CHUNK_ROWS):
        rows = slice(begin, begin + _CHUNK_ROWS)
        count = len(left_rows[rows])
        for side, taken, exact in ((left, left_rows[rows], a), (right, right_rows[rows], b)):
            # "clip" writes into `out` directly; all rows exist
            exact[:count] = np.take(side, taken, axis=0, out=gathered[:count], mode="clip")
        np.einsum("ij,ij->i", a[:count], b[:count], out=products[rows])
    return products
