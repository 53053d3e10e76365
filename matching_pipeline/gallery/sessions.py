"""The gallery's sessions, which serve one request after another."""

from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, LifoQueue

import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import require_migrated
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import snapshot

CONNECT_SECONDS = 5
STATEMENT_LIMIT = "10s"
"""A page that takes longer says so."""


class Sessions:
    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._idle: LifoQueue[Connection] = LifoQueue()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Sees one instant of the database, and writes nothing."""
        with self.writing() as connection, snapshot(connection):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Raises psycopg.OperationalError if the server is away."""
        connection = self._take()
        try:
            yield connection
        finally:
            if connection.closed:
                pass
            elif connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._idle.put(connection)
            else:
                connection.close()

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.get_nowait()
            except Empty:
                return self._open()
            try:
                connection.execute(b"")
                return connection
            except psycopg.OperationalError:
                # the server was away meanwhile
                connection.close()

    def _open(self) -> Connection:
        connection = connect(
            self._database_url, application_name="matching_pipeline gallery", connect_timeout=CONNECT_SECONDS
        )
        connection.execute(query("limit_statements"), {"limit": STATEMENT_LIMIT})
        require_migrated(connection)
        return connection
