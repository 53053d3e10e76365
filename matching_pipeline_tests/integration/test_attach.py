"""Attaching what is declared: any table that fits, and all that does not fit named at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach, detach, differences, misfits, source_states, undeclared
from matching_pipeline.sources.declarations import Declarations, GeneratedImages, ImageEmbeddings, Matches
from matching_pipeline.sources.reading import text_hash
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.notes import Notes, declared
from matching_pipeline_tests.integration.school import School

TRIGGERS = {f"matching_pipeline_note_{event}": "O" for event in ("insert", "update", "delete", "truncate")}


NOT_UNIQUE = ": it needs a unique index, neither partial nor deferrable"
OF_YOURS = ": write the name of one of yours; `matching-pipeline attach --guess` proposes some"


@pytest.fixture
def notes(connection: Connection) -> Notes:
    return Notes(connection)


def refusal(connection: Connection, declarations: Declarations) -> list[str]:
    """What is said of declarations that do not fit; nothing is attached then."""
    before = connection.execute("select name, attached_at from matching_pipeline.sources").fetchall()
    with pytest.raises(ConfigurationError) as caught:
        attach(connection, declarations)
    assert connection.execute("select name, attached_at from matching_pipeline.sources").fetchall() == before
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("type", "keys"),
    [
        ("uuid", ["00000000-0000-0000-0000-000000000001", "ffffffff-0000-0000-0000-000000000000"]),
        ("smallint", [-3, 7]),
        ("integer", [-2000000000, 10]),
        ("bigint", [9, 9000000000000000000]),
        ("text", ["", 'Ünï "quoted" ~ key\\']),
        ("varchar(40)", ["a", "b c"]),
    ],
)
def test_a_key_may_have_any_of_these_types(notes: Notes, database_url: str, type: str, keys: list[Any]) -> None:
    notes.make(type)
    notes.run("insert into notes values (%s, 'before')", keys[0])
    attach(notes.connection, declared())
    notes.run("insert into notes values (%s, 'Baker')", keys[1])
    notes.work(database_url)
    assert {str(key) for key in notes.embedded()} == {str(key) for key in keys}
    (exposed,) = notes.run("select pg_typeof(note_id)::text from note_embeddings limit 1")
    assert exposed == {"varchar(40)": "character varying"}.get(type, type)
    notes.run("delete from notes where id = %s", keys[1])
    assert [str(key) for key in notes.embedded()] == [str(keys[0])]
    notes.run("truncate notes")
    assert notes.embedded() == []
    assert notes.mirrored() == []


@pytest.mark.parametrize(
    ("type", "named"),
    [
        ("numeric(9,0)", "numeric(9,0)"),
        ("timestamptz", "timestamp with time zone"),
        ("char(3)", "character(3)"),
        ("bytea", "bytea"),
        ("bigint[]", "bigint[]"),
        ("short", "short"),
    ],
)
def test_a_key_of_another_type_is_refused_by_name(notes: Notes, type: str, named: str) -> None:
    notes.run("create domain short as text")
    notes.make(type)
    assert refusal(notes.connection, declared()) == [
        f"source note: key: id of public.notes is a {named}: "
        "a key is a uuid, smallint, integer, bigint, text or varchar"
    ]


@pytest.mark.parametrize(
    "constraint",
    [
        "check (id > 0)",
        "unique (id, title)",
        "unique (id) deferrable",
        "exclude using btree (id with =)",
    ],
)
def test_a_key_is_unique_at_once(notes: Notes, constraint: str) -> None:
    notes.run(f"create table notes (id bigint not null, title text, {constraint})")
    notes.run("create unique index on notes (id) where title is null")
    assert refusal(notes.connection, declared()) == [
        "source note: key: id of public.notes is not unique" + NOT_UNIQUE
    ]


@pytest.mark.parametrize(
    ("schema", "table", "key", "title"),
    [
        ("public", '"Note"', "noteId", '"Title"'),
        ("Shop Floor", '"My ""Notes"""', 'the "key"', '"a title"'),
        ("shop", "notes", "select", '"order"'),
    ],
)
def test_names_may_be_quoted_and_of_any_schema(
    notes: Notes, database_url: str, schema: str, table: str, key: str, title: str
) -> None:
    quoted_key = '"' + key.replace('"', '""') + '"'
    full_name = f'"{schema}".{table}'
    notes.run(f'create schema if not exists "{schema}"')
    notes.run(f"create table {full_name} ({quoted_key} bigint primary key, {title} text, shown boolean default true)")
    attach(notes.connection, declared(table=full_name, key=key, text=f"t.{title}", when="t.shown"))
    notes.run(f"insert into {full_name} values (1, 'Baker'), (2, 'Cook')")
    notes.work(database_url)
    assert notes.embedded() == [1, 2]
    notes.run(f"update {full_name} set shown = false where {quoted_key} = 1")
    notes.work(database_url)
    assert notes.embedded() == [2]
    notes.run(f"truncate {full_name}")
    assert notes.embedded() == []
    assert not [problem for state in source_states(notes.connection) for problem in state.problems]


