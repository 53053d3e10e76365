"""The rows of `matches` of a matcher that pairs the entities of one source with each other, as columns."""

from dataclasses import dataclass

import numpy as np

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import read_columns
from matching_pipeline.matches.kernel.columns import Columns, Ids, Numbers, Ranks, concatenate, starts_of
from matching_pipeline.matches.kernel.differences import Change, PairRows, pair_keys
from matching_pipeline.matches.kernel.lists import Lists, lists_from
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.match_table import Figures, Sides, put

_FIELDS = {"left": UUID, "right": UUID, "similarity": FLOAT, "left_rank": INTEGER, "right_rank": INTEGER}


@dataclass(frozen=True)
class MutualRows(PairRows):
    """The left entity of a row has the lower id. A rank of 0 is none."""

    left: Ids
    right: Ids
    similarity: Numbers
    left_rank: Ranks
    right_rank: Ranks


@dataclass(frozen=True)
class Listings(Columns):
    """Entities in the lists of others, in any order."""

    owner: Ids
    listed: Ids
    similarity: Numbers
    rank: Ranks


def stored_rows(connection: Connection, matcher: str, entities: Ids) -> MutualRows:
    """The rows with any of the entities on either side."""
    parameters = {"matcher": matcher, "ids": Uuids(entities)}
    return MutualRows(**read_columns(connection, query("copy_pairs"), parameters, _FIELDS))


def listings(rows: MutualRows) -> Listings:
    of_left = Listings(rows.left, rows.right, rows.similarity, rows.left_rank)
    of_right = Listings(rows.right, rows.left, rows.similarity, rows.right_rank)
    return concatenate([each.take(each.rank > 0) for each in (of_left, of_right)])


def listings_of(pairs: Pairs) -> Listings:
    """The listings of whole lists."""
    return Listings(pairs.left, pairs.right, pairs.similarity, pairs.ranks)


def lists_in(each: Listings) -> Lists:
    """The listings as objects. An entity that lists no other has no list."""
    each = each.take(np.lexsort((each.rank, each.owner)))
    return lists_from(Pairs(each.owner, each.listed, each.similarity, each.owner, each.listed))


def paired(each: Listings) -> MutualRows:
    """The rows that the listings make, sorted by (left, right). Of two listings the first gives the similarity."""
    forth = each.owner < each.listed
    left, right = np.where(forth, each.owner, each.listed), np.where(forth, each.listed, each.owner)
    keys = pair_keys(left, right)
    order = np.argsort(keys, kind="stable")
    starts = starts_of(keys[order])
    left_rank, right_rank = (np.where(side, each.rank, 0)[order] for side in (forth, ~forth))
    if len(starts):
        left_rank, right_rank = (np.maximum.reduceat(ranks, starts) for ranks in (left_rank, right_rank))
    first = order[starts]
    return MutualRows(left[first], right[first], each.similarity[first], left_rank, right_rank)


def put_rows(connection: Connection, sides: Sides, change: Change[MutualRows]) -> Figures:
    """Writes the change. The caller has locked the entities of the upserts."""
    return put(connection, sides, change, publish=query("publish_pairs"), model=sides.left)
