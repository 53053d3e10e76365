"""What is wrong with what is derived, all of it, exactly and as of one instant; and how it is set right.

Of every derived table, rows are
- missing: the sources ask for them, and no work is queued that would make them (`matches`: whatever is queued);
- stale: they stand for what the sources said before, or in `matches` with another rank, evidence or similarity;
- orphaned: what they were derived from is no more, or in `matches` does not match;
- of mixed models: made by another than the active one, or of vectors neither by the active one nor by the shadow.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import give_way, snapshot
from matching_pipeline.handlers import faces
from matching_pipeline.handlers import matches as matching
from matching_pipeline.matches import face_rows, project_rows
from matching_pipeline.matches.face_rows import FaceRows
from matching_pipeline.matches.kernel.columns import as_uuids, concatenate
from matching_pipeline.matches.kernel.differences import pair_keys
from matching_pipeline.matches.match_table import holding_lists
from matching_pipeline.matches.project_rows import ProjectRows
from matching_pipeline.matches.rebuilds import SIZES
from matching_pipeline.sources.enqueue import enqueue_missing, forget_orphans

SHOWN = 5
"""Rows of each fault that are named."""

PROJECT_MATCHES, FACE_MATCHES = "matches of projects", "matches of faces"
VECTOR_TABLES = ("image_ai", "job_embeddings")
MATCH_COLUMNS: dict[str, Sequence[str]] = {
    PROJECT_MATCHES: ("project", "product", "rank", "similarity"),
    FACE_MATCHES: ("face a", "face b", "rank for a", "rank for b", "similarity"),
}

What = Literal["missing", "stale", "orphaned", "mixed-model"]


@dataclass(frozen=True)
class Fault:
    table: str
    what: What
    rows: int
    columns: Sequence[str]
    first: Sequence[Sequence[Any]]
    """As they should be; what should not stand at all, as it is."""


class Report(NamedTuple):
    faults: list[Fault]
    waiting: dict[str, int]
    """By lane, the unfinished work at that instant, which may yet set right what differs in `matches`."""


def audit(connection: Connection) -> Report:
    """Writes nothing."""
    with snapshot(connection):
        found = [*_project_faults(connection), *_face_faults(connection)]
        for table in VECTOR_TABLES:
            found += _vector_faults(connection, table)
        waiting = connection.execute(query("waiting_work")).fetchall()
    return Report([fault for fault in found if fault.rows], dict(waiting))


def repair(connection: Connection, report: Report) -> Iterator[str]:
    """Sets right what was found, by what the pipeline does anyway, and says what it does."""
    found = {(fault.table, fault.what) for fault in report.faults}
    if {(table, what) for table in VECTOR_TABLES for what in ("missing", "stale")} & found:
        yield f"{enqueue_missing(connection)} images and postings queued"
    for table in VECTOR_TABLES:
        if (table, "mixed-model") in found:
            removed = connection.execute(query(f"forget_{table}_of_no_role")).rowcount
            yield f"{removed} rows of {table} by models without a role removed"
    if {(table, "orphaned") for table in VECTOR_TABLES} & found:
        yield f"{forget_orphans(connection)} rows of what is no more removed"
    if (PROJECT_MATCHES, "mixed-model") in found:
        # rows that stand as they should keep their place, and get the name of the active model, all at once
        with holding_lists(connection, matching.KIND):
            yield _told(PROJECT_MATCHES, give_way(connection, partial(matching.rebuild_at_once, connection)))
    elif any(table == PROJECT_MATCHES for table, _ in found):
        yield _told(PROJECT_MATCHES, matching.rebuild(connection))
    if any(table == FACE_MATCHES for table, _ in found):
        yield _told(FACE_MATCHES, faces.rebuild(connection))
        connection.execute(query("name_model_of_face_matches"))


def _told(table: str, figures: object) -> str:
    return f"{table}: " + ", ".join(f"{count} {name}" for name, count in vars(figures).items())


def _project_faults(connection: Connection) -> Iterator[Fault]:
    """In the ranges that a rebuild's shards have, as only what differs need be held."""
    missing, stale, orphaned = [], [], []
    for within in named_rows(connection, "project_ranges", size=SIZES[matching.KIND]):
        _, wanted, stored, _ = matching.all_rows(connection, **within)
        change = project_rows.difference(wanted, stored)
        missing.append(change.upserts.take(change.new))
        stale.append(change.upserts.take(~change.new))
        orphaned.append(change.deletions)
    fault = partial(_match_fault, PROJECT_MATCHES)
    yield fault("missing", concatenate(missing))
    yield fault("stale", concatenate(stale))
    yield fault("orphaned", concatenate(orphaned))
    yield _mixed_matches(connection, PROJECT_MATCHES, matching.KIND)


def _face_faults(connection: Connection) -> Iterator[Fault]:
    """School by school, as only what differs need be held."""
    missing, stale, orphaned = [], [], []
    for school in [None, *(school for (school,) in connection.execute(query("schools")).fetchall())]:
        here, wanted = faces.whole_lists(connection, school)
        change = face_rows.difference(face_rows.paired(wanted), face_rows.stored_rows(connection, here))
        missing.append(change.upserts.take(change.new))
        stale.append(change.upserts.take(~change.new))
        orphaned.append(change.deletions)
    fault = partial(_match_fault, FACE_MATCHES)
    yield fault("missing", concatenate(missing))
    yield fault("stale", concatenate(stale))
    # a pair of two schools was met in both
    met = concatenate(orphaned)
    yield fault("orphaned", met.take(np.unique(pair_keys(met.a, met.b), return_index=True)[1]))
    yield _mixed_matches(connection, FACE_MATCHES, faces.KIND)


def _match_fault(table: str, what: What, rows: ProjectRows | FaceRows) -> Fault:
    return Fault(table, what, len(rows), MATCH_COLUMNS[table], _shown(rows.take(np.arange(min(SHOWN, len(rows))))))


def _shown(rows: ProjectRows | FaceRows) -> list[tuple[Any, ...]]:
    scores = [f"{score:.6f}" for score in rows.similarity.tolist()]
    if isinstance(rows, ProjectRows):
        return list(zip(as_uuids(rows.project), as_uuids(rows.product), rows.rank.tolist(), scores, strict=True))
    ranks = ([rank or "–" for rank in column.tolist()] for column in (rows.rank_for_a, rows.rank_for_b))
    return list(zip(as_uuids(rows.a), as_uuids(rows.b), *ranks, scores, strict=True))


def _mixed_matches(connection: Connection, table: str, kind: str) -> Fault:
    columns = (*MATCH_COLUMNS[table][:2], "model")
    return _counted(connection, table, "mixed-model", columns, "mixed_model_matches", kind=kind)


def _vector_faults(connection: Connection, table: str) -> Iterator[Fault]:
    by_lane, by_model = ("of", "id", "queue"), ("of", "id", "model")
    yield _counted(connection, table, "missing", by_lane, f"missing_{table}")
    yield _counted(connection, table, "stale", by_lane, f"stale_{table}")
    yield _counted(connection, table, "orphaned", by_model, f"orphaned_{table}")
    yield _counted(connection, table, "mixed-model", by_model, f"mixed_model_{table}")


def _counted(
    connection: Connection, table: str, what: What, columns: Sequence[str], name: str, **parameters: str
) -> Fault:
    rows = connection.execute(query(name), {"count": SHOWN, **parameters}).fetchall()
    return Fault(table, what, rows[0][0] if rows else 0, columns, [shown for _, *shown in rows])
