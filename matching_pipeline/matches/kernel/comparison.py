"""Two models compared by the top-k lists that they give the same entities."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from matching_pipeline.matches.kernel.columns import Ids, Numbers
from matching_pipeline.matches.kernel.differences import pair_keys
from matching_pipeline.matches.kernel.pairs import Pairs

STEPS = 10_000
"""A proposed threshold is a multiple of 1 / STEPS."""
BINS = 16


@dataclass(frozen=True)
class Scores:
    """How the scores of both models' lists are distributed, without a threshold."""

    edges: Numbers
    """(bins + 1,)"""
    old: Sequence[int]
    """(bins,): so many scores from one edge up to the next"""
    new: Sequence[int]
    old_threshold: int
    """the number of the bin that has it"""
    new_threshold: int


@dataclass(frozen=True)
class Comparison:
    """Compares two models' lists without a threshold, each by its model's threshold."""

    old: Pairs
    """the pairs that reach the threshold, such as all the following pairs"""
    new: Pairs
    lost: Pairs
    """by the old model only, best first"""
    won: Pairs
    overlap: float
    """the mean share that two lists of one entity have in common, without a threshold"""
    with_pairs: int
    """entities that have pairs by the old model"""
    emptied: int
    """those of them that have none by the new one"""


def equal_quantile(old: Numbers, new: Numbers, threshold: float) -> float | None:
    """The threshold that the same share of the new scores reaches; None if no old score reaches `threshold`."""
    share = np.count_nonzero(old >= threshold) / len(old) if len(old) else 0.0
    count = round(share * len(new))
    if not count:
        return None
    # rounded down: the score itself reaches it
    return max(-1.0, floor(float(np.sort(new)[-count]) * STEPS) / STEPS)


def compare(old: Pairs, new: Pairs, thresholds: tuple[float, float]) -> Comparison:
    """Compares lists of the same entities, made without a threshold."""
    old_kept, new_kept = (
        pairs.take(pairs.similarity >= threshold) for pairs, threshold in zip((old, new), thresholds, strict=True)
    )
    with_pairs = np.unique(old_kept.left)
    return Comparison(
        *(old_kept, new_kept),
        lost=_only_in(old_kept, new_kept),
        won=_only_in(new_kept, old_kept),
        overlap=_overlap(old, new),
        with_pairs=len(with_pairs),
        emptied=len(np.setdiff1d(with_pairs, new_kept.left)),
    )


def distribution(old: Numbers, new: Numbers, thresholds: tuple[float, float]) -> Scores:
    every = np.concatenate([old, new, thresholds])
    edges = np.linspace(every.min(), every.max(), BINS + 1)
    counts = [np.histogram(scores, edges)[0].tolist() for scores in (old, new)]
    places = np.clip(np.searchsorted(edges, thresholds, side="right") - 1, 0, BINS - 1).tolist()
    return Scores(edges, *counts, *places)


def _only_in(pairs: Pairs, others: Pairs) -> Pairs:
    only = pairs.take(~np.isin(_keys(pairs), _keys(others)))
    return only.take(np.argsort(-only.similarity, kind="stable"))


def _overlap(old: Pairs, new: Pairs) -> float:
    owners, lengths = np.unique(old.left, return_counts=True)
    new_owners, new_lengths = np.unique(new.left, return_counts=True)
    everyone = np.union1d(owners, new_owners)
    longest, common = np.zeros(len(everyone)), np.zeros(len(everyone))
    for of, counts in ((owners, lengths), (new_owners, new_lengths)):
        at = np.searchsorted(everyone, of)
        longest[at] = np.maximum(longest[at], counts)
    shared, counts = np.unique(old.left[np.isin(_keys(old), _keys(new))], return_counts=True)
    common[np.searchsorted(everyone, shared)] = counts
    return float(np.mean(common / longest)) if len(everyone) else 1.0


def _keys(pairs: Pairs) -> Ids:
    return pair_keys(pairs.left, pairs.right)
