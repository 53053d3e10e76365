"""The rows of `matches` that pair faces, as columns: read, compared, written by their difference.

A pair is a row once, with its ranks in the lists of both faces: the two listings that make it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.db.arrays import FLOAT, INTEGER, UUID, Floats, Integers, Uuids, copy_out
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.kernel.columns import Columns, Ids, Mask, concatenate
from matching_pipeline.matches.kernel.differences import TOLERANCE, compare, pair_keys
from matching_pipeline.matches.kernel.lists import Lists, lists_from
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.match_table import Figures, new_ids

Ranks = NDArray[np.integer[Any]]

_FIELDS = {"a": UUID, "b": UUID, "similarity": FLOAT, "rank_for_a": INTEGER, "rank_for_b": INTEGER}


@dataclass(frozen=True)
class FaceRows(Columns):
    """A rank of 0 is none."""

    a: Ids
    b: Ids
    similarity: NDArray[np.float64]
    rank_for_a: Ranks
    rank_for_b: Ranks


@dataclass(frozen=True)
class Listings(Columns):
    """Faces in the lists of others, in any order."""

    owner: Ids
    listed: Ids
    similarity: NDArray[np.float64]
    rank: Ranks


@dataclass(frozen=True)
class Change:
    """What must be written so that the rows stand."""

    upserts: FaceRows
    new: Mask
    """which of the upserts are no row yet"""
    deletions: FaceRows

    def parts(self, size: int) -> Iterator["Change"]:
        for begin in range(0, max(len(self.upserts), len(self.deletions)), size):
            part = slice(begin, begin + size)
            yield Change(self.upserts.take(part), self.new[part], self.deletions.take(part))


def stored_rows(connection: Connection, faces: Ids) -> FaceRows:
    """The rows with any of the faces on either side."""
    rows = copy_out(connection, query("copy_face_rows"), {"face_ids": Uuids(faces)}, _FIELDS)
    return FaceRows(*(rows[name].astype(form.replace(">", "=")) for name, form in _FIELDS.items()))


def listings(rows: FaceRows) -> Listings:
    of_a = Listings(rows.a, rows.b, rows.similarity, rows.rank_for_a).take(rows.rank_for_a > 0)
    return concatenate([of_a, Listings(rows.b, rows.a, rows.similarity, rows.rank_for_b).take(rows.rank_for_b > 0)])


def listings_of(pairs: Pairs) -> Listings:
    """Of whole lists."""
    return Listings(pairs.left, pairs.right, pairs.similarity, pairs.ranks)


def lists_in(each: Listings) -> Lists:
    """As objects; a face that lists nobody has none."""
    each = each.take(np.lexsort((each.rank, each.owner)))
    return lists_from(Pairs(each.owner, each.listed, each.similarity, each.owner, each.listed))


def paired(each: Listings) -> FaceRows:
    """Sorted by (a, b). Where both faces list each other, the similarity that comes first stands."""
    forth = each.owner < each.listed
    a, b = np.where(forth, each.owner, each.listed), np.where(forth, each.listed, each.owner)
    keys = pair_keys(a, b)
    order = np.argsort(keys, kind="stable")
    first = np.flatnonzero(np.append(True, keys[order][1:] != keys[order][:-1])) if len(keys) else order
    rank_for_a, rank_for_b = (np.where(side, each.rank, 0)[order] for side in (forth, ~forth))
    if len(keys):
        rank_for_a, rank_for_b = (np.maximum.reduceat(ranks, first) for ranks in (rank_for_a, rank_for_b))
    return FaceRows(a[order][first], b[order][first], each.similarity[order][first], rank_for_a, rank_for_b)


def difference(wanted: FaceRows, stored: FaceRows) -> Change:
    seen = compare(pair_keys(wanted.a, wanted.b), pair_keys(stored.a, stored.b))
    standing, there = stored.take(seen.place), wanted.take(seen.found)
    differs = np.ones(len(wanted), dtype=np.bool_)
    differs[seen.found] = (
        (standing.rank_for_a != there.rank_for_a)
        | (standing.rank_for_b != there.rank_for_b)
        | (np.abs(standing.similarity - there.similarity) >= TOLERANCE)
    )
    return Change(wanted.take(differs), ~seen.found[differs], stored.take(seen.left_over))


def put(connection: Connection, change: Change) -> Figures:
    """Writes the change, of whose upserts the faces are held."""
    if len(change.deletions):
        connection.execute(query("begin_publishing"))
        connection.execute(query("delete_face_pairs"), _parameters(change.deletions))
    if len(change.upserts):
        parameters = {"new_ids": new_ids(len(change.upserts)), **_parameters(change.upserts)}
        connection.execute(query("publish_face_pairs"), parameters)
    added = int(change.new.sum())
    return Figures(added=added, changed=len(change.upserts) - added, removed=len(change.deletions))


def _parameters(rows: FaceRows) -> dict[str, Uuids | Floats | Integers]:
    return {
        "a_ids": Uuids(rows.a),
        "b_ids": Uuids(rows.b),
        "similarities": Floats(rows.similarity),
        "ranks_for_a": Integers(rows.rank_for_a),
        "ranks_for_b": Integers(rows.rank_for_b),
    }
