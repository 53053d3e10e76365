"""The lists of faces: their maintenance after a face changed, and their rebuild.

Each face that can match has a list: its best faces of the opposite block. A pair of faces is one row of `matches`,
with its rank in either face's list, as long as it has one.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from uuid import UUID

import numpy as np

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, give_way
from matching_pipeline.errors import PermanentFailure
from matching_pipeline.matches import rebuilds
from matching_pipeline.matches.face_rows import (
    FaceRows,
    Listings,
    listings,
    listings_of,
    lists_in,
    paired,
    put_rows,
    stored_rows,
)
from matching_pipeline.matches.image_sets import Block, load_candidates, load_faces
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.lists import Lists, lists_from, merge, pairs_from
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs, pairs_above
from matching_pipeline.matches.match_table import Figures, match_policy
from matching_pipeline.matches.rebuilds import Shard

QUEUE = "faces"
KIND = "face"
ROWS_AT_ONCE = 2000
"""Rows that a rebuild writes in one transaction. The app's deletes of their faces wait for that transaction."""


def update(connection: Connection, changed: set[UUID]) -> Figures:
    """Maintains the lists after these faces changed, in the caller's transaction, which has taken the lists."""
    if not changed:
        return Figures()
    policy = match_policy(connection, KIND)
    lists: Lists = {face: [] for face in changed}
    scored: Lists = {}
    for here, candidates in _with_candidates(connection, changed, policy):
        lists |= lists_from(best_pairs(here, [candidates], policy))
        scored |= lists_from(pairs_above(candidates, here, policy, {}))
    listing_changed = as_uuids(listings(stored_rows(connection, as_ids(changed))).face)
    touched = (scored.keys() | set(listing_changed)) - changed
    stored = stored_rows(connection, as_ids(touched | changed))
    stored_lists = lists_in(listings(stored))
    merged = {face: merge(stored_lists.get(face, []), changed, scored.get(face, ()), policy) for face in touched}
    lists |= {face: pairs or [] for face, pairs in merged.items()}
    recompute = {face for face, pairs in merged.items() if pairs is None}
    for here, candidates in _with_candidates(connection, recompute, policy):
        lists |= lists_from(best_pairs(here, [candidates], policy))
    others = listings(stored)
    others = others.take(~np.isin(others.face, as_ids(lists)))
    wanted = paired(concatenate([listings_of(pairs_from(lists)), others]))
    figures = _write(connection, difference(wanted, stored))
    figures.lists, figures.unchanged = len(lists), len(wanted) - figures.added - figures.changed
    return figures


def rebuild(connection: Connection, on_progress: rebuilds.OnProgress = lambda done, total: None) -> Figures:
    """Recomputes every list, school by school, and writes the difference."""
    return rebuilds.run_all(connection, KIND, rebuild_shard, on_progress)


def rebuild_shard(connection: Connection, shard: Shard, on_part: rebuilds.OnPart) -> Figures:
    """Leaves schools whose rows the app has locked for last. Raises one of GAVE_WAY where they still are locked, when
    all other schools are done."""
    figures, locked = Figures(), []
    for school in shard.schools or ():
        try:
            figures += rebuild_school(connection, school)
            on_part(figures.lists)
        except GAVE_WAY:
            locked.append(school)
    for school in locked:
        figures += rebuild_school(connection, school)
        on_part(figures.lists)
    return figures


def rebuild_school(connection: Connection, school: str | None) -> Figures:
    """In many short transactions. The caller has taken or shares the lists.

    The faces of a school match among themselves only. A face of elsewhere that lists one of them loses that pair and
    is matched again.
    """
    faces, wanted = wanted_listings(connection, school)
    rows = paired(wanted)
    change, figures = difference(rows, stored_rows(connection, faces)), Figures(lists=len(faces))
    for part in change.parts(ROWS_AT_ONCE):
        figures += give_way(connection, partial(_write, connection, part, faces))
    figures.unchanged = len(rows) - figures.added - figures.changed
    return figures


def wanted_listings(connection: Connection, school: str | None) -> tuple[Ids, Listings]:
    """The faces of the school and all their listings. For None, the faces that have pairs but cannot match, and no
    listings."""
    if school is None:
        faces = as_ids(sorted(face for (face,) in connection.execute(query("unmatchable_faces_with_pairs"))))
        none = np.empty(0, dtype=faces.dtype)
        return faces, Listings(none, none, np.empty(0), np.empty(0, dtype=np.intp))
    policy = match_policy(connection, KIND)
    female, male = (load_faces(connection, Block(school, gender)) for gender in ("female", "male"))
    both = best_pairs(female, [male], policy), best_pairs(male, [female], policy)
    faces = np.sort(np.concatenate([female.entities, male.entities]))
    return faces, concatenate([listings_of(pairs) for pairs in both])


def faults(connection: Connection, faces: Sequence[UUID]) -> dict[UUID, PermanentFailure]:
    """Why some of the faces cannot be compared. The reasons name no id: an erasure does not reach every copy."""
    found = {}
    for face, has_profile, length in connection.execute(query("face_states"), {"face_ids": list(faces)}):
        if not has_profile:
            found[face] = PermanentFailure("profile not found: the face's user_id is no id of profiles")
        elif length == 0:
            found[face] = PermanentFailure("the embedding is all zeros: it has no direction to compare")
    return found


def _with_candidates(
    connection: Connection, faces: Collection[UUID], policy: Policy
) -> Iterator[tuple[ImageSet, ImageSet]]:
    """Those of the faces that can match, block by block, each block with the faces that it may list."""
    blocks: dict[Block, list[UUID]] = defaultdict(list)
    if faces:
        for school, gender, face in connection.execute(query("blocks_of_faces"), {"face_ids": list(faces)}):
            blocks[Block(school, gender)].append(face)
    for block, members in blocks.items():
        here = load_faces(connection, block, members)
        yield here, load_candidates(connection, block.opposite, here, policy.threshold)


def _write(connection: Connection, change: Change[FaceRows], faces: Ids | None = None) -> Figures:
    """Writes the change without the pairs of faces that were deleted since they were read.

    The other face of such a pair is matched again. So is, where `faces` are given, any other face that loses a pair.
    """
    bereaved = [_outside(change.deletions, faces)] if faces is not None else []
    upserts = change.upserts
    if len(gone := _gone(connection, upserts)):
        without_a, without_b = np.isin(upserts.a, gone), np.isin(upserts.b, gone)
        bereaved += [upserts.b[without_a & ~without_b], upserts.a[without_b & ~without_a]]
        whole = ~without_a & ~without_b
        change = Change(upserts.take(whole), change.new[whole], change.deletions)
    figures = put_rows(connection, change)
    if sum(map(len, bereaved)):
        connection.execute(query("match_faces_again"), {"face_ids": Uuids(np.unique(np.concatenate(bereaved)))})
    return figures


def _outside(rows: FaceRows, faces: Ids) -> Ids:
    """The faces that list another in these rows and are none of `faces`."""
    listing = listings(rows).face
    return listing[~np.isin(listing, faces)]


def _gone(connection: Connection, rows: FaceRows) -> Ids:
    """The faces of the rows that do not exist, sorted. Locks the others until the transaction ends."""
    faces = np.unique(np.concatenate([rows.a, rows.b]))
    if not len(faces):
        return faces
    return as_ids(sorted(face for (face,) in connection.execute(query("hold_faces"), {"face_ids": Uuids(faces)})))
