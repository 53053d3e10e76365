"""A merged list is the list that a fresh look at all products gives, or asks for that look."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matching.kernel import Policy
from matching_pipeline.matching.lists import Lists, Pair, difference, merge

PROJECT = UUID(int=1)
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


def test_a_full_list_that_loses_a_pair_must_be_filled_again() -> None:
    stored = [pair(1, 0.9), pair(2, 0.8), pair(3, 0.7)]
    assert merge(stored, {UUID(int=2)}, [], policy) is None


def test_a_list_with_room_that_loses_a_pair_needs_nobody() -> None:
    assert merge([pair(1, 0.9), pair(2, 0.8)], {UUID(int=2)}, [], policy) == [pair(1, 0.9)]


@given(before=scores, after=scores)
def test_writing_the_difference_leaves_the_desired_list_and_nothing_else(
    before: dict[int, float], after: dict[int, float]
) -> None:
    standing = {p.right_id: (p, rank) for rank, p in enumerate(best(before), start=1)}
    desired: Lists = {PROJECT: best(after)}
    change = difference({PROJECT: list(standing.values())}, desired)
    for _, product in change.deletions:
        del standing[product]
    for _, upserted, rank in change.upserts:
        standing[upserted.right_id] = (upserted, rank)
    assert sorted(standing.values(), key=lambda row: row[1]) == [
        (p, rank) for rank, p in enumerate(best(after), start=1)
    ]
    assert change.unchanged + len(change.upserts) == len(best(after))


@given(listed=scores)
def test_equal_lists_differ_in_nothing_even_where_the_last_digits_do(listed: dict[int, float]) -> None:
    stored = {PROJECT: [(p, rank) for rank, p in enumerate(best(listed), start=1)]}
    jittered = [Pair(p.right_id, p.similarity + 1e-9, p.left_image_id, p.right_image_id) for p in best(listed)]
    change = difference(stored, {PROJECT: jittered})
    assert (change.upserts, change.deletions) == ([], [])
