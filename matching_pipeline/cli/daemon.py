"""`matching-pipeline daemon`: Dagster's daemon, once for a database."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points

import click
import psycopg

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import require_migrated
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings


@click.command("daemon", context_settings={"ignore_unknown_options": True})
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def daemon_command(options: tuple[str, ...]) -> None:
    """Run Dagster's daemon; a second one for the same database is refused.

    OPTIONS are those of `dagster-daemon run`, such as `-w workspace.yaml`. It ends with status 1 when its session on
    the database ends: let a supervisor start it again.
    """
    (dagster_daemon,) = entry_points(group="console_scripts", name="dagster-daemon")
    sys.argv = ["dagster-daemon", "run", *options]
    with only_daemon(resolve_database_url(Settings())) as session, interrupted_without(session):
        dagster_daemon.load()()


@contextmanager
def only_daemon(database_url: str) -> Iterator[Connection]:
    """Raises ConfigurationError where another daemon of this database runs, and names its process."""
    name = f"daemon: process {os.getpid()} on {socket.gethostname()}"
    with connect(database_url, application_name=name) as session:
        require_migrated(session)
        if session.execute(query("hold_daemon")).fetchone() != (True,):
            holders = named_rows(session, "daemon_holder")
            told = "".join(f", {each['name']}, since {each['since']:%Y-%m-%d %H:%M} UTC" for each in holders)
            raise ConfigurationError(f"another Dagster daemon runs for this database{told}: end it first")
        yield session


@contextmanager
def interrupted_without(session: Connection) -> Iterator[None]:
    """Interrupts the block when the session ends, and raises psycopg.OperationalError then."""
    done, lost = threading.Event(), threading.Event()

    def watch() -> None:
        try:
            while not done.is_set():
                for _ in session.notifies(timeout=1):
                    """Nothing is listened for."""
        except psycopg.OperationalError:
            lost.set()
            os.kill(os.getpid(), signal.SIGINT)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
        if lost.is_set():
            raise psycopg.OperationalError("the session on the database ended, so another daemon may have begun")
