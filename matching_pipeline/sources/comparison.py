"""Compares whole tables of the app with the mirror, as of one instant."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sources.expansion import differences
from matching_pipeline.sources.reading import KEYS_AT_ONCE, keys_after, read_each


class MirrorDifference(NamedTuple):
    """An entity or an item whose mirror is not as its row says."""

    key: str
    what: Literal["missing", "stale", "orphaned"]


def unexplained_differences(connection: Connection, source: str) -> Iterator[MirrorDifference]:
    """The differences that no unfinished or failed job explains.

    Raises SourceUnreadable if the declaration does not fit the table any more.
    """
    jobs = connection.execute(query("jobs_of_source"), {"source": source}).fetchall()
    if any(kind in ("parent", "table") and not failed for kind, _, failed in jobs):
        # these alone may explain any difference
        return
    explained = {key for _, key, _ in jobs}
    for part in (_of_rows(connection, source, explained), _of_mirror(connection, source, explained)):
        yield from part


def _of_rows(connection: Connection, source: str, explained: set[str]) -> Iterator[MirrorDifference]:
    after = ""
    while keys := keys_after(connection, source, after):
        after = keys[-1]
        reading = read_each(connection, source, "entity", keys)
        entities, items = differences(connection, source, keys, reading.rows)
        # a row that does not apply is looked for in the mirror
        applying = [row for row in reading.rows if row.applies]
        explained = explained | {row.item_key for row in applying if row.item_key and row.entity_key in explained}
        there = {row.entity_key for row in applying} | {row.item_key for row in applying} | reading.failures.keys()
        different = entities & there | items | reading.failures.keys()
        parameters = {"source": source, "keys": list(different)}
        mirrored = {key for (key,) in connection.execute(query("mirrored_keys"), parameters)}
        for key in sorted(different - explained):
            yield MirrorDifference(key, "orphaned" if key not in there else "stale" if key in mirrored else "missing")


def _of_mirror(connection: Connection, source: str, explained: set[str]) -> Iterator[MirrorDifference]:
    after = None
    while True:
        parameters = {"source": source, "after": after, "size": KEYS_AT_ONCE}
        mirrored = connection.execute(query("entities_from"), parameters).fetchall()
        if not mirrored:
            return
        after = mirrored[-1][0]
        keys = [key for _, key in mirrored]
        reading = read_each(connection, source, "entity", keys)
        there = {row.entity_key for row in reading.rows if row.applies} | reading.failures.keys()
        yield from (MirrorDifference(key, "orphaned") for key in keys if key not in there and key not in explained)