def test_pictures_and_parents_may_be_quoted_too(notes: Notes) -> None:
    notes.run('create schema "Shop"')
    notes.run('create table "Shop"."Owner" ("ownerId" text primary key, "isOpen" boolean)')
    notes.run('create table "Shop"."Thing" ("Id" integer primary key, "ownerId" text references "Shop"."Owner")')
    notes.run(
        'create table "Shop"."Photo" ("Id" bigint primary key, "thingId" int references "Shop"."Thing", "Url" text)'
    )
    thing = Source.model_validate(
        {
            "name": "thing",
            "table": '"Shop"."Thing"',
            "key": "Id",
            "parent": {"table": '"Shop"."Owner"', "key": "ownerId", "on": "ownerId"},
            "when": 'p."isOpen"',
            "pictures": {"table": '"Shop"."Photo"', "key": "Id", "entity": "thingId", "url": "Url"},
        }
    )
    attach(notes.connection, Declarations.of([thing, ImageEmbeddings(name="photos", sources=("thing",))]))
    notes.settle()
    notes.run("""insert into "Shop"."Owner" values ('Ann', true)""")
    notes.run("""insert into "Shop"."Thing" values (1, 'Ann')""")
    notes.run("""insert into "Shop"."Photo" values (10, 1, 'file:///lamp.png')""")
    notes.run("""update "Shop"."Owner" set "isOpen" = false""")
    kinds = "select kind, key from matching_pipeline.jobs where queue = 'photos' order by kind"
    assert notes.connection.execute(kinds.encode()).fetchall() == [("item", "10"), ("parent", "Ann")]
    read = (
        "select entity_key, applies, parent_key, item_key, content "
        "from matching_pipeline.read_source('thing', 'item', '{10}')"
    )
    assert notes.connection.execute(read.encode()).fetchall() == [("1", False, "Ann", "10", "file:///lamp.png")]


def test_all_misfits_of_all_sources_are_named_at_once(notes: Notes) -> None:
    notes.run("create table notes (id timestamp primary key, title text, author uuid)")
    notes.run('create table authors (id bigint, "Name" text)')
    note = {
        "name": "note",
        "table": "notes",
        "user": "owner",
        "parent": {"table": "authors", "on": "author"},
        "when": "t.title",
        "properties": {"name": "p.name", "title": "t.title"},
        "text": ["t.tilte", "lower(t.author)"],
    }
    photo = {"name": "photo", "table": "Photos", "pictures": {"table": "gone", "entity": "photo", "url": "url"}}
    face = {"name": "shot", "table": "notes", "key": "Title", "vector": "title"}
    declarations = Declarations.of([Source.model_validate(each) for each in (note, photo, face)])
    assert set(refusal(notes.connection, declarations)) == {
        "source note: key: id of public.notes is a timestamp without time zone: "
        "a key is a uuid, smallint, integer, bigint, text or varchar",
        "source note: user: public.notes has no column owner",
        "source note: parent.key: id of public.authors is not unique" + NOT_UNIQUE,
        "source note: parent.on: operator does not exist: bigint = uuid",
        "source note: when: t.title of public.notes: its value is a text, not a boolean",
        "source note: properties.name: p.name of public.notes: column p.name does not exist: "
        'Perhaps you meant to reference the column "p.Name".',
        "source note: text: t.tilte of public.notes: column t.tilte does not exist: "
        'Perhaps you meant to reference the column "t.title".',
        "source note: text: lower(t.author) of public.notes: function lower(uuid) does not exist",
        "source photo: table: there is no table public.Photos" + OF_YOURS,
        "source photo: pictures.table: there is no table public.gone" + OF_YOURS,
        'source shot: key: public.notes has no column "Title", but title',
    }  # fmt: skip


def test_a_name_in_another_case_is_named(notes: Notes) -> None:
    notes.run('create table "Notes" (id bigint primary key, title text)')
    assert refusal(notes.connection, declared(table="Notes")) == [
        'source note: table: there is no table public.Notes, but public."Notes"'
    ]


@pytest.mark.parametrize("table", ["jobs", "sources", "entities", "embeddings", "matches", "migrations", "workers"])
def test_a_table_of_the_pipeline_is_refused(notes: Notes, table: str) -> None:
    assert refusal(notes.connection, declared(table=f"matching_pipeline.{table}")) == [
        f"source note: table: matching_pipeline.{table} is a table of the pipeline itself"
    ]


