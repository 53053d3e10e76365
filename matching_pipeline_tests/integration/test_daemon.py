"""A database has only one daemon of Dagster."""

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from matching_pipeline.cli.daemon import interrupted_without, only_daemon
from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.command import run_command


def test_a_second_daemon_is_refused_and_told_of_the_first(database_url: str, tmp_path: Path) -> None:
    with only_daemon(database_url) as session, interrupted_without(session):
        second = run_command(tmp_path, "daemon", "-w", "workspace.yaml", DATABASE_URL=database_url)
    assert second.returncode == 1
    first = f"daemon: process {os.getpid()} on {socket.gethostname()}, since "
    assert second.stderr.startswith(f"matching-pipeline: another Dagster daemon runs for this database, {first}")
    with only_daemon(database_url):
        """The first has ended."""


def test_a_daemon_whose_session_ends_is_interrupted(connection: Connection, database_url: str) -> None:
    def run() -> None:
        with only_daemon(database_url) as session, interrupted_without(session), ThreadPoolExecutor() as pool:
            # in this thread the interruption could meet the statement
            pool.submit(connection.execute, "select pg_terminate_backend(%s)", [session.info.backend_pid])
            threading.Event().wait(30)

    with pytest.raises(psycopg.OperationalError, match="another daemon may have begun"):
        run()
