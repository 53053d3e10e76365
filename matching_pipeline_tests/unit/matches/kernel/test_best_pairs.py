"""The kernel gives what a plain loop over all pairs of images gives."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from uuid import UUID

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.lists import Lists, Pair
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline_tests.fixtures.lists import lists_from

Image = tuple[Sequence[float], frozenset[str]]

# few directions and few words: ties and equal images are the rule, not the exception
vectors = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3).filter(any)
images = st.tuples(vectors, st.frozensets(st.sampled_from(["color=red", "color=blue", "style=plain"])))
entities = st.lists(st.lists(images, min_size=1, max_size=3), max_size=6)
policies = st.builds(
    Policy,
    threshold=st.sampled_from([-1.0, 0.0, 0.3, 0.5]),
    limit=st.integers(1, 4),
    attribute_weight=st.sampled_from([0.0, 0.2, 1.0]),
)


def an_image_set(entities: Sequence[Sequence[Image]], offset: int, first: int = 0) -> ImageSet:
    rows = [
        (UUID(int=offset + entity), UUID(int=offset + 100 * entity + number))
        for entity, owned in enumerate(entities, start=first)
        for number in range(len(owned))
    ]
    flat = [image for owned in entities for image in owned]
    dimensions = len(flat[0][0]) if flat else 3
    embeddings = np.array([vector for vector, _ in flat], dtype=np.float32).reshape(-1, dimensions)
    entity_ids, image_ids = as_ids(entity for entity, _ in rows), as_ids(image for _, image in rows)
    return image_set(entity_ids, image_ids, embeddings, [tokens for _, tokens in flat])


def score(one: Image, other: Image, weight: float) -> float:
    dot = sum(a * b for a, b in zip(one[0], other[0], strict=True))
    cosine = dot / (math.hypot(*one[0]) * math.hypot(*other[0]))
    overlap = len(one[1] & other[1]) / math.sqrt(max(len(one[1]), 1) * max(len(other[1]), 1))
    return max(-1.0, min(1.0, round((1 - weight) * cosine + weight * overlap, 9)))


def all_pairs(projects: Sequence[Sequence[Image]], products: Sequence[Sequence[Image]], weight: float) -> Lists:
    lists: Lists = {}
    for p, project in enumerate(projects):
        lists[UUID(int=1000 + p)] = []
        for q, product in enumerate(products):
            best = max(
                (score(one, other, weight), -i, -j)
                for i, one in enumerate(project)
                for j, other in enumerate(product)
            )
            images = UUID(int=1000 + 100 * p - best[1]), UUID(int=5000 + 100 * q - best[2])
            lists[UUID(int=1000 + p)].append(Pair(UUID(int=5000 + q), best[0], *images))
    return lists


def expected_lists(pairs: Mapping[UUID, Sequence[Pair]], policy: Policy) -> Lists:
    return {
        project: sorted((p for p in row if p.similarity >= policy.threshold), key=lambda p: p.order)[: policy.limit]
        for project, row in pairs.items()
    }


@given(projects=entities, products=entities, policy=policies, parts=st.integers(1, 3))
@settings(deadline=None)
def test_best_pairs_are_those_of_a_plain_loop_in_however_many_parts_the_right_side_comes(
    projects: list[list[Image]], products: list[list[Image]], policy: Policy, parts: int
) -> None:
    bounds = [len(products) * part // parts for part in range(parts + 1)]
    rights = [an_image_set(products[first:last], 5000, first) for first, last in pairwise(bounds)]
    found = lists_from(best_pairs(an_image_set(projects, 1000), rights, policy))
    expected = expected_lists(all_pairs(projects, products, policy.attribute_weight), policy)
    assert found == {project: pairs for project, pairs in expected.items() if pairs}


@given(projects=entities, products=entities, policy=policies, floor=st.sampled_from([-1.0, 0.4, 1.0]))
@settings(deadline=None)
def test_pairs_above_are_all_from_the_floor_on(
    projects: list[list[Image]], products: list[list[Image]], policy: Policy, floor: float
) -> None:
    pairs = all_pairs(projects, products, policy.attribute_weight)
    floors = dict.fromkeys(list(pairs)[::2], floor)
    found = lists_from(pairs_above(an_image_set(projects, 1000), an_image_set(products, 5000), policy, floors))
    for project, row in pairs.items():
        least = max(floors.get(project, policy.threshold), policy.threshold)
        assert {pair for pair in row if pair.similarity >= least} == set(found.get(project, []))


def test_a_score_within_the_rounding_of_the_cut_is_decided_exactly() -> None:
    base = np.random.default_rng(7).normal(size=256).astype(np.float32)
    nearly = base.copy()
    nearly[0] = np.nextafter(nearly[0], np.float32(np.inf)) + np.float32(1e-3)
    products = [[(list(map(float, vector)), frozenset[str]())] for vector in (nearly, base, nearly, base)]
    projects = [[(list(map(float, base)), frozenset[str]())]]
    found = best_pairs(an_image_set(projects, 1000), [an_image_set(products, 5000)], Policy(limit=2))
    assert [pair.right.int for pair in lists_from(found)[UUID(int=1000)]] == [5001, 5003]


def test_no_images_on_either_side_give_no_pairs() -> None:
    some = an_image_set([[([1.0, 0.0, 0.0], frozenset())]], 1000)
    none = an_image_set([], 5000)
    assert not len(best_pairs(some, [], Policy()))
    assert not len(best_pairs(some, [none], Policy()))
    assert not len(best_pairs(none, [some], Policy()))
    assert not len(pairs_above(some, none, Policy(), {}))
