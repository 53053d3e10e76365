"""Expands jobs that name many entities or items: for each of them it enqueues one job.

A job of the kind `parent` names a row that several entities point to. A job of the kind `table` compares a part of a
table with the mirror and enqueues what differs, then the next part. A job of the kind `entity` of a source with
pictures enqueues the pictures that have no current result.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.errors import PermanentFailure, SourceUnreadable
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources import mirror
from matching_pipeline.sources.reading import KEYS_AT_ONCE, SourceRow, children, keys_after, read_each, text_hash

GONE = {"gone": True}
"""The payload of a table job that looks for entities of the mirror whose rows are gone."""


@dataclass(frozen=True)
class Expansion:
    """What a job enqueues when it is written."""

    entities: Collection[str] = ()
    items: Collection[str] = ()
    known: Sequence[SourceRow] | None = None
    """the rows of the entity of a source with pictures, whose mirror is refreshed"""
    after: str | None = None
    """The last key before the next table job, or the last entity's id if `gone`.

    If it is empty, that job begins at the start. None means that there is no next job.
    """
    gone: bool = False
    """whether the next table job reads the mirror, to find rows that are gone, and not the table"""
    first: bool = False
    """Whether the next table job is claimed before the jobs that have waited for less than an hour.

    So all rows of a new table are queued before the first is matched, and crowded blocks are matched as a whole.
    """


def expand(connection: Connection, jobs: Sequence[Job]) -> Iterator[Outcome]:
    """Reads what the jobs name. The caller writes the outcomes with `write`."""
    for job in jobs:
        try:
            if job.kind == "parent":
                yield Outcome(job, Expansion(entities=_children(connection, job)))
            elif job.kind == "table":
                yield Outcome(job, _part(connection, job))
            else:
                reading = read_each(connection, job.source, "entity", [job.key])
                yield Outcome(job, Expansion(known=reading.rows), reading.failures.get(job.key))
        except SourceUnreadable as error:
            yield Outcome(job, must_wait=error)
        except PermanentFailure as failure:
            yield Outcome(job, failure=failure)
        except psycopg.DataError as error:
            # a person inserted this job, with a key that is not of the column's type
            yield Outcome(job, failure=PermanentFailure(f"its key cannot be read: SQLSTATE {error.sqlstate}"))


def write(connection: Connection, queue: str, outcomes: Sequence[Outcome]) -> None:
    """Enqueues what the outcomes of `expand` name, in the transaction that completes their jobs."""
    for outcome in outcomes:
        job, expansion = outcome.job, outcome.result
        # All queues share the mirror. After this queue updates it, the others find no difference. So each changed key
        # goes to every queue.
        only_queue = None if job.kind == "table" else queue
        _enqueue(connection, only_queue, job.source, expansion.entities, "entity")
        _enqueue(connection, only_queue, job.source, expansion.items, "item")
        if expansion.known is not None:
            _refresh_pictures(connection, queue, job, expansion.known)
        if expansion.after is not None:
            payload = Jsonb(GONE if expansion.gone else {})
            parameters = {"queue": queue, "source": job.source, "after": expansion.after, "payload": payload}
            connection.execute(query("enqueue_table"), {**parameters, "first": expansion.first})
        if job.kind == "parent" or (job.kind == "table" and job.key):
            # The job's key may name a person or an entity that is erased later. The erasure does not find these
            # jobs, so this deletes the completed one.
            connection.execute(query("forget_job"), {"id": job.id})


def is_expanded(connection: Connection, jobs: Sequence[Job]) -> dict[Job, bool]:
    """For each job, whether it is expanded into further jobs."""
    pictures = {source: _has_pictures(connection, source) for source in {job.source for job in jobs}}
    return {job: job.kind in ("parent", "table") or (job.kind == "entity" and pictures[job.source]) for job in jobs}


def _refresh_pictures(connection: Connection, queue: str, job: Job, known: Sequence[SourceRow]) -> None:
    rows = mirror.refresh(connection, queue, job.source, "entity", [job.key], known)
    urls = {row.item_key: row.content for row in rows if row.item_key is not None}
    stored = connection.execute(query("items_of_entities"), {"source": job.source, "keys": [job.key]}).fetchall()
    mirror.erase(connection, queue, job.source, "item", [key for (key,) in stored if key not in urls])
    parameters = {"source": job.source, "queue": queue, "keys": list(urls), "contents": list(urls.values())}
    lacking = connection.execute(query("items_without_result"), parameters).fetchall()
    _enqueue(connection, queue, job.source, [key for (key,) in lacking], "item")


def _enqueue(connection: Connection, queue: str | None, source: str, keys: Collection[str], kind: str) -> None:
    """Enqueues the keys in the queue, or in every queue that serves the source."""
    if queue is None:
        parameters = {"source": source, "kind": kind, "keys": sorted(keys)}
        connection.execute(query("enqueue_in_every_queue"), parameters)
    elif keys:
        client.enqueue(connection, queue, source, sorted(keys), kind)


def _children(connection: Connection, job: Job) -> set[str]:
    parameters = {"source": job.source, "keys": [job.key]}
    rows = connection.execute(query("entities_of_parents"), parameters).fetchall()
    # The mirror also knows the entities that pointed to this parent before the change.
    return {key for (key,) in rows} | set(children(connection, job.source, job.key))


def _part(connection: Connection, job: Job) -> Expansion:
    if job.payload == GONE:
        parameters = {"source": job.source, "after": job.key or None, "size": KEYS_AT_ONCE}
        mirrored = connection.execute(query("entities_from"), parameters).fetchall()
        keys = [key for (_, key) in mirrored]
        reading = read_each(connection, job.source, "entity", keys)
        there = {row.entity_key for row in reading.rows if row.applies} | reading.failures.keys()
        after = str(mirrored[-1][0]) if len(keys) == KEYS_AT_ONCE else None
        return Expansion(entities=set(keys) - there, after=after, gone=True)
    keys = keys_after(connection, job.source, job.key)
    reading = read_each(connection, job.source, "entity", keys)
    entities, items = differences(connection, job.source, keys, reading.rows)
    is_last = len(keys) < KEYS_AT_ONCE
    different = entities | reading.failures.keys()
    after = "" if is_last else keys[-1]
    return Expansion(different, items, after=after, gone=is_last, first=len(different | items) >= len(keys) / 2)


def differences(
    connection: Connection, source: str, keys: Sequence[str], rows: Sequence[SourceRow]
) -> tuple[set[str], set[str]]:
    """The keys of entities, and of pictures, whose mirror differs from the rows."""
    parameters = {"source": source, "keys": list(keys)}
    mirrored = connection.execute(query("mirrored_entities"), parameters, binary=True).fetchall()
    entities = {key: tuple(entity) for key, *entity in mirrored}
    items = {row["key"]: row for row in named_rows(connection, "mirrored_items", **parameters)}
    has_pictures = _has_pictures(connection, source)
    changed: set[str] = set()
    changed_items: set[str] = set()
    there: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        entity = entities.get(row.entity_key)
        if not row.applies:
            changed |= {row.entity_key} if entity else set()
        elif row.item_key is None:
            there[row.entity_key] = set()
            if not has_pictures and row.entity_key in items:
                # the photo or the text was deleted
                changed.add(row.entity_key)
        else:
            there[row.entity_key].add(row.item_key)
            item = items.get(row.item_key)
            if item is None or not _is_mirrored(row, item):
                changed_items.add(row.item_key)
        if row.applies and (entity or row.embedding is not None) and row.entity != entity:
            changed.add(row.entity_key)
    if not has_pictures:
        # an item has the key of its entity here
        return changed | changed_items, set()
    gone = {
        key for key, item in items.items() if item["entity_key"] in there and key not in there[item["entity_key"]]
    }
    return changed, changed_items | gone


def _is_mirrored(row: SourceRow, item: dict[str, object]) -> bool:
    if item["entity_key"] != row.entity_key:
        return False
    if item["content_hash"] is not None:
        return item["content_hash"] == text_hash(row.content)
    return item["content"] == row.content


def _has_pictures(connection: Connection, source: str) -> bool:
    return connection.execute(query("has_pictures"), {"source": source}).fetchone() == (True,)
