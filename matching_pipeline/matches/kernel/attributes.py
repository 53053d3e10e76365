"""Attributes as sparse rows of words: their exact overlaps, and a narrow dense form that bounds them from above."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from matching_pipeline.matches.kernel.columns import Numbers, Rows

FOLDED_COLUMNS = 128

_FREE_TEXT = frozenset({"caption"})


def attribute_tokens(attributes: Mapping[str, Any]) -> frozenset[str]:
    """The attributes as a set that can be compared: "key=value" for each value; free text is left out."""
    return frozenset(
        f"{key}={value}"
        for key, values in attributes.items()
        if key not in _FREE_TEXT
        for value in (values if isinstance(values, list) else [values])
    )


@dataclass(frozen=True)
class Words:
    """The words of some images that both sides of a comparison know; a word of one side adds to no overlap."""

    indicators: csr_array
    """(images, vocabulary), the most frequent word first"""
    counts: Numbers
    """Of an image's whole set, at least one: an empty one overlaps with nothing instead of dividing by zero."""

    def folded(self) -> Numbers:
        """(images, at most FOLDED_COLUMNS), whose inner products are at least the overlaps.

        Where the vocabulary fits, a word has a column of its own and the product is the overlap. Where it does not,
        the rarer words share the upper half of the columns: a row holds how many of its words fell into one. Nothing
        is negative, and a common word adds at least one to the product of the counts, so sharing can only add.
        """
        vocabulary = self.indicators.shape[1]
        width = min(vocabulary, FOLDED_COLUMNS)
        words = np.arange(vocabulary)
        alone = width if vocabulary == width else width // 2
        column = np.where(words < alone, words, alone + (words - alone) % max(width - alone, 1))
        fold = csr_array((np.ones(vocabulary), (words, column)), shape=(vocabulary, width))
        folded: Numbers = (self.indicators @ fold).toarray()
        return folded / np.sqrt(self.counts)[:, None]


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


def all_overlaps(left: Words, right: Words, left_rows: slice, right_rows: slice) -> Numbers:
    """The same of every left row with every right row."""
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
