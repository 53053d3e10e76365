"""The `faces` lane: what a changed face changes in `matches`, and the rebuild of all its face pairs.

Each face that can match has a list: its best faces of the opposite block. A pair of faces is a row of `matches`
once, with its rank in either face's list, as long as it has one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID

import numpy as np
from psycopg.rows import class_row

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.errors import PermanentFailure
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.face_rows import (
    Change,
    FaceRows,
    Listings,
    difference,
    listings,
    listings_of,
    lists_in,
    paired,
    put,
    stored_rows,
)
from matching_pipeline.matches.face_sets import Block, load_candidates, load_faces
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import among
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.match_table import Figures, holding_lists, match_policy, take_lists
from matching_pipeline.matches.rebuilds import Shard
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.worker import Outcome

QUEUE = "faces"
KIND = "face"
CROWD = 300
"""So many faces of one school that wait are matched with their whole school, which costs less than one by one."""
ROWS_AT_ONCE = 2000
"""Rows that a rebuild writes in one transaction: the app's deletes of their faces wait for no more."""


class FaceHandler:
    """What is changed is written in the transaction that completes the items, in one session at a time, as in the
    lane `matches`: a list depends on every face of a block. The app's deletes wait for that transaction, so batches
    are small."""

    queue = QUEUE
    batch_size = 100
    # before a batch is written a crowd may wait for the lists and be matched, and nothing is renewed meanwhile
    lease = timedelta(minutes=5)

    def __init__(self) -> None:
        self._figures = Figures()
        """Of schools that were matched whole, not told yet."""

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        for (school,) in connection.execute(query("crowded_schools"), {"least": CROWD}).fetchall():
            self._figures += _match_crowd(connection, school, self.lease)
            yield []
        faults = _faults(connection, [job.entity_id for job in jobs])
        yield [Outcome(job, failure=faults.get(job.entity_id)) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        take_lists(connection, KIND)

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        faces = {outcome.job.entity_id for outcome in outcomes}
        self._figures += update(connection, faces)
        # queued by one of the app's transactions while another deleted it: not even its id may stay
        connection.execute(query("forget_jobs_of_deleted_faces"), {"face_ids": list(faces)})
        told, self._figures = self._figures, Figures()
        return vars(told)

    def forget(self, connection: Connection, job: Job) -> None:
        """Of a face that cannot match now; what a passing error kept from being updated stands until the retry."""
        if _faults(connection, [job.entity_id]):
            update(connection, {job.entity_id})


def update(connection: Connection, changed: set[UUID]) -> Figures:
    """Maintains `matches` after these faces changed, in the caller's transaction, which holds the faces' lists."""
    if not changed:
        return Figures()
    policy = match_policy(connection, KIND)
    of_changed = stored_rows(connection, as_ids(changed))
    lists: Lists = {face: [] for face in changed}
    scored: Lists = {}
    for here, candidates in _with_candidates(connection, changed, policy):
        lists |= lists_from(best_pairs(here, [candidates], policy))
        scored |= lists_from(pairs_above(candidates, here, policy, {}))
    touched = (scored.keys() | set(as_uuids(listings(of_changed).owner))) - changed
    stored = stored_rows(connection, as_ids(touched | changed))
    standing = lists_in(listings(stored))
    merged = {face: merge(standing.get(face, []), changed, scored.get(face, ()), policy) for face in touched}
    lists |= {face: pairs or [] for face, pairs in merged.items()}
    refill = {face for face, pairs in merged.items() if pairs is None}
    for here, candidates in _with_candidates(connection, refill, policy):
        lists |= lists_from(best_pairs(here, [candidates], policy))
    others = listings(stored)
    others = others.take(~among(others.owner, as_ids(sorted(lists))))
    wanted = paired(concatenate([listings_of(pairs_from(lists)), others]))
    figures = _write(connection, difference(wanted, stored))
    figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
    return figures


def rebuild(connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
    """Computes every list anew, school by school, and writes the difference."""
    return rebuilds.run_all(connection, KIND, rebuild_shard, on_progress)


def rebuild_shard(connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
    """A school whose rows the app holds locked is left for last; raises one of GAVE_WAY where they are locked still,
    with all other schools done."""
    figures, locked = Figures(), []
    for school in shard.schools or ():
        try:
            figures += _rebuild_school(connection, school)
            on_part(figures.lists)
        except GAVE_WAY:
            locked.append(school)
    for school in locked:
        figures += _rebuild_school(connection, school)
        on_part(figures.lists)
    return figures


def _match_crowd(connection: Connection, school: str, lease: timedelta) -> Figures:
    """Rebuilds the school and completes the work that its faces are owed."""
    with connection.cursor(row_factory=class_row(Job)) as cursor:
        crowd = cursor.execute(query("claim_crowd"), {"school": school, "lease": lease}).fetchall()
    # those that cannot match are left to fail one by one
    faulty = _faults(connection, [job.entity_id for job in crowd])
    try:
        with holding_lists(connection, KIND):
            figures = _rebuild_school(connection, school)
        client.complete(connection, [job for job in crowd if job.entity_id not in faulty])
        return figures
    except GAVE_WAY:
        return Figures()
    finally:
        if not connection.closed:
            client.snooze(connection, crowd, timedelta(0), None)


def _rebuild_school(connection: Connection, school: str | None) -> Figures:
    return _publish_whole(connection, *whole_lists(connection, school))


def whole_lists(connection: Connection, school: str | None) -> tuple[Ids, Listings]:
    """The faces of the school, and all that they list; with None those that have pairs and cannot match: nothing."""
    if school is None:
        faces = as_ids(sorted(face for (face,) in connection.execute(query("unmatchable_faces_with_pairs"))))
        none = np.empty(0, dtype=faces.dtype)
        return faces, Listings(none, none, np.empty(0), np.empty(0, dtype=np.intp))
    policy = match_policy(connection, KIND)
    female, male = (load_faces(connection, Block(school, gender)) for gender in ("female", "male"))
    both = best_pairs(female, [male], policy), best_pairs(male, [female], policy)
    faces = np.sort(np.concatenate([female.entities, male.entities]))
    return faces, concatenate([listings_of(pairs) for pairs in both])


def _publish_whole(connection: Connection, faces: Ids, wanted: Listings) -> Figures:
    """All listings of the faces, which match among themselves only, over many short transactions; the caller holds
    the faces' lists. Who listed one of them from outside loses that pair, and is matched again."""
    rows = paired(wanted)
    change, figures = difference(rows, stored_rows(connection, faces)), Figures(lists=len(faces))
    for part in change.parts(ROWS_AT_ONCE):
        figures += give_way(connection, partial(_write, connection, part, faces))
    figures.unchanged = len(rows) - figures.added - figures.changed
    return figures


def _faults(connection: Connection, faces: Sequence[UUID]) -> dict[UUID, PermanentFailure]:
    """Why some of the faces cannot be compared. The reasons name no id: an erasure does not reach every copy."""
    faults = {}
    for face, has_profile, length in connection.execute(query("face_states"), {"face_ids": list(faces)}):
        if not has_profile:
            faults[face] = PermanentFailure("profile not found: the face's user_id is no id of profiles")
        elif length == 0:
            faults[face] = PermanentFailure("the embedding is all zeros: it has no direction to compare")
    return faults


def _with_candidates(
    connection: Connection, faces: Collection[UUID], policy: Policy
) -> Iterator[tuple[ImageSet, ImageSet]]:
    """Those of the faces that can match, block by block, each block with whom it may list."""
    for block, members in _by_block(connection, faces).items():
        here = load_faces(connection, block, members)
        yield here, load_candidates(connection, block.opposite, here, policy.threshold)


def _by_block(connection: Connection, faces: Collection[UUID]) -> dict[Block, list[UUID]]:
    """Those of the faces that can match."""
    blocks: dict[Block, list[UUID]] = defaultdict(list)
    if faces:
        for school, gender, face in connection.execute(query("blocks_of_faces"), {"face_ids": list(faces)}):
            blocks[Block(school, gender)].append(face)
    return blocks


def _write(connection: Connection, change: Change, faces: Ids | None = None) -> Figures:
    """Less the pairs with a face that was deleted since it was read; the other face is matched again, as is who loses
    a pair and is none of these faces, where they are given."""
    bereaved = [_outside(change.deletions, faces)] if faces is not None else []
    upserts = change.upserts
    if len(gone := _gone(connection, upserts)):
        without_a, without_b = among(upserts.a, gone), among(upserts.b, gone)
        bereaved += [upserts.b[without_a & ~without_b], upserts.a[without_b & ~without_a]]
        whole = ~without_a & ~without_b
        change = Change(upserts.take(whole), change.new[whole], change.deletions)
    figures = put(connection, change)
    if sum(map(len, bereaved)):
        connection.execute(query("match_faces_again"), {"face_ids": Uuids(np.unique(np.concatenate(bereaved)))})
    return figures


def _outside(rows: FaceRows, faces: Ids) -> Ids:
    owners = listings(rows).owner
    return owners[~among(owners, faces)]


def _gone(connection: Connection, rows: FaceRows) -> Ids:
    """Those of the faces that are no more, sorted. What stands is held until we commit."""
    faces = np.unique(np.concatenate([rows.a, rows.b]))
    if not len(faces):
        return faces
    return as_ids(sorted(face for (face,) in connection.execute(query("hold_faces"), {"face_ids": Uuids(faces)})))
