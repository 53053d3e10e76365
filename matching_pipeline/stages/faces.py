"""The `faces` lane: what a changed face changes in `matches`, and the rebuild of all its face pairs.

Each face that can match has a list: its best faces of the opposite block. A pair of faces is a row of `matches`
once, with its rank in either face's list, as long as it has one.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache, partial
from typing import Any
from uuid import UUID

from matching_pipeline import queue
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import give_way
from matching_pipeline.drain import Outcome
from matching_pipeline.failures import PermanentFailure
from matching_pipeline.matching.kernel import Lists, Pair, best_lists, pairs_above
from matching_pipeline.matching.lists import TOLERANCE, merge
from matching_pipeline.queue import Item
from matching_pipeline.stages.face_sets import Block, load_faces
from matching_pipeline.stages.match_table import Figures, holding_lists, match_policy, take_lists

LANE = "faces"
KIND = "face"

Key = tuple[UUID, UUID]
"""(face_a, face_b), in order"""


@dataclass(frozen=True)
class FacePair:
    similarity: float
    rank_for_a: int | None = None
    rank_for_b: int | None = None

    def ranked(self, key: Key, face: UUID, rank: int | None) -> "FacePair":
        return replace(self, rank_for_a=rank) if face == key[0] else replace(self, rank_for_b=rank)

    def same_as(self, other: "FacePair | None") -> bool:
        return (
            other is not None
            and (self.rank_for_a, self.rank_for_b) == (other.rank_for_a, other.rank_for_b)
            and abs(self.similarity - other.similarity) < TOLERANCE
        )


Rows = dict[Key, FacePair]


class FaceStage:
    """Everything happens in the transaction that completes the items, in one session at a time, as in the lane
    `matches`: a list depends on every face of a block."""

    lane = LANE
    batch_size = 1000
    lease = timedelta(minutes=5)

    def work(self, connection: Connection, items: Sequence[Item]) -> Iterator[list[Outcome]]:
        rows = connection.execute(query("face_states"), {"face_ids": [item.entity_id for item in items]}).fetchall()
        faults = {id: _fault(user, *state) for id, user, *state in rows}
        # a face that is gone owes nothing
        yield [Outcome(item, failure=faults.get(item.entity_id)) for item in items]

    def prepare_write(self, connection: Connection) -> None:
        take_lists(connection, KIND)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        return vars(update(connection, {outcome.item.entity_id for outcome in outcomes}))

    def forget(self, connection: Connection, item: Item) -> None:
        connection.execute(query("forget_face_matches"), {"face_id": item.entity_id})


def update(connection: Connection, changed: set[UUID]) -> Figures:
    """Maintains `matches` after these faces changed, in the caller's transaction, which holds the faces' lists."""
    if not changed:
        return Figures()
    policy = match_policy(connection, KIND)
    whole_block = cache(partial(load_faces, connection))
    stored = _stored(connection, changed)
    lists: Lists = {face: [] for face in changed}
    scored: Lists = {}
    for block, faces in _by_block(connection, changed).items():
        here = load_faces(connection, block, faces)
        lists |= best_lists(here, whole_block(block.opposite), policy)
        scored |= pairs_above(whole_block(block.opposite), here, policy, {}, set())
    touched = (scored.keys() | _who_lists(stored, changed)) - changed
    stored |= _stored(connection, touched)
    standing = _lists_of(stored, touched)
    merged = {face: merge(standing[face], changed, scored.get(face, ()), policy) for face in touched}
    lists |= {face: pairs or [] for face, pairs in merged.items()}
    refill = {face for face, pairs in merged.items() if pairs is None}
    for block, faces in _by_block(connection, refill).items():
        lists |= best_lists(load_faces(connection, block, faces), whole_block(block.opposite), policy)
    return _publish(connection, lists, stored)


def rebuild(connection: Connection, on_progress: Callable[[int, int], None] = lambda done, total: None) -> Figures:
    """Computes every list anew and writes the difference, a school a transaction.

    Changes that arrive meanwhile wait in the queue and are merged afterwards, as drains need the same lock.
    """
    figures = Figures()
    with holding_lists(connection, KIND):
        schools = list(dict.fromkeys(school for school, _ in connection.execute(query("all_blocks"))))
        figures += give_way(connection, partial(_clear_unmatchable, connection))
        for done, school in enumerate(schools, start=1):
            figures += give_way(connection, partial(_rebuild_school, connection, school))
            on_progress(done, len(schools))
    return figures


def _clear_unmatchable(connection: Connection) -> Figures:
    faces = [face for (face,) in connection.execute(query("unmatchable_faces_with_pairs"))]
    return _publish(connection, {face: [] for face in faces}, _stored(connection, faces))


def _rebuild_school(connection: Connection, school: str) -> Figures:
    policy = match_policy(connection, KIND)
    female, male = (load_faces(connection, Block(school, gender)) for gender in ("female", "male"))
    lists = best_lists(female, male, policy) | best_lists(male, female, policy)
    return _publish(connection, lists, _stored(connection, lists))


def _fault(user: UUID, has_embedding: bool, has_profile: bool, has_direction: bool) -> PermanentFailure | None:
    if not has_profile:
        return PermanentFailure(f"profile not found: {user}, the face's user_id, is no id of profiles")
    if has_embedding and not has_direction:
        return PermanentFailure("the embedding is all zeros: it has no direction to compare")
    return None


def _by_block(connection: Connection, faces: Collection[UUID]) -> dict[Block, list[UUID]]:
    """Those of the faces that can match."""
    blocks: dict[Block, list[UUID]] = defaultdict(list)
    if faces:
        for school, gender, face in connection.execute(query("blocks_of_faces"), {"face_ids": list(faces)}):
            blocks[Block(school, gender)].append(face)
    return blocks


def _stored(connection: Connection, faces: Collection[UUID]) -> Rows:
    """The rows with any of the faces on either side."""
    if not faces:
        return {}
    rows = connection.execute(query("face_pairs"), {"face_ids": list(faces)})
    return {(a, b): FacePair(*pair) for a, b, *pair in rows}


def _who_lists(rows: Rows, faces: set[UUID]) -> set[UUID]:
    """Whose lists hold one of these faces."""
    listing = {a for (a, b), pair in rows.items() if b in faces and pair.rank_for_a is not None}
    return listing | {b for (a, b), pair in rows.items() if a in faces and pair.rank_for_b is not None}


def _lists_of(rows: Rows, faces: Collection[UUID]) -> Lists:
    """The faces' lists as they stand, best first."""
    ranked: dict[UUID, list[tuple[int, Pair]]] = {face: [] for face in faces}
    for (a, b), pair in rows.items():
        for face, other, rank in ((a, b, pair.rank_for_a), (b, a, pair.rank_for_b)):
            if rank is not None and face in ranked:
                ranked[face].append((rank, Pair(other, pair.similarity, face, other)))
    return {face: [pair for _, pair in sorted(pairs, key=lambda each: each[0])] for face, pairs in ranked.items()}


