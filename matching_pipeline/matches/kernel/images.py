"""Images of many entities as arrays, and the score of two images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from matching_pipeline.matches.kernel.attributes import all_overlaps, overlaps, shared_words
from matching_pipeline.matches.kernel.columns import Ids, Numbers, Rows, Vectors, starts_of
from matching_pipeline.matches.kernel.policy import DECIMALS

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
        rows = np.arange(len(self.image_ids))
        return np.sqrt(_row_products(self.embeddings, self.embeddings, rows, rows))

    def unit(self, rows: slice) -> Numbers:
        return self.embeddings[rows].astype(np.float64) / self.norms[rows, None]


def image_set(
    entity_of_row: Ids, image_ids: Ids, embeddings: Vectors, tokens: Sequence[frozenset[str]] | None = None
) -> ImageSet:
    """From rows that are sorted by (entity, image id); without tokens no image has any."""
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

    def folded(self) -> tuple[Vectors, Vectors]:
        """(left images, width) and (right images, width): vectors whose inner products are at least the scores.

        They are the scores where every word has a column of its own.
        """
        if not self._words:
            return _folded(self.left, None, 0), _folded(self.right, None, 0)
        left, right = (words.folded() for words in self._words)
        return _folded(self.left, left, self.weight), _folded(self.right, right, self.weight)


def _folded(images: ImageSet, words: Numbers | None, weight: float) -> Vectors:
    rows, dimensions = images.embeddings.shape
    width = dimensions + (0 if words is None else words.shape[1])
    folded = np.empty((rows, width), dtype=np.float32)
    scale = np.sqrt(1 - weight) / images.norms
    if scale.min(initial=1) > 1e-30 and scale.max(initial=1) < 1e30:
        np.multiply(images.embeddings, scale.astype(np.float32)[:, None], out=folded[:, :dimensions])
    else:  # float32 holds no scale for vectors that are so long or so short
        folded[:, :dimensions] = images.embeddings * scale[:, None]
    if words is not None:
        folded[:, dimensions:] = np.sqrt(weight) * words
    return folded


def _row_products(left: Vectors, right: Vectors, left_rows: Rows, right_rows: Rows) -> Numbers:
    """Inner products of paired rows in float64, a chunk at a time."""
    products = np.empty(len(left_rows), dtype=np.float64)
    for begin in range(0, len(left_rows), _CHUNK_ROWS):
        chunk = slice(begin, begin + _CHUNK_ROWS)
        a, b = left[left_rows[chunk]], right[right_rows[chunk]]
        products[chunk] = np.einsum("ij,ij->i", a.astype(np.float64), b.astype(np.float64))
    return products
