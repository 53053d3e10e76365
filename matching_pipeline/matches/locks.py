"""The lock on the top-k lists of a matcher."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.queues.handler import LockBusy

MOST_SECONDS = 20.0
"""How long a transaction tries to take the lists."""


@dataclass(frozen=True)
class ListsLock:
    """A session's part in the readers-writer lock with a turnstile on the lists of one matcher.

    A *reader* is a shard of a rebuild. It shares the lists with other shards, as each writes lists of its own. A
    *writer* takes the lists alone: incremental maintenance, as a list depends on every entity; the start of a
    rebuild; the activation of a model. A writer sees all that earlier writers and readers have committed.

    Incremental maintenance must not wait inside Postgres. Its transaction holds locks for which sessions of the app
    may wait, so the wait could be part of a deadlock. It tries again and again instead. Without a turnstile it could
    starve: the shards of a rebuild overlap, so there may be no moment without a reader. Therefore a writer that tries
    shuts the turnstile first, and a reader passes the turnstile before it shares the lists. No further shard begins,
    those that run end, and the writer is next. A writer that does wait inside Postgres (`alone`) needs no turnstile:
    Postgres lets no reader overtake it.

    Both are advisory locks. Postgres releases them when a session dies.
    """

    connection: Connection
    matcher: str

    def take(self) -> None:
        """Takes the lists alone until the transaction ends.

        Raises LockBusy if others hold them for longer than MOST_SECONDS.
        """
        deadline = time.monotonic() + MOST_SECONDS
        while not self._try(self.connection, "try_take_lists"):
            if time.monotonic() > deadline:
                raise LockBusy("a rebuild or another worker writes `matches`")
            time.sleep(0.05)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Takes the lists alone for the block, over many transactions. Waits as long as it must."""
        with self._held("take_lists", "release_lists"):
            yield

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Shares the lists for the block, over many transactions. Waits as long as it must."""
        with ExitStack() as stack:
            with self._held("pass_turnstile", "leave_turnstile"):
                stack.enter_context(self._held("share_lists", "release_shared_lists"))
            yield

    @contextmanager
    def sharing_sessions(self, parts: int) -> Iterator[list[Connection]]:
        """This session, which shares the lists, and for several parts a second one that does too, if it can.

        New rows cost mostly their indexes, which each session maintains in a process of its own.
        """
        with ExitStack() as stack:
            sessions = [self.connection]
            if parts > 1:
                info = self.connection.info
                with suppress(psycopg.OperationalError, ConfigurationError):
                    other = stack.enter_context(connect(info.dsn, password=info.password))
                    # it must not wait: a writer that comes before it may wait for this session
                    if self._try(other, "try_share_lists"):
                        sessions.append(other)
            yield sessions

    def _try(self, connection: Connection, name: str) -> bool:
        return connection.execute(query(name), {"matcher": self.matcher}).fetchone() == (True,)

    @contextmanager
    def _held(self, lock: str, unlock: str) -> Iterator[None]:
        self.connection.execute(query(lock), {"matcher": self.matcher})
        try:
            yield
        finally:
            if not self.connection.closed:
                self.connection.execute(query(unlock), {"matcher": self.matcher})
