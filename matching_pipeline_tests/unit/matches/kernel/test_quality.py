"""The quality of lists: scikit-learn's nDCG, shares counted by hand, and intervals that hold the true value."""

import numpy as np
import pytest

from matching_pipeline.matches.kernel.quality import Judged, quality

GRADES = ([3, 0, 1, 0, 2, 0, 0, 1, 3, 0, 0, 1], [0, 0, 1], [2, 2])


def judged(*owners: list[int], unlisted: int = 0) -> Judged:
    """Lists of these grades by rank. The last `unlisted` pairs of each are in no list."""
    ranks = [[*range(1, len(grades) + 1 - unlisted), *[0] * unlisted] for grades in owners]
    return Judged(
        np.repeat(np.arange(len(owners)), [len(grades) for grades in owners]),
        np.concatenate([np.array(grades, dtype=float) for grades in owners]),
        np.concatenate([np.array(each) for each in ranks]),
    )


def test_ndcg_is_that_of_scikit_learn() -> None:
    # its import takes a second and a half, also of those who run other tests
    from sklearn.metrics import ndcg_score

    expected = [ndcg_score([2.0 ** np.array(grades) - 1], [-np.arange(len(grades))], k=10) for grades in GRADES]
    shuffled = judged(*GRADES).take(np.random.default_rng(1).permutation(17))
    assert quality(shuffled).ndcg.value == pytest.approx(np.mean(expected))  # type: ignore[union-attr]


def test_precision_and_recall_count_judged_pairs() -> None:
    found = quality(judged([3, 0, 1], [0, 1], unlisted=1))
    assert (found.entities, found.pairs) == (2, 5)
    assert found.precision is not None
    assert found.recall is not None
    assert (found.precision.value, found.recall.value) == (1 / 3, 1 / 3)


def test_a_measure_without_pairs_that_tell_is_none() -> None:
    blocked = quality(judged([0, 0]))
    assert (blocked.ndcg, blocked.recall) == (None, None)
    assert blocked.precision is not None
    assert (blocked.precision.value, blocked.precision.low) == (0, 0)
    assert 0.5 < blocked.precision.high < 0.9
    assert quality(judged([1], unlisted=1)).precision is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_95_of_100_intervals_hold_the_true_value(share: float) -> None:
    random = np.random.default_rng(2)
    inside = 0
    for _ in range(400):
        drawn = judged(*[(random.random(2) < share).astype(int).tolist() for _ in range(30)])
        precision = quality(drawn).precision
        assert precision is not None
        inside += precision.low <= share <= precision.high
    assert inside / 400 > 0.93
