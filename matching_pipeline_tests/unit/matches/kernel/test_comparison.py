"""Lists of two models are compared by the pairs that reach each model's threshold."""

from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.comparison import compare, distribution, equal_quantile
from matching_pipeline.matches.kernel.pairs import Pairs

scores = st.lists(st.floats(-1, 1), min_size=1, max_size=30).map(np.array)


def pairs(*listed: tuple[int, int, float]) -> Pairs:
    """Entity, listed entity and score, by entity and best first."""
    left, right, similarity = zip(*listed, strict=True)
    columns = (as_ids(UUID(int=number) for number in side) for side in (left, right, left, right))
    a, b, c, d = columns
    return Pairs(a, b, np.array(similarity), c, d)


def rights(found: Pairs) -> list[int]:
    return [id.int for id in as_uuids(found.right)]


OLD = pairs((1, 11, 0.9), (1, 12, 0.8), (1, 13, 0.4), (2, 11, 0.7), (3, 11, 0.2))
NEW = pairs((1, 12, 0.5), (1, 14, 0.45), (1, 11, 0.1), (2, 15, 0.2), (3, 11, 0.1))


def test_pairs_are_lost_and_won_by_each_models_threshold() -> None:
    found = compare(OLD, NEW, (0.5, 0.4))
    assert (len(found.old), len(found.new)) == (3, 2)
    assert (rights(found.lost), rights(found.won)) == ([11, 11], [14])
    assert found.lost.similarity.tolist() == [0.9, 0.7]
    assert (found.with_pairs, found.emptied) == (2, 1)
    assert found.overlap == pytest.approx((2 / 3 + 0 + 1) / 3)


@given(scores, scores, st.floats(-1, 1))
def test_as_large_a_share_reaches_the_proposed_threshold(
    old: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    new: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    threshold: float,
) -> None:
    proposed = equal_quantile(old, new, threshold)
    wanted = round(float(np.mean(old >= threshold)) * len(new))
    if proposed is None:
        assert wanted == 0
    else:
        assert np.count_nonzero(new >= proposed) >= wanted
        # scores that are nearer to each other than a step reach it together
        assert np.count_nonzero(new >= proposed + 1e-4) < wanted or proposed + 1e-4 > 1


@given(scores, scores)
def test_each_score_is_in_a_bin(
    old: "np.ndarray[tuple[int], np.dtype[np.float64]]", new: "np.ndarray[tuple[int], np.dtype[np.float64]]"
) -> None:
    found = distribution(old, new, (0.1, -0.3))
    assert (sum(found.old), sum(found.new)) == (len(old), len(new))
