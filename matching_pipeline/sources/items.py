"""Reads the items that embedding jobs name, and updates the mirror when the jobs complete."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import cast

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import PermanentFailure, SourceUnreadable
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources import expansion, mirror
from matching_pipeline.sources.reading import Kind, SourceRow, read_each

NO_URL = PermanentFailure("the image has no URL")


def read_items(connection: Connection, jobs: Sequence[Job]) -> tuple[dict[Job, SourceRow], list[Outcome]]:
    """The row of each job that names an item to embed, and the outcomes of all other jobs."""
    expanded = expansion.is_expanded(connection, jobs)
    outcomes = list(expansion.expand(connection, [job for job in jobs if expanded[job]]))
    rows: dict[Job, SourceRow] = {}
    for (source, kind), group in _by_source(job for job in jobs if not expanded[job]).items():
        try:
            reading = read_each(connection, source, kind, [job.key for job in group])
        except SourceUnreadable as error:
            outcomes += [Outcome(job, must_wait=error) for job in group]
            continue
        items = {row.item_key: row for row in reading.rows}
        for job in group:
            row = items.get(job.key)
            if job.key in reading.failures:
                outcomes.append(Outcome(job, failure=reading.failures[job.key]))
            elif row is None or (row.has_parent and not row.applies):
                outcomes.append(Outcome(job))
            elif not row.has_parent:
                outcomes.append(Outcome(job, failure=parent_failure(connection, source)))
            else:
                rows[job] = row
    return rows, outcomes


def parent_failure(connection: Connection, source: str) -> PermanentFailure:
    """The failure of a job whose row has no parent."""
    row = connection.execute(query("parent_of"), {"source": source}).fetchone()
    assert row is not None
    name, table, key, column = row
    return PermanentFailure(f"{name} not found: {table} has no {key} that equals the row's {column}")


def write_mirror(
    connection: Connection, queue: str, outcomes: Sequence[Outcome], *, is_text: bool = False
) -> list[tuple[Outcome, SourceRow]]:
    """Updates the mirror. Returns each outcome that has a result and an item that still exists, with the item's row.

    Enqueues what the outcomes of expanded jobs name.
    """
    expansion.write(connection, queue, [each for each in outcomes if isinstance(each.result, expansion.Expansion)])
    single = [each for each in outcomes if not isinstance(each.result, expansion.Expansion)]
    current: list[tuple[Outcome, SourceRow]] = []
    by_job = {each.job: each for each in single}
    for (source, kind), group in _by_source(each.job for each in single).items():
        known = [by_job[job].result.row for job in group if by_job[job].result is not None]
        keys = [job.key for job in group]
        rows = mirror.refresh(connection, queue, source, kind, keys, known)
        mirror.put_items(connection, source, rows, is_text=is_text)
        if kind == "entity":
            # the photo of such an entity is gone
            mirror.erase(connection, queue, source, "item", [row.entity_key for row in rows if row.item_key is None])
        items = {row.item_key: row for row in rows}
        # if two jobs are for one item, one result is written
        current += {
            job.key: (by_job[job], items[job.key])
            for job in group
            if by_job[job].result is not None and job.key in items
        }.values()
    return current


def forget_outdated(connection: Connection, queue: str, job: Job, *, is_text: bool = False) -> None:
    """Deletes the item's embeddings that were made from an older input."""
    if job.kind not in ("entity", "item") or expansion.is_expanded(connection, [job])[job]:
        return
    try:
        with connection.transaction():
            rows = mirror.refresh(connection, queue, job.source, cast(Kind, job.kind), [job.key], ())
            mirror.put_items(connection, job.source, rows, is_text=is_text)
    except (PermanentFailure, SourceUnreadable):
        # the row cannot be read, so its embedding stays
        return
    connection.execute(query("forget_outdated_embeddings"), {"source": job.source, "item_key": job.key})


def _by_source(jobs: Iterable[Job]) -> dict[tuple[str, Kind], list[Job]]:
    groups: dict[tuple[str, Kind], list[Job]] = defaultdict(list)
    for job in jobs:
        groups[job.source, cast(Kind, job.kind)].append(job)
    return groups
