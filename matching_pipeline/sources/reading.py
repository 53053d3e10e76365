"""Reads rows of the app through `read_source`, and finds the rows whose expressions fail."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import psycopg
from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import PermanentFailure, SourceUnreadable

KEYS_AT_ONCE = 1000
SOURCE_FAULTS = ("0A", "3F", "42")
"""Classes of SQLSTATE: a fault of the declaration or the table, such as a missing column or right, or hidden rows."""
ROW_FAULTS = ("21", "22", "23", "38", "39", "44", "54", "P0")
"""Classes of SQLSTATE: an expression fails for the values of a row."""

Kind = Literal["entity", "item"]
"""what the keys name"""


@dataclass(frozen=True)
class SourceRow:
    """An item of an entity, or an entity without an item."""

    entity_key: str
    applies: bool
    """False if the row is not an entity of the source now"""
    has_parent: bool
    """False if the row's parent column is null or matches no parent"""
    parent_key: str | None
    user_key: str | None
    properties: dict[str, Any]
    item_key: str | None
    content: str | None
    """a picture's URL or a text"""
    embedding: Any
    """a vector that the app made"""

    @property
    def entity(self) -> tuple[object, ...]:
        """What the mirror keeps of the entity beside its key."""
        return self.parent_key, self.user_key, self.properties, self.embedding


@dataclass(frozen=True)
class Reading:
    """The rows of some keys. A key without a row is gone."""

    rows: list[SourceRow]
    failures: dict[str, PermanentFailure] = field(default_factory=dict)
    """by key, why its row cannot be read"""


def read_each(connection: Connection, source: str, kind: Kind, keys: Sequence[str]) -> Reading:
    """Reads in groups of KEYS_AT_ONCE. A group that fails is halved until the failing row is alone.

    Raises SourceUnreadable if the declaration does not fit the table any more.
    """
    reading = Reading([], {})
    for begin in range(0, len(keys), KEYS_AT_ONCE):
        _read(connection, source, kind, keys[begin : begin + KEYS_AT_ONCE], reading)
    return reading


def text_hash(text: str | None) -> bytes:
    return hashlib.sha256((text or "").encode()).digest()


def read_all(connection: Connection, source: str, kind: Kind, keys: Sequence[str]) -> list[SourceRow]:
    """Raises PermanentFailure if an expression fails for a row, SourceUnreadable if the source is at fault."""
    parameters = {"source": source, "kind": kind, "keys": list(keys)}
    with _faults_named(source), connection.cursor(row_factory=class_row(SourceRow)) as cursor:
        return cursor.execute(query("read_source"), parameters, binary=True).fetchall()


def keys_after(connection: Connection, source: str, key: str) -> list[str]:
    """The next KEYS_AT_ONCE keys of the table; the first ones if `key` is empty. Raises as `read_all` does."""
    parameters = {"source": source, "after": key, "size": KEYS_AT_ONCE}
    with _faults_named(source):
        return [key for (key,) in connection.execute(query("source_keys"), parameters)]


def children(connection: Connection, source: str, parent_key: str) -> list[str]:
    """The keys of the entities whose rows name this parent. Raises as `read_all` does."""
    with _faults_named(source):
        return [key for (key,) in connection.execute(query("children_of"), {"source": source, "keys": [parent_key]})]


def _read(connection: Connection, source: str, kind: Kind, keys: Sequence[str], reading: Reading) -> None:
    in_transaction = connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
    try:
        with connection.transaction() if in_transaction else nullcontext():
            reading.rows.extend(read_all(connection, source, kind, keys))
    except psycopg.errors.LockNotAvailable:
        if in_transaction:
            raise
        raise SourceUnreadable(f"the app has locked the table of the source {source}") from None
    except PermanentFailure as failure:
        if len(keys) == 1:
            reading.failures[keys[0]] = failure
        else:
            middle = len(keys) // 2
            _read(connection, source, kind, keys[:middle], reading)
            _read(connection, source, kind, keys[middle:], reading)


@contextmanager
def _faults_named(source: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        state = error.sqlstate or ""
        if state.startswith(SOURCE_FAULTS):
            raise SourceUnreadable(
                f"the source {source} cannot be read: {error.diag.message_primary}: correct the table or the "
                "declaration, then run `matching-pipeline attach`"
            ) from error
        if state.startswith(ROW_FAULTS):
            # without the message, which may quote the row
            reason = f"an expression of the source {source} fails for this row: SQLSTATE {state}"
            raise PermanentFailure(reason) from None
        raise
