"""The rows of `matches` that pair faces, as columns.

A pair is one row, with its ranks in the lists of both faces. The row consists of the two *listings* that make it.
"""

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
from matching_pipeline.matches.match_table import Figures, put

_FIELDS = {"a": UUID, "b": UUID, "similarity": FLOAT, "rank_for_a": INTEGER, "rank_for_b": INTEGER}


@dataclass(frozen=True)
class FaceRows(PairRows):
    """A rank of 0 is none."""

    a: Ids
    b: Ids
    similarity: Numbers
    rank_for_a: Ranks
    rank_for_b: Ranks


@dataclass(frozen=True)
class Listings(Columns):
    """Faces in the lists of others, in any order."""

    face: Ids
    listed: Ids
    similarity: Numbers
    rank: Ranks


def stored_rows(connection: Connection, faces: Ids) -> FaceRows:
    """The rows with any of the faces on either side."""
    return FaceRows(**read_columns(connection, query("copy_face_rows"), {"face_ids": Uuids(faces)}, _FIELDS))


def listings(rows: FaceRows) -> Listings:
    of_a = Listings(rows.a, rows.b, rows.similarity, rows.rank_for_a)
    of_b = Listings(rows.b, rows.a, rows.similarity, rows.rank_for_b)
    return concatenate([each.take(each.rank > 0) for each in (of_a, of_b)])


def listings_of(pairs: Pairs) -> Listings:
    """The listings of whole lists."""
    return Listings(pairs.left, pairs.right, pairs.similarity, pairs.ranks)


def lists_in(each: Listings) -> Lists:
    """The listings as objects. A face that lists no other has no list."""
    each = each.take(np.lexsort((each.rank, each.face)))
    return lists_from(Pairs(each.face, each.listed, each.similarity, each.face, each.listed))


def paired(each: Listings) -> FaceRows:
    """The rows that the listings make, sorted by (a, b). Of two listings the similarity of the first is taken."""
    forth = each.face < each.listed
    a, b = np.where(forth, each.face, each.listed), np.where(forth, each.listed, each.face)
    keys = pair_keys(a, b)
    order = np.argsort(keys, kind="stable")
    starts = starts_of(keys[order])
    rank_for_a, rank_for_b = (np.where(side, each.rank, 0)[order] for side in (forth, ~forth))
    if len(starts):
        rank_for_a, rank_for_b = (np.maximum.reduceat(ranks, starts) for ranks in (rank_for_a, rank_for_b))
    first = order[starts]
    return FaceRows(a[first], b[first], each.similarity[first], rank_for_a, rank_for_b)


def put_rows(connection: Connection, change: Change[FaceRows]) -> Figures:
    """Writes the change. The caller has locked the faces of the upserts."""
    return put(
        connection, change, delete=query("delete_face_pairs"), publish=query("publish_face_pairs"), model="faces"
    )
