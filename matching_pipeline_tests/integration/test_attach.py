"""Attaching what is declared, again and otherwise; detaching and forgetting it."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach, detach
from matching_pipeline.sources.attached import differences, misfits, source_states, undeclared
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.reading import text_hash
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.notes import TRIGGERS, Notes, declared
from matching_pipeline_tests.integration.school import School


@pytest.fixture
def notes(connection: Connection) -> Notes:
    return Notes(connection)


def test_attaching_twice_changes_nothing_and_waits_for_no_transaction_of_the_app(
    notes: Notes, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.make()
    notes.attach()
    standing = "select oid, xmin::text from pg_trigger where tgname like 'matching_pipeline_note_%'"
    before = notes.connection.execute(standing.encode()).fetchall()
    assert notes.triggers() == TRIGGERS
    with psycopg.connect(database_url) as app:
        app.execute("insert into notes values (1, 'Baker')")
        attach(notes.connection, declared())
        assert notes.connection.execute(standing.encode()).fetchall() == before
    assert notes.pending() == ["1"]
    assert differences(notes.connection, Declarations.of([*EXAMPLES.sources])) != []
    assert misfits(notes.connection, declared()) == []


def test_two_sessions_attach_in_turn(notes: Notes, database_url: str) -> None:
    notes.make()

    def attach_in_a_session(_: int) -> None:
        with connect(database_url) as connection:
            attach(connection, declared())

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(attach_in_a_session, range(4)))
    assert notes.triggers() == TRIGGERS


def test_a_changed_declaration_changes_what_counts(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.attach()
    notes.run("insert into notes values (1, 'Baker', true), (2, 'Cook', false)")
    notes.work(database_url)
    assert notes.embedded() == [1, 2]
    shown = declared(when="t.shown")
    assert misfits(notes.connection, shown) == ["the source note is declared otherwise than it is attached"]
    attach(notes.connection, shown)
    notes.work(database_url)
    assert notes.embedded() == [1]
    notes.run("insert into notes values (3, 'Nurse', false)")
    assert notes.pending() == []
    attach(notes.connection, declared())
    notes.work(database_url)
    assert notes.embedded() == [1, 2, 3]


def test_the_triggers_of_a_parent_that_is_no_longer_declared_go(notes: Notes) -> None:
    notes.run("create table authors (id bigint primary key, is_known boolean)")
    notes.run("create table notes (id bigint primary key, title text, author bigint)")
    notes.attach(parent={"table": "authors", "on": "author"}, when="p.is_known", triggers="watch")
    parents = {f"watch_parent_{event}": "O" for event in ("insert", "update", "delete", "truncate")}
    assert notes.triggers("authors") == parents
    notes.attach()
    assert notes.triggers("authors") == {}
    assert notes.triggers() == TRIGGERS
    assert [state.problems for state in source_states(notes.connection) if state.name == "note"] == [[]]


def test_inserts_are_not_watched_where_a_foreign_key_makes_them_come_first(notes: Notes) -> None:
    notes.run("create table authors (id bigint primary key, is_known boolean)")
    notes.run("create table notes (id bigint primary key, title text, author bigint references authors)")
    parent = {"parent": {"table": "authors", "on": "author"}, "when": "p.is_known"}
    notes.attach(**parent)
    assert "matching_pipeline_note_parent_insert" not in notes.triggers("authors")
    notes.run("alter table notes drop constraint notes_author_fkey")
    (state,) = [state for state in source_states(notes.connection) if state.name == "note"]
    assert state.trigger_problems == ["matching_pipeline_note_parent_insert on public.authors is missing"]
    notes.attach(**parent)
    assert "matching_pipeline_note_parent_insert" in notes.triggers("authors")
    notes.run("alter table notes add foreign key (author) references authors")
    notes.attach(**parent)
    assert "matching_pipeline_note_parent_insert" not in notes.triggers("authors")


def test_two_code_locations_declare_different_things(notes: Notes, database_url: str) -> None:
    notes.make()
    here, there = declared(queue="here"), declared(queue="there")
    for declarations in (here, there):
        attach(notes.connection, declarations)
    assert "the source face is attached and not declared" in undeclared(notes.connection, here)
    assert "the source note fills queues that are not declared: there" in undeclared(notes.connection, here)
    assert misfits(notes.connection, here) == misfits(notes.connection, there) == []
    assert misfits(notes.connection, EXAMPLES) == []
    notes.settle()
    notes.run("insert into notes values (1, 'Baker')")
    assert sorted(notes.run("select queue from matching_pipeline.jobs")) == ["here", "there"]
    assert +notes.work(database_url, "here").counts == {"completed": 1}
    # once it is detached, the queues of one location are enough
    detach(notes.connection, "note")
    attach(notes.connection, here)
    notes.settle()
    notes.run("insert into notes values (2, 'Cook')")
    assert notes.run("select queue from matching_pipeline.jobs") == ["here"]


def test_the_triggers_of_the_app_run_before_and_after_ours(notes: Notes, database_url: str) -> None:
    """Also one that edits the row just inserted."""
    notes.make()
    notes.run(
        "create function shout() returns trigger language plpgsql as "
        "'begin update notes set title = upper(new.title), id = new.id + 100 where id = new.id and new.id < 100; "
        "return null; end'"
    )
    for name in ("a_shout", "z_shout"):
        notes.run(f"create trigger {name} after insert on notes for each row execute function shout()")
    attach(notes.connection, declared(text=["t.title", "t.id"]))
    notes.settle()
    notes.run("insert into notes values (1, 'Baker'), (2, 'Cook')")
    notes.work(database_url)
    assert notes.embedded() == [101, 102]
    (stored,) = notes.run("select content_hash from matching_pipeline.items where key = '101'")
    assert stored == text_hash("BAKER\n\n101")
    assert notes.mirrored() == ["101", "102"]


def test_a_key_that_a_trigger_of_the_app_inserts_again_is_embedded(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.run(
        "create function keep_title() returns trigger language plpgsql as "
        "'begin insert into notes (id, title) select id, ''again'' from gone; return null; end'"
    )
    notes.run(
        "create trigger a_keep_title after delete on notes referencing old table as gone "
        "for each statement execute function keep_title()"
    )
    notes.attach()
    notes.run("insert into notes values (1, 'Baker')")
    notes.work(database_url)
    notes.run("delete from notes")
    notes.work(database_url)
    assert notes.embedded() == [1]
    (stored,) = notes.run("select content_hash from matching_pipeline.items where key = '1'")
    assert stored == text_hash("again")


def test_an_edit_that_was_open_while_its_column_became_an_input_counts(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.run("insert into notes values (1, 'Baker', true)")
    notes.attach()
    notes.work(database_url)
    with ThreadPoolExecutor(1) as thread, psycopg.connect(database_url) as app:
        app.execute("update notes set shown = false")
        attaching = thread.submit(attach, notes.connection, declared(text=["t.title", "t.shown"]))
        with pytest.raises(TimeoutError):
            attaching.result(timeout=1)
        app.commit()
        attaching.result(timeout=30)
    notes.work(database_url)
    (stored,) = notes.run("select content_hash from matching_pipeline.items where key = '1'")
    assert stored == text_hash("Baker\n\nfalse")


def test_a_transaction_that_is_rolled_back_leaves_nothing(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.attach()
    notes.run("insert into notes values (1, 'Baker')")
    notes.work(database_url)
    everything = (
        "select (select count(*) from matching_pipeline.jobs), (select count(*) from matching_pipeline.embeddings)"
    )
    before = notes.connection.execute(everything.encode()).fetchall()
    with notes.connection.transaction(force_rollback=True):
        notes.run("insert into notes values (2, 'Cook')")
        notes.run("update notes set title = 'Nurse'")
        notes.run("delete from notes where id = 1")
        notes.run("truncate notes")
        assert notes.embedded() == []
    assert notes.connection.execute(everything.encode()).fetchall() == before
    assert notes.embedded() == [1]


def test_a_failed_attach_leaves_the_source_as_it_was(notes: Notes) -> None:
    notes.make()
    notes.attach()
    with pytest.raises(ConfigurationError):
        attach(notes.connection, declared(when="t.colour = 'red'"))
    assert misfits(notes.connection, declared()) == []
    assert notes.triggers() == TRIGGERS


def test_a_source_is_detached_and_attached_again(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.attach()
    notes.run("insert into notes values (1, 'Baker'), (2, 'Cook')")
    notes.work(database_url)
    notes.run("update notes set title = 'Chef' where id = 2")
    detach(notes.connection, "note")
    assert notes.triggers() == {}
    assert notes.run("select proname from pg_proc where proname ~ '^note_(entity|parent|item)_changed$'") == []
    (state,) = [state for state in source_states(notes.connection) if state.name == "note"]
    assert (state.is_attached, state.mirrored, state.unfinished, state.problems) == (False, 2, 0, [])
    assert misfits(notes.connection, declared()) == ["the source note is declared and not attached"]
    notes.run("delete from notes where id = 1")
    notes.run("insert into notes values (3, 'Nurse')")
    assert notes.embedded() == [1, 2]
    attach(notes.connection, declared())
    notes.work(database_url)
    assert notes.embedded() == [2, 3]


def test_a_forgotten_source_leaves_nothing(notes: Notes, database_url: str) -> None:
    notes.make()
    notes.attach()
    notes.run("insert into notes values (1, 'Baker')")
    notes.work(database_url)
    notes.run("insert into notes values (2, 'Cook')")
    detach(notes.connection, "note", forget=True)
    for table in ("sources", "entities", "items", "embeddings", "jobs"):
        column = "name" if table == "sources" else "source"
        assert notes.run(f"select count(*) from matching_pipeline.{table} where {column} = 'note'") == [0], table
    assert notes.run("select count(*) from notes") == [2]
    attach(notes.connection, declared())
    notes.work(database_url)
    assert notes.embedded() == [1, 2]


def test_forgetting_a_source_forgets_its_matchers(connection: Connection) -> None:
    notes = Notes(connection)
    detach(connection, "product", forget=True)
    assert notes.run("select name from matching_pipeline.matchers") == ["face"]
    assert notes.run("select matcher from matching_pipeline.match_settings") == ["face"]
    assert misfits(connection, EXAMPLES) == [
        "the source product is declared and not attached",
        "the matcher project is declared and not attached",
    ]
    notes.listing_image(notes.listing())
    assert notes.run("select queue from matching_pipeline.jobs") == ["image_ai"]
    attach(connection, EXAMPLES)
    assert differences(connection, EXAMPLES) == []


def test_a_matcher_that_compares_otherwise_matches_every_entity_again(
    connection: Connection, database_url: str
) -> None:
    school = School(connection, database_url)
    faces = {school.face_of("female"), school.face_of("male")}
    school.process()
    school.settle()
    attach(connection, EXAMPLES)
    assert school.queued() == set()
    face = EXAMPLES.matchers[1].model_copy(update={"same": ()})
    matches = EXAMPLES.matches[0].model_copy(update={"matchers": (EXAMPLES.matchers[0], face)})
    attach(connection, EXAMPLES.model_copy(update={"matches": (matches,)}))
    assert school.queued() == faces


def test_an_expression_of_the_whole_row_is_watched(connection: Connection) -> None:
    posting = EXAMPLES.source("posting").model_copy(update={"text": ("to_jsonb(t) ->> 'title'",)})
    others = tuple(source for source in EXAMPLES.sources if source.name != "posting")
    attach(connection, EXAMPLES.model_copy(update={"sources": (*others, posting)}))
    connection.execute("insert into jobs (title) values ('Baker')")
    connection.execute("delete from matching_pipeline.jobs")
    connection.execute("update jobs set title = 'Cook'")
    assert connection.execute("select count(*) from matching_pipeline.jobs where source = 'posting'").fetchone() == (
        1,
    )


@pytest.mark.parametrize(
    ("column", "before", "after"), [("numeric", "1.0", "1.00"), ("json", '{"a": 1}', '{"a": 2}')]
)
def test_a_value_that_is_written_otherwise_is_a_change(
    connection: Connection, column: str, before: str, after: str
) -> None:
    connection.execute(f"create table notes (id bigint primary key, said {column})".encode())
    attach(connection, Declarations(sources=(Source(name="note", table="public.notes", text=("t.said",)),)))
    connection.execute("update matching_pipeline.sources set queues = '{image_ai}' where name = 'note'")
    connection.execute("insert into notes values (1, %s)", (before,))
    connection.execute("delete from matching_pipeline.jobs")
    connection.execute("update notes set said = %s", (after,))
    rows = connection.execute("select kind, key from matching_pipeline.jobs").fetchall()
    assert rows == [("entity", "1")]
