"""What must be written so that the pairs that should stand do."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.matches.kernel.attributes import Rows
from matching_pipeline.matches.kernel.images import Ids

TOLERANCE = 1e-8
"""Scores that differ by less are the same score, computed on another machine."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Of pairs that should stand with those that do."""

    found: Mask
    """which of the former stand already"""
    place: Rows
    """of each of those that are found, its place among the latter"""
    left_over: Mask
    """which of the latter should not stand"""


def pair_keys(left: Ids, right: Ids) -> NDArray[np.bytes_]:
    """Both ids of each pair in one value, whose order is that of (left, right)."""
    both = np.empty((len(left), 2), dtype="S16")
    both[:, 0], both[:, 1] = left, right
    return both.view("S32").ravel()


def compare(wanted: NDArray[np.bytes_], stored: NDArray[np.bytes_]) -> Comparison:
    """By their keys, each of which occurs once on either side."""
    order = np.argsort(stored)
    after = np.minimum(np.searchsorted(stored, wanted, sorter=order), max(len(stored) - 1, 0))
    place = order[after] if len(stored) else np.zeros(len(wanted), dtype=np.intp)
    found = stored[place] == wanted if len(stored) else np.zeros(len(wanted), dtype=np.bool_)
    left_over = np.ones(len(stored), dtype=np.bool_)
    left_over[place[found]] = False
    return Comparison(found, place[found], left_over)


def among(values: NDArray[np.bytes_], members: NDArray[np.bytes_]) -> Mask:
    """Which of the values are members, which are sorted."""
    if not len(members):
        return np.zeros(len(values), dtype=np.bool_)
    at = np.minimum(np.searchsorted(members, values), len(members) - 1)
    return np.asarray(members[at] == values)
