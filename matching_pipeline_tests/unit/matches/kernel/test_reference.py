"""The definition of `matches`, against lists computed by hand and against the kernel."""

import math
from collections.abc import Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids
from matching_pipeline.matches.kernel.images import image_set
from matching_pipeline.matches.kernel.lists import Pair
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.reference import Image, best_lists
from matching_pipeline.matches.kernel.search import best_pairs
from matching_pipeline_tests.fixtures.lists import lists_from


def image(entity: int, id: int, vector: Sequence[float], *words: str) -> Image:
    return Image(UUID(int=entity), UUID(int=id), np.array(vector, dtype=np.float32), frozenset(words))


def test_a_list_has_its_best_by_cosine_and_shared_words_from_the_threshold_on() -> None:
    (pairs,) = best_lists(
        [image(1, 11, (1, 0), "red", "oak")],
        [
            [
                image(2, 21, (1, 0), "red"),
                image(3, 31, (2, 0)),
                image(4, 41, (3, 4), "red", "oak"),
                image(5, 51, (0, 1), "red", "oak"),
            ]
        ],
        Policy(threshold=0.5, limit=3, attribute_weight=0.2),
    ).values()
    assert [pair.right.int for pair in pairs] == [2, 3, 4]
    assert [pair.similarity for pair in pairs] == pytest.approx([0.8 + 0.2 / math.sqrt(2), 0.8, 0.8 * 0.6 + 0.2])


def test_the_best_two_images_prove_their_entities_and_ties_go_by_id() -> None:
    parts = [[image(9, 91, (0, 1)), image(9, 93, (1, 0)), image(8, 81, (1, 0))], [image(9, 92, (1, 0))]]
    lists = best_lists([image(1, 12, (5, 0)), image(1, 11, (1, 0))], parts, Policy(limit=5, attribute_weight=0))
    assert lists == {
        UUID(int=1): [
            Pair(UUID(int=8), 1.0, UUID(int=11), UUID(int=81)),
            Pair(UUID(int=9), 1.0, UUID(int=11), UUID(int=92)),
        ]
    }


def test_a_vector_without_direction_is_like_nothing() -> None:
    nowhere = image(2, 2, (0, 0))
    assert best_lists([image(1, 1, (1, 0)), nowhere], [[nowhere], []], Policy(threshold=-1)) == {
        UUID(int=1): [],
        UUID(int=2): [],
    }


vectors = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.2, 0.1), (-1.0, 0.2, 0.3)])
rows = st.lists(
    st.tuples(st.integers(1, 3), vectors, st.frozensets(st.sampled_from(["red", "blue", "oak"]))), max_size=8
)
policies = st.builds(
    Policy,
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 0.9]),
    limit=st.integers(1, 4),
    attribute_weight=st.sampled_from([0.0, 0.2, 1.0]),
)


@given(left=rows, right=rows, policy=policies, size=st.integers(1, 3))
def test_it_says_what_the_kernel_says(
    left: list[tuple[int, tuple[float, ...], frozenset[str]]],
    right: list[tuple[int, tuple[float, ...], frozenset[str]]],
    policy: Policy,
    size: int,
) -> None:
    ours, theirs = (
        [
            image(entity, 10 * entity + n, vector, *words)
            for n, (entity, vector, words) in enumerate(sorted(given, key=lambda row: row[0]))
        ]
        for given in (left, right)
    )
    ours_set, theirs_set = (
        image_set(
            as_ids(each.entity for each in images),
            as_ids(each.id for each in images),
            np.array([each.vector for each in images], dtype=np.float32).reshape(len(images), 3),
            [each.tokens for each in images],
        )
        for images in (ours, theirs)
    )
    expected = lists_from(best_pairs(ours_set, [theirs_set], policy))
    parts = [theirs[first : first + size] for first in range(0, len(theirs), size)]
    found = best_lists(ours, parts, policy)
    assert {entity: pairs for entity, pairs in found.items() if pairs} == expected
