"""A row of two faces is their two listings, whichever of them there are."""

from uuid import UUID

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.differences import difference
from matching_pipeline.matches.rows import MatchRows, listings_in, rows_from
from matching_pipeline.matches.rule import Rule

WITHIN = Rule("face", "face", "face", both=True)
Ranks = dict[tuple[int, int], tuple[int, int]]

ranks = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)
keys = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(lambda key: key[0] < key[1])
pairs = st.dictionaries(keys, ranks, max_size=8)


def rows_of(given: Ranks) -> MatchRows:
    left, right = (as_ids(UUID(int=key[side] << 120) for key in given) for side in (0, 1))
    similarity = np.array([one + other / 10 for one, other in given])
    left_rank, right_rank = (np.array([of[side] for of in given.values()], dtype=np.intp) for side in (0, 1))
    return MatchRows(left, right, similarity, left, right, left_rank, right_rank)


def pairs_in(rows: MatchRows) -> Ranks:
    entities = zip(*([id.int >> 120 for id in as_uuids(column)] for column in (rows.left, rows.right)), strict=True)
    return dict(zip(entities, zip(rows.left_rank.tolist(), rows.right_rank.tolist(), strict=True), strict=True))


@given(pairs)
def test_rows_are_their_listings(given: Ranks) -> None:
    rows = rows_from(listings_in(rows_of(given), WITHIN))
    assert list(pairs_in(rows).items()) == sorted(given.items())
    assert rows.similarity.tolist() == [one + other / 10 for one, other in sorted(given)]


@given(wanted=pairs, stored=pairs)
def test_writing_the_difference_leaves_what_is_wanted(wanted: Ranks, stored: Ranks) -> None:
    change = difference(rows_of(wanted), rows_of(stored))
    left = {key: of for key, of in stored.items() if key not in pairs_in(change.deletions)}
    assert left | pairs_in(change.upserts) == wanted
    assert all(stored.get(key) != of for key, of in pairs_in(change.upserts).items())
    assert change.new.tolist() == [key not in stored for key in pairs_in(change.upserts)]
    parts = list(change.parts(2))
    assert all(len(np.union1d(part.upserts.left, part.deletions.left)) <= 2 for part in parts)
    assert sum(len(part.upserts) for part in parts) == len(change.upserts)
    assert sum(len(part.deletions) for part in parts) == len(change.deletions)
