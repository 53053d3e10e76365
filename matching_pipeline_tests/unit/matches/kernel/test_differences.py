"""A comparison says of every pair on either side whether it stands on the other."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids
from matching_pipeline.matches.kernel.differences import among, compare, pair_keys

# ids that end, begin and consist of zeros, which numpy drops from bytes where it can
uuids = st.sampled_from([UUID(int=number) for number in (0, 1, 1 << 8, 1 << 120, 255 << 120, (1 << 128) - 1)])
pairs = st.lists(st.tuples(uuids, uuids), unique=True)


@given(wanted=pairs, stored=pairs)
def test_compare_agrees_with_a_look_at_each_pair(
    wanted: list[tuple[UUID, UUID]], stored: list[tuple[UUID, UUID]]
) -> None:
    keys = [
        pair_keys(as_ids(left for left, _ in given), as_ids(right for _, right in given))
        for given in (wanted, stored)
    ]
    seen = compare(*keys)
    assert seen.found.tolist() == [pair in stored for pair in wanted]
    assert [stored[place] for place in seen.place] == [pair for pair in wanted if pair in stored]
    assert seen.left_over.tolist() == [pair not in wanted for pair in stored]


@given(values=st.lists(uuids), members=st.sets(uuids))
def test_among_agrees_with_a_look_at_each_value(values: list[UUID], members: set[UUID]) -> None:
    assert among(as_ids(values), as_ids(sorted(members))).tolist() == [value in members for value in values]