def _publish(connection: Connection, lists: Lists, stored: Rows) -> Figures:
    """Writes the difference that these lists make; `stored` holds every row of their faces."""
    desired = _rows_of(lists, stored)
    upserts = {key: pair for key, pair in desired.items() if not pair.same_as(stored.get(key))}
    deletions = stored.keys() - desired.keys()
    upserts = _without_the_gone(connection, upserts)
    if deletions:
        connection.execute(query("begin_publishing"))
        connection.execute(query("delete_face_pairs"), _columns(deletions))
    if upserts:
        pairs = upserts.values()
        connection.execute(
            query("publish_face_pairs"),
            {
                **_columns(upserts),
                "similarities": [pair.similarity for pair in pairs],
                "ranks_for_a": [pair.rank_for_a for pair in pairs],
                "ranks_for_b": [pair.rank_for_b for pair in pairs],
            },
        )
    added = len(upserts.keys() - stored.keys())
    unchanged = len(desired) - len(upserts)
    return Figures(len(lists), added, len(upserts) - added, len(deletions), unchanged)


def _rows_of(lists: Lists, stored: Rows) -> Rows:
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
            row = replace(rows.get(key, FacePair(pair.similarity)), similarity=pair.similarity)
            rows[key] = row.ranked(key, face, rank)
    return {key: row for key, row in rows.items() if (row.rank_for_a, row.rank_for_b) != (None, None)}


def _without_the_gone(connection: Connection, upserts: Rows) -> Rows:
    """Less the pairs with a face that was deleted since it was read; the other face is matched again. What stands
    is held until we commit."""
    faces = {face for key in upserts for face in key}
    if not faces:
        return upserts
    held = {face for (face,) in connection.execute(query("hold_faces"), {"face_ids": list(faces)})}
    queue.enqueue(
        connection, LANE, KIND, {face for key in upserts if not held.issuperset(key) for face in key if face in held}
    )
    return {key: pair for key, pair in upserts.items() if held.issuperset(key)}


def _columns(keys: Iterable[Key]) -> dict[str, Any]:
    ordered = list(keys)
    return {"a_ids": [a for a, _ in ordered], "b_ids": [b for _, b in ordered]}
