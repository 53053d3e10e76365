"""Transactions that write beside a live app."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query

Result = TypeVar("Result")

GAVE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
_LOCK_WAIT = "10ms"
"""Far below Postgres' deadlock_timeout of one second, after which it sacrifices whoever waited longest: where we
and the app wait for each other, we give way first."""
_COMMIT_WAIT = "5s"
_TRIES = 10


def give_way(connection: Connection, action: Callable[[], Result]) -> Result:
    """Runs the action in a transaction that waits for no lock longer than 10 ms, up to ten times.

    Raises one of GAVE_WAY where a lock still stands in the way.
    """
    for last in (False,) * (_TRIES - 1) + (True,):
        try:
            with impatient_transaction(connection):
                return action()
        # a row referred to was deleted between the look and the write: the next look will not see it
        except (*GAVE_WAY, psycopg.errors.ForeignKeyViolation, psycopg.errors.UniqueViolation):
            if last:
                raise
            time.sleep(random.uniform(0.02, 0.2))
    raise AssertionError("the last try returns or raises")


@contextmanager
def impatient_transaction(connection: Connection) -> Iterator[None]:
    """Waits for no lock longer than 10 ms, except for its turn to commit.

    Transactions that notify commit one after another, which takes as long as the disk or a standby takes. The
    transaction whose turn it is waits for no row of ours.
    """
    with connection.transaction():
        limit_lock_waits(connection)
        yield
        connection.execute(query("check_what_is_deferred"))
        limit_lock_waits(connection, _COMMIT_WAIT)


def limit_lock_waits(connection: Connection, limit: str = _LOCK_WAIT) -> None:
    """For the rest of the transaction."""
    connection.execute(query("limit_lock_waits"), {"limit": limit})


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """A transaction that sees one instant of the whole database, and writes nothing."""
    connection.isolation_level, connection.read_only = psycopg.IsolationLevel.REPEATABLE_READ, True
    try:
        with connection.transaction():
            yield
    finally:
        if not connection.closed:
            connection.isolation_level, connection.read_only = None, None
