"""Keeps the mirror: what workers read of the app's rows, in the tables `entities` and `items`."""

from collections.abc import Iterable, Sequence

from psycopg.types.json import Jsonb

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.queues.client import Job
from matching_pipeline.sources.reading import Kind, SourceRow, read_all, text_hash


def refresh(
    connection: Connection, queue: str, source: str, kind: Kind, keys: Sequence[str], known: Iterable[SourceRow]
) -> list[SourceRow]:
    """Reads the keys again while their entities are locked, and brings the mirror of the entities up to date.

    Returns the rows that apply. Keys that are gone or do not apply are erased. `known` are the rows that were read
    before: their entities are locked first, so that of two workers the one that read last writes last. The caller has
    a transaction open. Raises PermanentFailure if a row cannot be read any more, and SourceUnreadable.
    """
    locked, added = _add_entities(connection, source, known)
    while True:
        rows = read_all(connection, source, kind, keys)
        applying = [row for row in rows if row.applies]
        if locked >= {row.entity_key for row in applying}:
            break
        more = _add_entities(connection, source, applying)
        locked, added = locked | more[0], added | more[1]
    entities = {row.entity_key: row for row in applying}
    if stored := [row for key, row in entities.items() if key not in added or row.entity != added[key].entity]:
        connection.execute(query("update_entities"), {"source": source, **_entity_columns(stored)})
    ended = {row.entity_key for row in rows if not row.applies}
    if kind == "entity":
        ended |= set(keys) - {row.entity_key for row in rows}
    else:
        gone = sorted(set(keys) - {row.item_key for row in applying if row.item_key})
        if bereft := (_entities_of_items(connection, source, gone) | locked) - entities.keys():
            there = {row.entity_key for row in read_all(connection, source, "entity", sorted(bereft)) if row.applies}
            ended |= bereft - there
        erase(connection, queue, source, "item", gone)
    erase(connection, queue, source, "entity", sorted(ended))
    return applying


def put_items(connection: Connection, source: str, rows: Iterable[SourceRow], *, is_text: bool = False) -> None:
    """The caller has called `refresh`, which locks the entities."""
    items = {row.item_key: row for row in rows if row.item_key is not None}
    if items:
        columns = {
            "keys": list(items),
            "entity_keys": [row.entity_key for row in items.values()],
            # only the hash of a text is kept
            "contents": [None if is_text else row.content for row in items.values()],
            "content_hashes": [text_hash(row.content) if is_text else None for row in items.values()],
        }
        connection.execute(query("put_items"), {"source": source, **columns})


def erase(
    connection: Connection,
    queue: str,
    source: str,
    kind: Kind,
    keys: Sequence[str],
    of_status: Sequence[str] = ("completed", "failed"),
) -> None:
    """Erases all that the pipeline keeps of these entities or items, and their jobs of these statuses.

    If another session has locked some of it, a job of the queue does it in a second.
    """
    if not keys:
        return
    if kind == "entity":
        # if another worker has added one of them and not yet committed, this waits for it
        connection.execute(query("add_bare_entities"), {"source": source, "keys": list(keys)})
    statement = query("erase_items") if kind == "item" else query("erase_entities")
    parameters: dict[str, object] = {"source": source, "keys": list(keys), "of_status": list(of_status)}
    if left := [key for (key,) in connection.execute(statement, parameters).fetchall()]:
        parameters = {"queue": queue, "source": source, "kind": kind, "keys": left}
        connection.execute(query("enqueue_soon"), parameters)


def forget_jobs_of_erased(connection: Connection, jobs: Iterable[Job]) -> None:
    """Deletes those of the completed jobs whose entities are not mirrored: the erasure was before the completion."""
    connection.execute(query("forget_jobs_of_erased"), {"ids": [job.id for job in jobs]})


def _add_entities(
    connection: Connection, source: str, rows: Iterable[SourceRow]
) -> tuple[set[str], dict[str, SourceRow]]:
    """Adds the entities that are missing, and locks the others in the order of their ids.

    Returns the keys of all, and the rows of those that are new.
    """
    entities = {row.entity_key: row for row in rows if row.applies}
    if not entities:
        return set(), {}
    parameters = {"source": source, **_entity_columns(entities.values())}
    added = {key for (key,) in connection.execute(query("add_entities"), parameters)}
    if others := entities.keys() - added:
        connection.execute(query("lock_entities"), {"source": source, "keys": list(others)})
    return set(entities), {key: entities[key] for key in added}


def _entities_of_items(connection: Connection, source: str, keys: Sequence[str]) -> set[str]:
    if not keys:
        return set()
    rows = connection.execute(query("entities_of_items"), {"source": source, "keys": list(keys)}).fetchall()
    return {key for (key,) in rows}


def _entity_columns(rows: Iterable[SourceRow]) -> dict[str, list[object] | None]:
    rows = list(rows)
    return {
        "keys": [row.entity_key for row in rows],
        "parent_keys": [row.parent_key for row in rows],
        "user_keys": [row.user_key for row in rows],
        "properties": [Jsonb(row.properties) for row in rows],
        # the rows of a source have all a vector, or none
        "embeddings": [row.embedding for row in rows] if rows[0].embedding is not None else None,
    }
