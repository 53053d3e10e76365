"""All faults of the derived tables, exactly and as of one instant, and their repair.

Rows of a derived table may be
- missing: the sources ask for them, and no unfinished or failed job would make them (in `matches`, in any case);
- stale: they belong to an earlier state of the sources, or have in `matches` a wrong rank, evidence or similarity;
- orphaned: their sources are gone, or in `matches` the pair does not match;
- of mixed models: their model is not the active one or, outside of `matches`, neither the active one nor the shadow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import give_way, snapshot
from matching_pipeline.matches import face_rows, faces, projects
from matching_pipeline.matches.face_rows import FaceRows
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.kernel.columns import as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import Change, difference
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.matches.project_rows import ProjectRows
from matching_pipeline.matches.rebuilds import SIZES
from matching_pipeline.sources.enqueue import enqueue_missing
from matching_pipeline.sources.orphans import delete_orphan_rows

SHOWN = 5
"""Rows of each fault that are named."""

MatchRows = TypeVar("MatchRows", ProjectRows, FaceRows)
What = Literal["missing", "stale", "orphaned", "mixed-model"]

PROJECT_MATCHES, FACE_MATCHES = "matches of projects", "matches of faces"
MATCH_COLUMNS: dict[str, Sequence[str]] = {
    PROJECT_MATCHES: ("project", "product", "rank", "similarity"),
    FACE_MATCHES: ("face a", "face b", "rank for a", "rank for b", "similarity"),
}
VECTOR_FAULTS: Sequence[tuple[str, What, str, Sequence[str]]] = (
    ("image_ai", "missing", "missing_image_ai", ("of", "id", "queue")),
    ("image_ai", "stale", "stale_image_ai", ("of", "id", "queue")),
    ("image_ai", "orphaned", "orphaned_image_ai", ("of", "id", "model")),
    ("image_ai", "mixed-model", "mixed_model_image_ai", ("of", "id", "model")),
    ("job_embeddings", "missing", "missing_job_embeddings", ("of", "id", "queue")),
    ("job_embeddings", "stale", "stale_job_embeddings", ("of", "id", "queue")),
    ("job_embeddings", "orphaned", "orphaned_job_embeddings", ("of", "id", "model")),
    ("job_embeddings", "mixed-model", "mixed_model_job_embeddings", ("of", "id", "model")),
)
"""Table, fault, the query that finds it, and the query's columns."""
FORGET_MIXED = {"image_ai": "forget_image_ai_of_no_role", "job_embeddings": "forget_job_embeddings_of_no_role"}


@dataclass(frozen=True)
class Fault:
    table: str
    what: What
    rows: int
    columns: Sequence[str]
    first: Sequence[Sequence[Any]]
    """The first rows as they should be; of orphaned and mixed-model rows, as they are."""


class Report(NamedTuple):
    faults: list[Fault]
    waiting: dict[str, int]
    """By queue, the unfinished jobs at that instant. They may yet repair what differs in `matches`."""


def audit(connection: Connection, part_images: int = PART_IMAGES) -> Report:
    """Writes nothing."""
    with snapshot(connection):
        found = [*_project_faults(connection, part_images), *_face_faults(connection)]
        found += [_counted(connection, table, what, columns, name) for table, what, name, columns in VECTOR_FAULTS]
        waiting = connection.execute(query("unfinished_jobs")).fetchall()
    return Report([fault for fault in found if fault.rows], dict(waiting))


def repair(connection: Connection, report: Report, part_images: int = PART_IMAGES) -> Iterator[str]:
    """Repairs the faults by the pipeline's usual means, and yields what it did."""
    found = {(fault.table, fault.what) for fault in report.faults}
    if {(table, what) for table in FORGET_MIXED for what in ("missing", "stale")} & found:
        yield f"{enqueue_missing(connection)} images and postings queued"
    for table, name in FORGET_MIXED.items():
        if (table, "mixed-model") in found:
            removed = connection.execute(query(name)).rowcount
            yield f"{removed} rows of {table} by models without a role removed"
    if {(table, "orphaned") for table in FORGET_MIXED} & found:
        yield f"{delete_orphan_rows(connection)} rows without a source removed"
    if (PROJECT_MATCHES, "mixed-model") in found:
        # right rows keep their place and get the name of the active model, all in one transaction
        with ListsLock(connection, projects.KIND).alone():
            figures = give_way(connection, partial(projects.rebuild_at_once, connection, part_images))
        yield f"{PROJECT_MATCHES}: {figures}"
    elif any(table == PROJECT_MATCHES for table, _ in found):
        yield f"{PROJECT_MATCHES}: {projects.rebuild(connection, part_images=part_images)}"
    if any(table == FACE_MATCHES for table, _ in found):
        yield f"{FACE_MATCHES}: {faces.rebuild(connection)}"
        connection.execute(query("name_model_of_face_matches"))


def _project_faults(connection: Connection, part_images: int) -> Iterator[Fault]:
    """In the ranges of a rebuild's shards, so that memory holds the differences only."""
    changes = []
    for within in named_rows(connection, "project_ranges", size=SIZES[projects.KIND]):
        wanted, stored, *_ = projects.all_rows(connection, part_images, **within)
        changes.append(difference(wanted, stored))
    yield from _match_faults(connection, PROJECT_MATCHES, projects.KIND, changes)


def _face_faults(connection: Connection) -> Iterator[Fault]:
    """School by school, so that memory holds the differences only."""
    changes = []
    for school in [None, *(school for (school,) in connection.execute(query("schools")).fetchall())]:
        here, wanted = faces.wanted_listings(connection, school)
        changes.append(difference(face_rows.paired(wanted), face_rows.stored_rows(connection, here)))
    yield from _match_faults(connection, FACE_MATCHES, faces.KIND, changes)


def _match_faults(
    connection: Connection, table: str, kind: str, changes: Sequence[Change[MatchRows]]
) -> Iterator[Fault]:
    orphaned = concatenate([change.deletions for change in changes])
    if table == FACE_MATCHES:  # a pair of two schools was found in both
        orphaned = orphaned.take(np.unique(orphaned.keys, return_index=True)[1])
    yield _match_fault(table, "missing", concatenate([change.upserts.take(change.new) for change in changes]))
    yield _match_fault(table, "stale", concatenate([change.upserts.take(~change.new) for change in changes]))
    yield _match_fault(table, "orphaned", orphaned)
    columns = (*MATCH_COLUMNS[table][:2], "model")
    yield _counted(connection, table, "mixed-model", columns, "mixed_model_matches", kind=kind)


def _match_fault(table: str, what: What, rows: ProjectRows | FaceRows) -> Fault:
    return Fault(table, what, len(rows), MATCH_COLUMNS[table], _shown(rows.take(slice(SHOWN))))


def _shown(rows: ProjectRows | FaceRows) -> list[tuple[Any, ...]]:
    scores = [f"{score:.6f}" for score in rows.similarity.tolist()]
    if isinstance(rows, ProjectRows):
        return list(zip(as_uuids(rows.project), as_uuids(rows.product), rows.rank.tolist(), scores, strict=True))
    ranks = ([rank or "–" for rank in column.tolist()] for column in (rows.rank_for_a, rows.rank_for_b))
    return list(zip(as_uuids(rows.a), as_uuids(rows.b), *ranks, scores, strict=True))


def _counted(
    connection: Connection, table: str, what: What, columns: Sequence[str], name: str, **parameters: str
) -> Fault:
    rows = connection.execute(query(name), {"count": SHOWN, **parameters}).fetchall()
    return Fault(table, what, rows[0][0] if rows else 0, columns, [shown for _, *shown in rows])
