"""The session of a worker, which opens again after it was lost."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.queues import client

LOOK_SECONDS = 2.0
"""While a batch is done, the worker looks this often whether its session still is."""
RECONNECT_SECONDS = 120.0

Result = TypeVar("Result")


class WorkerSession:
    """A session that listens for new jobs. Its advisory locks say which worker this is, and that the queue has one.

    `on_reopen` runs with each session that takes the place of a lost one, and the seconds that it took.
    """

    def __init__(
        self,
        database_url: str,
        queue: str,
        *,
        claimer: int | None = None,
        slots: int = 64,
        on_reopen: Callable[[Connection, float], None],
    ) -> None:
        self._database_url = database_url
        self._queue = queue
        self._claimer = claimer or client.process_claimer()
        self._slots = slots
        self._on_reopen = on_reopen
        self._looked = 0.0

    def open(self) -> bool:
        """Whether the queue had room for one more worker."""
        self.connection = connect(self._database_url)
        return self._enter()

    def close(self) -> None:
        self.connection.close()

    def run(self, action: Callable[[Connection], Result]) -> Result:
        """Runs the action, on a new session if the old one is lost."""
        until = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                result = action(self.connection)
                self._looked = time.monotonic()
                return result
            except psycopg.OperationalError:
                if not self.connection.closed or time.monotonic() > until:
                    raise
                self.reopen(until)

    def look(self) -> None:
        """Notices soon that the session is lost: without one the worker counts as gone."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self.run(lambda connection: connection.execute(query("look_at_session")))

    def reopen(self, until: float | None = None) -> None:
        began = time.monotonic()
        until = until or began + RECONNECT_SECONDS
        while True:
            try:
                self.open()
                self._on_reopen(self.connection, time.monotonic() - began)
                return
            # the server's name and the role existed before, so a failure to find them may pass
            except (psycopg.OperationalError, ConfigurationError):
                with suppress(psycopg.Error):
                    self.connection.close()
                if time.monotonic() > until:
                    raise
                time.sleep(random.uniform(0.2, 1))

    def _enter(self) -> bool:
        self.connection.execute(query("switch_off_compilation"))
        client.listen(self.connection)
        client.enter_as_claimer(self.connection, self._claimer)
        return client.take_worker_slot(self.connection, self._queue, self._slots) is not None
