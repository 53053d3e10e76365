"""A merged list is the list that a fresh look at all products gives, or asks for that look."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.lists import Lists, Pair, merge
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline_tests.fixtures.lists import lists_from, pairs_from

scores = st.dictionaries(st.integers(1, 8), st.sampled_from([0.1, 0.5, 0.6, 0.7, 0.8]), max_size=8)
policy = Policy(threshold=0.5, limit=3)


def pair(product: int, similarity: float) -> Pair:
    return Pair(UUID(int=product), similarity, UUID(int=100), UUID(int=200 + product))


def best(of: dict[int, float]) -> list[Pair]:
    qualified = [pair(product, similarity) for product, similarity in of.items() if similarity >= policy.threshold]
    return sorted(qualified, key=lambda found: found.order)[: policy.limit]


ENTITY = UUID(int=1 << 64)


def merged(before: dict[int, float], changed: set[int], scored: dict[int, float]) -> list[Pair] | None:
    """None where the list must be recomputed."""
    entering = [pair(product, score) for product, score in scored.items()]
    stored, now = (pairs_from({ENTITY: pairs}) for pairs in (best(before), entering))
    found, incomplete = merge(stored, as_ids(UUID(int=product) for product in changed), now, policy)
    assert as_uuids(incomplete) in ([], [ENTITY])
    return None if len(incomplete) else lists_from(found).get(ENTITY, [])


@given(before=scores, after=scores)
def test_merge_agrees_with_a_fresh_list_or_asks_for_one(before: dict[int, float], after: dict[int, float]) -> None:
    changed = {product for product in before.keys() | after.keys() if before.get(product) != after.get(product)}
    found = merged(before, changed, {product: score for product, score in after.items() if product in changed})
    assert found is None or found == best(after)


@given(before=scores, improved=scores)
def test_merge_never_asks_for_a_fresh_list_when_products_only_improve(
    before: dict[int, float], improved: dict[int, float]
) -> None:
    after = before | {product: max(score, before.get(product, 0)) for product, score in improved.items()}
    assert merged(before, set(improved), {product: after[product] for product in improved}) == best(after)


def test_a_full_list_that_loses_a_pair_must_be_recomputed() -> None:
    assert merged({1: 0.9, 2: 0.8, 3: 0.7}, {2}, {}) is None


def test_a_list_with_room_that_loses_a_pair_needs_no_other() -> None:
    assert merged({1: 0.9, 2: 0.8}, {2}, {}) == [pair(1, 0.9)]


@given(lists=st.dictionaries(st.integers(1, 8), scores))
def test_lists_are_the_same_lists_as_columns(lists: dict[int, dict[int, float]]) -> None:
    given: Lists = {UUID(int=entity): best(of) for entity, of in lists.items()}
    pairs = pairs_from(given)
    assert lists_from(pairs) == {entity: listed for entity, listed in given.items() if listed}
    assert pairs.ranks.tolist() == [rank for entity in sorted(given) for rank in range(1, len(given[entity]) + 1)]