@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_what_has_no_triggers_is_refused(notes: Notes, kind: str) -> None:
    notes.run(f"create {kind} notes as select 1::bigint as id, 'x' as title")
    assert refusal(notes.connection, declared()) == [
        f"source note: table: public.notes is a {kind}, which has no triggers: "
        "declare the table behind it, and write what it computes as expressions"
    ]


def test_an_exposed_view_of_ours_is_refused(notes: Notes) -> None:
    assert refusal(notes.connection, declared(table="public.job_queue")) == [
        "source note: table: public.job_queue is a view, which has no triggers: "
        "declare the table behind it, and write what it computes as expressions"
    ]


def test_a_status_that_cannot_say_what_is_to_be_said_is_refused(notes: Notes) -> None:
    notes.run("create type state as enum ('DRAFT', 'PENDING', 'COMPLETED')")
    notes.run("create table studios (id uuid primary key, url text, status state)")
    studio = {"name": "studio", "table": "studios", "photo": "t.url", "write_back": {"status": "status"}}
    made = GeneratedImages(name="made", source="studio")
    declarations = Declarations.of([Source.model_validate(studio), made])
    assert refusal(notes.connection, declarations) == [
        "source studio: write_back: status of public.studios cannot be FAILED, PROCESSING"
    ]
    studio["write_back"] = {"status": "status", "processing": "PENDING", "failed": "DRAFT"}
    attach(notes.connection, Declarations.of([Source.model_validate(studio), made]))


def test_opposite_words_that_an_enum_does_not_have_are_refused(notes: Notes) -> None:
    notes.run("create type gender as enum ('woman', 'man', 'other')")
    notes.run("create table shots (id uuid primary key, gender gender, embedding vector)")
    shot = {"name": "shot", "table": "shots", "properties": {"gender": "t.gender"}, "vector": "embedding"}

    def opposing(*words: str) -> Declarations:
        matcher = {
            "name": "shot",
            "left": "shot",
            "right": "shot",
            "columns": ["a", "b"],
            "opposite": {"gender": words},
        }
        return Declarations.of([Source.model_validate(shot), Matches.model_validate({"matchers": [matcher]})])

    assert refusal(notes.connection, opposing("male", "female")) == [
        "matcher shot: opposite: gender of the source shot is never male or female, only woman, man, other"
    ]
    attach(notes.connection, opposing("woman", "man"))


def test_a_trigger_of_the_app_is_not_replaced(notes: Notes) -> None:
    notes.make()
    notes.run("create function theirs() returns trigger language plpgsql as 'begin return null; end'")
    notes.run("create trigger audit_delete after delete on notes for each statement execute function theirs()")
    assert refusal(notes.connection, declared(triggers="audit")) == [
        "source note: triggers: public.notes has a trigger audit_delete already: "
        "declare another name for the triggers"
    ]
    assert notes.run("select tgfoid::regproc::text from pg_trigger where tgname = 'audit_delete'") == ["theirs"]
    attach(notes.connection, declared())
    assert notes.triggers() == TRIGGERS


def test_a_view_of_the_app_is_not_replaced(notes: Notes) -> None:
    notes.make()
    notes.run("create view note_embeddings as select 'theirs' as whose")
    warnings: list[str | None] = []
    notes.connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
    attach(notes.connection, declared())
    assert warnings == ["public.note_embeddings is not made: the app has a relation of that name"]
    assert notes.run("select whose from note_embeddings") == ["theirs"]


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


def test_a_key_of_another_type_than_before_is_said(notes: Notes, database_url: str) -> None:
    notes.make("integer")
    notes.attach()
    notes.run("alter table notes alter id type bigint")
    (state,) = [state for state in source_states(notes.connection) if state.name == "note"]
    assert state.problems == [
        "the columns of public.notes have other types or another index now: `matching-pipeline attach` mends it"
    ]
    assert state.needs_attaching
    attach(notes.connection, declared())
    notes.run("insert into notes values (9000000000, 'Baker')")
    notes.work(database_url)
    assert notes.embedded() == [9000000000]
    assert [state.problems for state in source_states(notes.connection) if state.name == "note"] == [[]]


def test_a_failed_attach_leaves_the_source_as_it_was(notes: Notes) -> None:
    notes.make()
    notes.attach()
    refusal(notes.connection, declared(when="t.colour = 'red'"))
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


def test_schemas_that_are_not_there_are_named_at_once(connection: Connection) -> None:
    images = EXAMPLES.images[0].model_copy(update={"expose": "nowhere"})
    texts = EXAMPLES.texts[0].model_copy(update={"expose": "elsewhere"})
    assert refusal(connection, EXAMPLES.model_copy(update={"images": (images,), "texts": (texts,)})) == [
        "image_ai: expose: there is no schema nowhere",
        "job_embeddings: expose: there is no schema elsewhere",
    ]


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
