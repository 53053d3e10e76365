"""Attributes as sparse rows of words: their exact overlaps, and a narrow dense form that bounds the overlaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from matching_pipeline.matches.kernel.columns import Numbers, Rows

FOLDED_COLUMNS = 128

_FREE_TEXT = frozenset({"caption"})


def attribute_tokens(attributes: Mapping[str, Any]) -> frozenset[str]:
    """The attributes as a set of words: "key=value" for each value. Free text is left out."""
    return frozenset(
        f"{key}={value}"
        for key, values in attributes.items()
        if key not in _FREE_TEXT
        for value in (values if isinstance(values, list) else [values])
    )


@dataclass(frozen=True)
class Words:
    """The words of some images that occur on both sides of a comparison. Other words add to no overlap."""

    indicators: csr_array
    """(images, vocabulary), the most frequent word first"""
    counts: Numbers
    """(images,): the size of an image's whole set, but 1 for an empty set, which must not divide by zero"""

    @property
    def folded_columns(self) -> int:
        return min(int(self.indicators.shape[1]), FOLDED_COLUMNS)

    def folded(self, rows: slice | Rows) -> Numbers:
        """(rows, folded columns): rows whose inner products are at least the overlaps.

        If the vocabulary fits, each word has its own column and the products are the overlaps. Otherwise the rarer
        words share the upper half of the columns, and a row counts its words in each. Counts are not negative, and a
        common word adds one or more to the product. So shared columns can only increase it.
        """
        folded: Numbers = (self.indicators[rows] @ self._fold).toarray()
        return folded / np.sqrt(self.counts[rows])[:, None]

    @cached_property
    def _fold(self) -> csr_array:
        vocabulary, width = self.indicators.shape[1], self.folded_columns
        words = np.arange(vocabulary)
        alone = width if vocabulary == width else width // 2
        column = np.where(words < alone, words, alone + (words - alone) % max(width - alone, 1))
        return csr_array((np.ones(vocabulary), (words, column)), shape=(vocabulary, width))


def shared_words(left: Sequence[frozenset[str]], right: Sequence[frozenset[str]]) -> tuple[Words, Words]:
    left_sets, left_numbers = _distinct(left)
    right_sets, right_numbers = _distinct(right)
    shared = frozenset().union(*left_sets) & frozenset().union(*right_sets)
    frequency = dict.fromkeys(shared, 0)
    for tokens in (*left_sets, *right_sets):
        for token in tokens & shared:
            frequency[token] += 1
    order = sorted(shared, key=lambda token: (-frequency[token], token))
    code = {token: number for number, token in enumerate(order)}
    return _words(left_sets, left_numbers, code), _words(right_sets, right_numbers, code)


def overlaps(left: Words, right: Words, left_rows: Rows, right_rows: Rows) -> Numbers:
    """`|A ∩ B| / √(|A|·|B|)` of paired rows (Ochiai's coefficient): the cosine of their indicator vectors."""
    if not left.indicators.nnz or not right.indicators.nnz:
        return np.zeros(len(left_rows))
    common = left.indicators[left_rows].multiply(right.indicators[right_rows]).sum(axis=1)
    return np.asarray(common / np.sqrt(left.counts[left_rows] * right.counts[right_rows]))


def all_overlaps(left: Words, right: Words, left_rows: slice | Rows, right_rows: slice | Rows) -> Numbers:
    """The overlaps of every left row with every right row."""
    common = (left.indicators[left_rows] @ right.indicators[right_rows].T).toarray()
    return np.asarray(common / np.sqrt(np.outer(left.counts[left_rows], right.counts[right_rows])))


def _distinct(rows: Sequence[frozenset[str]]) -> tuple[list[frozenset[str]], Rows]:
    """The sets that occur, and which of them each row has: there are far fewer of them than images."""
    numbers: dict[frozenset[str], int] = {}
    number_of_row = [numbers.setdefault(tokens, len(numbers)) for tokens in rows]
    return list(numbers), np.array(number_of_row, dtype=np.intp)


def _words(sets: Sequence[frozenset[str]], numbers: Rows, code: Mapping[str, int]) -> Words:
    coded = [sorted(code[token] for token in tokens if token in code) for tokens in sets]
    starts = np.cumsum([0, *map(len, coded)])
    codes = np.array([number for each in coded for number in each], dtype=np.intp)
    distinct = csr_array((np.ones(len(codes)), codes, starts), shape=(len(sets), len(code)))
    counts = np.array([max(len(tokens), 1) for tokens in sets], dtype=np.float64)
    return Words(distinct[numbers], counts[numbers])
