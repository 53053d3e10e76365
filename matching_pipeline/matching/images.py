"""Images of many owners as arrays, and the score of two images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]

DECIMALS = 9
"""Scores are rounded to this, so that equal inputs tie however they were computed."""

_FREE_TEXT = frozenset({"caption"})
_CHUNK_ROWS = 16_384


def attribute_tokens(attributes: Mapping[str, Any]) -> frozenset[str]:
    """The attributes as a set that can be compared: "key=value" for each value; free text is left out."""
    return frozenset(
        f"{key}={value}"
        for key, values in attributes.items()
        if key not in _FREE_TEXT
        for value in (values if isinstance(values, list) else [values])
    )


@dataclass(frozen=True)
class ImageSet:
    """Images grouped by owner. Rows are sorted by (owner, image id), owners by id, so row order is id order."""

    owners: Sequence[UUID]
    starts: Rows
    """(owners,): the first row of each owner; every owner has at least one."""
    image_ids: Sequence[UUID]
    embeddings: NDArray[np.float32]
    """(images, dimensions), of any length but zero."""
    tokens: Sequence[frozenset[str]]

    @property
    def ends(self) -> Rows:
        return np.append(self.starts[1:], len(self.image_ids))

    @cached_property
    def norms(self) -> NDArray[np.float64]:
        return np.sqrt(_row_products(self.embeddings, self.embeddings))

    @cached_property
    def token_counts(self) -> NDArray[np.float64]:
        """At least one, so that an image without attributes overlaps with nothing instead of dividing by zero."""
        return np.array([max(len(tokens), 1) for tokens in self.tokens], dtype=np.float64)


def image_set(
    rows: Sequence[tuple[UUID, UUID]], embeddings: NDArray[np.float32], tokens: Sequence[frozenset[str]]
) -> ImageSet:
    """From (owner, image id) rows that are sorted already, with one embedding and one token set each."""
    starts = [row for row, (owner, _) in enumerate(rows) if row == 0 or rows[row - 1][0] != owner]
    return ImageSet(
        owners=[rows[start][0] for start in starts],
        starts=np.array(starts, dtype=np.intp),
        image_ids=[image_id for _, image_id in rows],
        embeddings=embeddings,
        tokens=tokens,
    )


class Scorer:
    """Scores of the images of two sets: `(1 - w) · cosine + w · overlap`.

    The overlap of attribute sets A and B is `|A ∩ B| / √(|A|·|B|)` (Ochiai's coefficient): it is the cosine of
    their indicator vectors, so the whole score is one inner product of folded vectors, and one matrix product
    gives all of them at once.
    """

    def __init__(self, left: ImageSet, right: ImageSet, attribute_weight: float) -> None:
        self.left, self.right, self.weight = left, right, attribute_weight
        vocabulary = _shared_vocabulary(left, right) if attribute_weight else {}
        self._left_words = _indicators(left.tokens, vocabulary)
        self._right_words = _indicators(right.tokens, vocabulary)
        self._left_folded = _fold(left, self._left_words, attribute_weight)
        self._right_folded = _fold(right, self._right_words, attribute_weight)
        width = self._left_folded.shape[1]
        # Rounding of a float32 inner product of unit vectors stays below width · u · (1 + …); twice that holds
        # whatever the order of summation, and folding and normalising add a few units in the last place.
        self.error = float((width + 16) * np.finfo(np.float32).eps)

    def coarse(self, left_rows: slice) -> NDArray[np.float32]:
        """(rows, right images) scores, each within `self.error` of exact."""
        return self._left_folded[left_rows] @ self._right_folded.T

    def exact(self, left_rows: Rows, right_rows: Rows) -> NDArray[np.float64]:
        """Scores pair by pair in float64, the same for a pair whatever else is asked with it."""
        cosines = _row_products(self.left.embeddings, self.right.embeddings, left_rows, right_rows)
        cosines /= self.left.norms[left_rows] * self.right.norms[right_rows]
        overlaps = _row_products(self._left_words, self._right_words, left_rows, right_rows)
        overlaps /= np.sqrt(self.left.token_counts[left_rows] * self.right.token_counts[right_rows])
        scores = (1 - self.weight) * cosines + self.weight * overlaps
        return np.clip(np.round(scores, DECIMALS), -1, 1)


def _shared_vocabulary(left: ImageSet, right: ImageSet) -> dict[str, int]:
    words = frozenset().union(*left.tokens) & frozenset().union(*right.tokens)
    return {word: column for column, word in enumerate(sorted(words))}


def _indicators(tokens: Sequence[frozenset[str]], vocabulary: Mapping[str, int]) -> NDArray[np.float32]:
    indicators = np.zeros((len(tokens), len(vocabulary)), dtype=np.float32)
    for row, words in enumerate(tokens if vocabulary else ()):
        indicators[row, [vocabulary[word] for word in words if word in vocabulary]] = 1
    return indicators


def _fold(images: ImageSet, words: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    embeddings = images.embeddings * (np.sqrt(1 - weight) / images.norms)[:, None].astype(np.float32)
    attributes = words * np.sqrt(weight / images.token_counts)[:, None].astype(np.float32)
    return np.hstack([embeddings, attributes], dtype=np.float32)


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
