"""Face pairs as rows: what stands, and what the lists of some faces make of it."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from matching_pipeline.matching.differences import TOLERANCE
from matching_pipeline.matching.lists import Lists, Pair

Key = tuple[UUID, UUID]
"""(face_a, face_b), in order"""


class FacePair(NamedTuple):
    similarity: float
    rank_for_a: int | None = None
    rank_for_b: int | None = None

    def same_as(self, other: "FacePair | None") -> bool:
        return (
            other is not None
            and (self.rank_for_a, self.rank_for_b) == (other.rank_for_a, other.rank_for_b)
            and abs(self.similarity - other.similarity) < TOLERANCE
        )


Rows = dict[Key, FacePair]


@dataclass
class Change:
    """What must be written so that the rows stand."""

    upserts: Rows
    deletions: list[Key]

    def parts(self, size: int) -> Iterator["Change"]:
        upserts = list(self.upserts.items())
        for first in range(0, len(upserts), size):
            yield Change(dict(upserts[first : first + size]), [])
        for first in range(0, len(self.deletions), size):
            yield Change({}, self.deletions[first : first + size])


def who_lists(rows: Rows, faces: set[UUID]) -> set[UUID]:
    """Whose lists hold one of these faces."""
    listing = {a for (a, b), pair in rows.items() if b in faces and pair.rank_for_a is not None}
    return listing | {b for (a, b), pair in rows.items() if a in faces and pair.rank_for_b is not None}


def lists_of(rows: Rows, faces: Collection[UUID]) -> Lists:
    """The faces' lists as they stand, best first."""
    ranked: dict[UUID, list[tuple[int, Pair]]] = {face: [] for face in faces}
    for (a, b), pair in rows.items():
        for face, other, rank in ((a, b, pair.rank_for_a), (b, a, pair.rank_for_b)):
            if rank is not None and face in ranked:
                ranked[face].append((rank, Pair(other, pair.similarity, face, other)))
    return {face: [pair for _, pair in sorted(pairs, key=lambda each: each[0])] for face, pairs in ranked.items()}


def difference(lists: Lists, stored: Rows) -> tuple[Change, int]:
    """And how many rows stand already."""
    desired = rows_of(lists, stored)
    upserts = {key: pair for key, pair in desired.items() if not pair.same_as(stored.get(key))}
    return Change(upserts, list(stored.keys() - desired.keys())), len(desired) - len(upserts)


def rows_of(lists: Lists, stored: Rows) -> Rows:
    """What stands, with the ranks that the lists give to their faces' pairs; a pair that nobody lists is no row."""
    rows = {
        (a, b): FacePair(
            pair.similarity,
            None if a in lists else pair.rank_for_a,
            None if b in lists else pair.rank_for_b,
        )
        for (a, b), pair in stored.items()
    }
    for face, pairs in lists.items():
        for rank, pair in enumerate(pairs, start=1):
            key = (face, pair.right_id) if face < pair.right_id else (pair.right_id, face)
            _, rank_for_a, rank_for_b = rows.get(key, FacePair(pair.similarity))
            ranks = (rank, rank_for_b) if face == key[0] else (rank_for_a, rank)
            rows[key] = FacePair(pair.similarity, *ranks)
    return {key: row for key, row in rows.items() if (row.rank_for_a, row.rank_for_b) != (None, None)}
