"""The kernel gives what a plain loop over all pairs of images gives."""

import math
from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matching_pipeline.matching import kernel
from matching_pipeline.matching.images import ImageSet, Scorer, attribute_tokens, image_set
from matching_pipeline.matching.kernel import Lists, Pair, Policy, best_lists, pairs_above

Image = tuple[Sequence[float], frozenset[str]]

# few directions and few words: ties and equal images are the rule, not the exception
vectors = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3).filter(any)
images = st.tuples(vectors, st.frozensets(st.sampled_from(["color=red", "color=blue", "style=plain"])))
owners = st.lists(st.lists(images, min_size=1, max_size=3), max_size=6)
policies = st.builds(
    Policy,
    threshold=st.sampled_from([-1.0, 0.0, 0.3, 0.5]),
    limit=st.integers(1, 4),
    attribute_weight=st.sampled_from([0.0, 0.2, 1.0]),
)


def an_image_set(owners: Sequence[Sequence[Image]], offset: int) -> ImageSet:
    rows = [
        (UUID(int=offset + owner), UUID(int=offset + 100 * owner + number))
        for owner, owned in enumerate(owners)
        for number in range(len(owned))
    ]
    flat = [image for owned in owners for image in owned]
    dimensions = len(flat[0][0]) if flat else 3
    embeddings = np.array([vector for vector, _ in flat], dtype=np.float32).reshape(-1, dimensions)
    return image_set(rows, embeddings, [tokens for _, tokens in flat])


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


@given(projects=owners, products=owners, policy=policies, block=st.sampled_from([1, 3, 10**6]))
@settings(deadline=None)
def test_best_lists_are_those_of_a_plain_loop_whatever_the_block_size(
    projects: list[list[Image]], products: list[list[Image]], policy: Policy, block: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernel, "BLOCK_SCORES", block)
        found = best_lists(an_image_set(projects, 1000), an_image_set(products, 5000), policy)
    assert found == expected_lists(all_pairs(projects, products, policy.attribute_weight), policy)


@given(projects=owners, products=owners, policy=policies, floor=st.sampled_from([-1.0, 0.4, 1.0]), data=st.data())
@settings(deadline=None)
def test_pairs_above_holds_every_pair_from_its_floor_on_and_those_always_asked_for(
    projects: list[list[Image]], products: list[list[Image]], policy: Policy, floor: float, data: st.DataObject
) -> None:
    pairs = all_pairs(projects, products, policy.attribute_weight)
    keys = [(project, pair.right_id) for project, row in pairs.items() for pair in row]
    always = set(data.draw(st.lists(st.sampled_from(keys), max_size=5))) if keys else set()
    found = pairs_above(
        an_image_set(projects, 1000), an_image_set(products, 5000), policy, dict.fromkeys(pairs, floor), always
    )
    for project, row in pairs.items():
        needed = {
            pair
            for pair in row
            if pair.similarity >= max(floor, policy.threshold) or (project, pair.right_id) in always
        }
        assert needed <= set(found.get(project, [])) <= set(row)


def test_a_score_within_the_rounding_of_the_cut_is_decided_exactly() -> None:
    base = np.random.default_rng(7).normal(size=256).astype(np.float32)
    nearly = base.copy()
    nearly[0] = np.nextafter(nearly[0], np.float32(np.inf)) + np.float32(1e-3)
    products = [[(list(map(float, vector)), frozenset[str]())] for vector in (nearly, base, nearly, base)]
    projects = [[(list(map(float, base)), frozenset[str]())]]
    found = best_lists(an_image_set(projects, 1000), an_image_set(products, 5000), Policy(limit=2))
    assert [pair.right_id.int for pair in found[UUID(int=1000)]] == [5001, 5003]


def test_the_coarse_error_bound_holds() -> None:
    generator = np.random.default_rng(3)
    rows = [(UUID(int=row), UUID(int=row)) for row in range(200)]
    embeddings = (generator.normal(size=(200, 700)) * 10 ** generator.uniform(-3, 3, (200, 1))).astype(np.float32)
    tokens = [frozenset(map(str, generator.choice(40, size=8))) for _ in rows]
    left = image_set(rows, embeddings, tokens)
    scorer = Scorer(left, left, 0.2)
    one, other = np.divmod(np.arange(200 * 200), 200)
    gap = np.abs(scorer.coarse(slice(0, 200)).ravel() - scorer.exact(one, other))
    assert gap.max() < scorer.error
    assert scorer.error < 1e-3


def test_no_images_on_either_side_give_no_pairs() -> None:
    some = an_image_set([[([1.0, 0.0, 0.0], frozenset())]], 1000)
    none = an_image_set([], 5000)
    assert best_lists(some, none, Policy()) == {UUID(int=1000): []}
    assert best_lists(none, some, Policy()) == {}
    assert pairs_above(some, none, Policy(), {}, set()) == {}


def test_free_text_is_no_token() -> None:
    attributes = {"caption": "a red chair", "colors": ["red", "grey"], "orientation": "square"}
    assert attribute_tokens(attributes) == {"colors=red", "colors=grey", "orientation=square"}
