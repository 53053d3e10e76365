"""Images of many owners as arrays, and the score of two images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.attributes import Rows, all_overlaps, overlaps, shared_words

Ids = NDArray[np.bytes_]
"""UUIDs as 16 bytes each ("S16"), whose order and equality are theirs."""

DECIMALS = 9
"""Scores are rounded to this, so that equal inputs tie however they were computed."""

_CHUNK_ROWS = 128
"""Small, so that a chunk stays in the processor's cache."""


def ids(uuids: Iterable[UUID]) -> Ids:
    return np.frombuffer(b"".join(uuid.bytes for uuid in uuids), dtype="S16")


def uuids(ids: Ids) -> list[UUID]:
    # element by element numpy would drop the zeros at an id's end
    raw = ids.tobytes()
    return [UUID(bytes=raw[begin : begin + 16]) for begin in range(0, len(raw), 16)]


@dataclass(frozen=True)
class ImageSet:
    """Images grouped by owner. Rows are sorted by (owner, image id), owners by id, so row order is id order."""

    owners: Ids
    starts: Rows
    """(owners,): the first row of each owner; every owner has at least one."""
    image_ids: Ids
    embeddings: NDArray[np.float32]
    """(images, dimensions), of any length but zero."""
    tokens: Sequence[frozenset[str]]

    @cached_property
    def ends(self) -> Rows:
        return np.append(self.starts[1:], len(self.image_ids))

    @cached_property
    def owner_of_row(self) -> Rows:
        return np.repeat(np.arange(len(self.owners)), self.ends - self.starts)

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        return np.sqrt(_row_products(self.embeddings, self.embeddings))

    def unit(self, rows: slice) -> NDArray[np.float64]:
        return self.embeddings[rows].astype(np.float64) / self.norms[rows, None]


def image_set(
    owner_of_row: Ids, image_ids: Ids, embeddings: NDArray[np.float32], tokens: Sequence[frozenset[str]]
) -> ImageSet:
    """From rows that are sorted by (owner, image id) already."""
    first = np.ones(len(owner_of_row), dtype=np.bool_)
    first[1:] = owner_of_row[1:] != owner_of_row[:-1]
    starts = np.flatnonzero(first)
    return ImageSet(owner_of_row[starts], starts, image_ids, embeddings, tokens)


class Scorer:
    """Scores of the images of two sets: `(1 - w) · cosine + w · overlap`."""

    def __init__(self, left: ImageSet, right: ImageSet, attribute_weight: float) -> None:
        self.left, self.right, self.weight = left, right, attribute_weight
        self._words = shared_words(left.tokens, right.tokens) if attribute_weight else None

    def exact(self, left_rows: Rows, right_rows: Rows) -> NDArray[np.float64]:
        """Scores pair by pair in float64, the same for a pair whatever else is asked with it."""
        scores = _row_products(self.left.embeddings, self.right.embeddings, left_rows, right_rows)
        scores *= (1 - self.weight) / (self.left.norms[left_rows] * self.right.norms[right_rows])
        if self._words:
            scores += self.weight * overlaps(*self._words, left_rows, right_rows)
        return np.clip(np.round(scores, DECIMALS), -1, 1)

    def all_scores(self, left_rows: slice, right_rows: slice) -> NDArray[np.float64]:
        """(left rows, right rows): within 1e-9 of exact."""
        scores: NDArray[np.float64] = self.left.unit(left_rows) @ self.right.unit(right_rows).T
        scores *= 1 - self.weight
        if self._words:
            scores += self.weight * all_overlaps(*self._words, left_rows, right_rows)
        return scores

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(left images, width) and (right images, width): vectors whose inner products are at least the scores, and
        are the scores where few different words occur."""
        if not self._words:
            return _folded(self.left, None, 0), _folded(self.right, None, 0)
        left, right = (words.folded() for words in self._words)
        return _folded(self.left, left, self.weight), _folded(self.right, right, self.weight)


def _folded(images: ImageSet, words: NDArray[np.float64] | None, weight: float) -> NDArray[np.float32]:
    rows, dimensions = images.embeddings.shape
    width = dimensions + (0 if words is None else words.shape[1])
    folded = np.empty((rows, width), dtype=np.float32)
    scale = np.sqrt(1 - weight) / images.norms
    if scale.min(initial=1) > 1e-30 and scale.max(initial=1) < 1e30:
        np.multiply(images.embeddings, scale.astype(np.float32)[:, None], out=folded[:, :dimensions])
    else:  # lengths that float32 has no scale for
        folded[:, :dimensions] = images.embeddings * scale[:, None]
    if words is not None:
        folded[:, dimensions:] = np.sqrt(weight) * words
    return folded


def _row_products(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    left_rows: Rows | None = None,
    right_rows: Rows | None = None,
) -> NDArray[np.float64]:
    """Inner products of paired rows in float64, a chunk at a time."""
    count = len(left) if left_rows is None else len(left_rows)
    products = np.empty(count, dtype=np.float64)
    for begin in range(0, count, _CHUNK_ROWS):
        chunk = slice(begin, begin + _CHUNK_ROWS)
        a = left[chunk] if left_rows is None else left[left_rows[chunk]]
        b = right[chunk] if right_rows is None else right[right_rows[chunk]]
        products[chunk] = np.einsum("ij,ij->i", a.astype(np.float64), b.astype(np.float64))
    return products
