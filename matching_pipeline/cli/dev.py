"""The whole pipeline on one machine: the database, Dagster's processes, and a clean end of both."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from dotenv import dotenv_values

from matching_pipeline.cli.daemon import only_daemon
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import worker_states
from matching_pipeline.settings import Settings

PR_SET_PDEATHSIG = 1
STOP_SECONDS = 6.0
"""How long workers may take to finish their batch. Another worker does the jobs of those that are killed then."""


def require_one_value_each() -> None:
    """Raises ConfigurationError if `.env` and the environment differ: Dagster prefers `.env`, unlike us."""
    for name, value in dotenv_values(".env").items():
        if value and os.environ.get(name, "") not in ("", value):
            raise ConfigurationError(f"{name}: .env and the environment have different values: remove one of them")


@contextmanager
def running_dagster(
    settings: Settings, database_url: str, port: int, environment: dict[str, str]
) -> Iterator["Dagster"]:
    """Webserver, daemon and code location, until the block ends."""
    home = settings.data_dir.resolve() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    log = home / "dagster.log"
    command = [
        *(sys.executable, "-m", "dagster", "dev", "--workspace", str(ROOT / "workspace.yaml")),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
    ]
    with only_daemon(database_url), log.open("a") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment, "DAGSTER_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
            # we pass Ctrl-C on in our own order; and a shell may have left SIGINT ignored for background jobs
            start_new_session=True,
            preexec_fn=_default_signals,
        )
        dagster = Dagster(process, port, log)
        try:
            yield dagster
        finally:
            dagster.stop(database_url)


class Dagster:
    """The running processes; all are in the session of the first."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self._process = process
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def wait_until_serving(self, seconds: float = 120) -> None:
        """Raises ConfigurationError if Dagster ends or does not answer in time."""
        deadline = time.monotonic() + seconds
        address = self.url.removeprefix("http://").split(":")
        while time.monotonic() < deadline:
            self.require_alive()
            with suppress(OSError), socket.create_connection((address[0], int(address[1])), timeout=1):
                return
            time.sleep(0.2)
        raise ConfigurationError(f"Dagster did not answer within {seconds:.0f} s; its log is {self.log}")

    def require_alive(self) -> None:
        if self._process.poll() is not None:
            tail = "\n".join(self.log.read_text().splitlines()[-15:])
            raise ConfigurationError(f"Dagster ended by itself; the end of its log {self.log}:\n{tail}")

    def stop(self, database_url: str) -> None:
        """Ends Dagster, whose sensors would start another worker, while the workers finish their batch."""
        deadline = time.monotonic() + STOP_SECONDS
        self._signal(signal.SIGINT)
        with suppress(psycopg.Error, ConfigurationError), connect(database_url) as connection:
            _wait_for(lambda: _none_works(connection) and not self._group_is_alive(), deadline)
        _wait_for(lambda: not self._group_is_alive(), deadline)
        self._signal(signal.SIGKILL, group=True)
        self._process.wait()
        with suppress(psycopg.Error, ConfigurationError), connect(database_url) as connection:
            # a killed worker does not delete its row
            gone = [worker.id for worker in worker_states(connection) if not worker.alive]
            connection.execute(query("delete_workers"), {"ids": gone})

    def _signal(self, number: signal.Signals, *, group: bool = False) -> None:
        with suppress(ProcessLookupError):
            if group:
                os.killpg(self._process.pid, number)
            elif self._process.poll() is None:
                os.kill(self._process.pid, number)

    def _group_is_alive(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return False
        return True


def wait_until_idle(
    connection: Connection,
    dagster: Dagster,
    queues: Sequence[str],
    on_look: Callable[[Connection], None],
    follow_log: Callable[[], None],
) -> None:
    """Returns once no job is due or processing in any queue, seen twice."""
    quiet = 0
    while quiet < 2:
        dagster.require_alive()
        follow_log()
        on_look(connection)
        states = [client.status(connection, queue) for queue in queues]
        busy = any(state["processing"] or (state["due"] and not state["paused_until"]) for state in states)
        quiet = 0 if busy else quiet + 1
        time.sleep(1)


def run_until_interrupted(dagster: Dagster, follow_log: Callable[[], None]) -> None:
    with suppress(KeyboardInterrupt):
        while True:
            dagster.require_alive()
            follow_log()
            time.sleep(0.5)


def free_port(preferred: int) -> int:
    """The preferred port, or one that the system picks if it is taken."""
    for port in (preferred, 0):
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                candidate.bind(("127.0.0.1", port))
                return int(candidate.getsockname()[1])
    raise ConfigurationError("no port is free on 127.0.0.1")


def _none_works(connection: Connection) -> bool:
    """Tells workers to stop, each time: one that was just starting did not hear the call before."""
    # a run that has not started by now is killed
    connection.execute(query("delete_requested_workers"))
    client.stop_all(connection)
    return not client.workers_alive(connection) and not any(worker.alive for worker in worker_states(connection))


def _wait_for(condition: Callable[[], bool], deadline: float) -> None:
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        # if the parent is killed, the kernel ends Dagster
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)
