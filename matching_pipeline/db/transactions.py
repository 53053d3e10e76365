"""Transactions that write beside a live app."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg
import stamina

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query

Result = TypeVar("Result")

GAVE_WAY = (
    psycopg.errors.LockNotAvailable,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.SerializationFailure,
)
_LOCK_WAIT = "10ms"
"""Far below Postgres' deadlock_timeout of one second. If the pipeline and the app wait for each other, we give up
first, so that Postgres aborts no transaction of the app."""
_WORTH_A_RETRY = (*GAVE_WAY, psycopg.errors.ForeignKeyViolation, psycopg.errors.UniqueViolation)
"""A violation is worth a retry: another session deleted or inserted the row between our look and our write."""
_RETRYING = stamina.RetryingCaller(
    attempts=10, timeout=None, wait_initial=0.02, wait_max=0.2, wait_jitter=0.1, wait_exp_base=2
)
# by default stamina reports each retry on stdout, which is for a command's output
stamina.instrumentation.set_on_retry_hooks(())


def give_way(connection: Connection, action: Callable[[], Result]) -> Result:
    """Runs the action in a transaction that waits for no lock longer than 10 ms, up to ten times.

    Raises one of GAVE_WAY if it still cannot get a lock.
    """

    def act() -> Result:
        with impatient_transaction(connection):
            return action()

    return _RETRYING(_WORTH_A_RETRY, act)


@contextmanager
def impatient_transaction(connection: Connection) -> Iterator[None]:
    """Waits for no lock longer than 10 ms, except for its turn to commit.

    Transactions that notify commit one after another. The one that commits waits for no row that we have locked.
    """
    with connection.transaction():
        limit_lock_waits(connection)
        yield
        connection.execute(query("prepare_commit"))


def limit_lock_waits(connection: Connection, limit: str = _LOCK_WAIT) -> None:
    """The limit holds for the rest of the transaction."""
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
