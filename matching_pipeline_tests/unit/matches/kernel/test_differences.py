"""A difference names exactly the rows that must be written."""

from dataclasses import dataclass
from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import Ids, Numbers, as_ids, as_uuids
from matching_pipeline.matches.kernel.differences import TOLERANCE, PairRows, difference, pair_keys

# ids that end, begin and consist of zeros, which numpy drops from bytes where it can
uuids = st.sampled_from([UUID(int=number) for number in (0, 1, 1 << 8, 1 << 120, 255 << 120, (1 << 128) - 1)])
scores = st.sampled_from([0.5, 0.5 + TOLERANCE / 2, 0.6])
pairs = st.dictionaries(st.tuples(uuids, uuids), scores)

Given = dict[tuple[UUID, UUID], float]


@dataclass(frozen=True)
class Rows(PairRows):
    left: Ids
    right: Ids
    similarity: Numbers


def rows(given: Given) -> Rows:
    left, right = (as_ids(pair[side] for pair in given) for side in (0, 1))
    return Rows(left, right, np.array(list(given.values())))


def pairs_in(rows: Rows) -> list[tuple[UUID, UUID]]:
    return list(zip(as_uuids(rows.left), as_uuids(rows.right), strict=True))


@given(wanted=pairs, stored=pairs)
def test_a_difference_agrees_with_a_look_at_each_pair(wanted: Given, stored: Given) -> None:
    change = difference(rows(wanted), rows(stored))
    upserts = pairs_in(change.upserts)
    assert upserts == [pair for pair in wanted if abs(wanted[pair] - stored.get(pair, -1)) >= TOLERANCE]
    assert change.new.tolist() == [pair not in stored for pair in upserts]
    assert pairs_in(change.deletions) == [pair for pair in stored if pair not in wanted]


@given(pairs)
def test_keys_sort_as_pairs_do(given: Given) -> None:
    table = rows(given)
    order = np.argsort(pair_keys(table.left, table.right))
    assert pairs_in(table.take(order)) == sorted(given)
