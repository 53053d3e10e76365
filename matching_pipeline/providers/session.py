"""The database session on which requests and answers are recorded."""

import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Self, TypeVar

import psycopg
import stamina

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ProviderUnavailable

Result = TypeVar("Result")

RECONNECTING = stamina.RetryingCaller(attempts=None, timeout=120, wait_initial=0.2, wait_max=0.2)


class ReconnectingSession:
    """A session that opens at its first use and opens again after it was lost. Threads may share it.

    It is not the caller's session: a rollback of the caller's transaction does not undo these records.
    """

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self.on_open: Callable[[Connection], None] = lambda connection: None
        """Runs on each new connection before anything else does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def run(self, action: Callable[[Connection], Result]) -> Result:
        """Runs the action, and runs it again on a new connection if the connection is lost meanwhile.

        Raises ProviderUnavailable if the database stays away for two minutes.
        """
        try:
            return RECONNECTING(psycopg.OperationalError, self._run, action)
        except psycopg.OperationalError as error:
            message = f"requests to the provider cannot be recorded: {error}"
            raise ProviderUnavailable(message, timedelta(seconds=30)) from error

    def fetch(self, statement: bytes, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.run(lambda connection: connection.execute(statement, parameters).fetchall())

    def _run(self, action: Callable[[Connection], Result]) -> Result:
        with self._lock:
            if self._connection is None or self._connection.closed:
                self._connection = self._open()
            return action(self._connection)

    def _open(self) -> Connection:
        connection = connect(self._database_url)
        try:
            # a crash of the server can take the last instant's answers with it; they are asked for again
            connection.execute(query("commit_without_waiting"))
            self.on_open(connection)
        except BaseException:
            connection.close()
            raise
        return connection
