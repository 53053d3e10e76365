"""A merged list is the list that a fresh look at all products gives, or asks for that look."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.lists import Lists, Pair, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.policy import Policy

scores = st.dictionaries(st.integers(1, 8), st.sampled_from([0.1, 0.5, 0.6, 0.7, 0.8]), max_size=8)
policy = Policy(threshold=0.5, limit=3)


def pair(product: int, similarity: float) -> Pair:
    return Pair(UUID(int=product), similarity, UUID(int=100), UUID(int=200 + product))


def best(of: dict[int, float]) -> list[Pair]:
    qualified = [pair(product, similarity) for product, similarity in of.items() if similarity >= policy.threshold]
    return sorted(qualified, key=lambda found: found.order)[: policy.limit]


@given(before=scores, after=scores)
def test_merge_agrees_with_a_fresh_list_or_asks_for_one(before: dict[int, float], after: dict[int, float]) -> None:
    changed = {UUID(int=p) for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    merged = merge(best(before), changed, [pair(p, s) for p, s in after.items() if UUID(int=p) in changed], policy)
    assert merged is None or merged == best(after)


@given(before=scores, improved=scores)
def test_merge_never_asks_for_a_fresh_list_when_products_only_improve(
    before: dict[int, float], improved: dict[int, float]
) -> None:
    after = before | {p: max(s, before.get(p, 0)) for p, s in improved.items()}
    merged = merge(best(before), {UUID(int=p) for p in improved}, [pair(p, after[p]) for p in improved], policy)
    assert merged == best(after)


def test_a_full_list_that_loses_a_pair_must_be_recomputed() -> None:
    stored = [pair(1, 0.9), pair(2, 0.8), pair(3, 0.7)]
    assert merge(stored, {UUID(int=2)}, [], policy) is None


def test_a_list_with_room_that_loses_a_pair_needs_no_other() -> None:
    assert merge([pair(1, 0.9), pair(2, 0.8)], {UUID(int=2)}, [], policy) == [pair(1, 0.9)]


@given(lists=st.dictionaries(st.integers(1, 8), scores))
def test_lists_are_the_same_lists_as_columns(lists: dict[int, dict[int, float]]) -> None:
    given: Lists = {UUID(int=entity): best(of) for entity, of in lists.items()}
    pairs = pairs_from(given)
    assert lists_from(pairs) == {entity: listed for entity, listed in given.items() if listed}
    assert pairs.ranks.tolist() == [rank for entity in sorted(given) for rank in range(1, len(given[entity]) + 1)]
