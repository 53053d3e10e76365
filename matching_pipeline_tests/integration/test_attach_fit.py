"""Which tables, columns and keys can be attached. All that does not fit is named at once."""

from typing import Any

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.attached import source_states
from matching_pipeline.sources.declarations import Declarations, GeneratedImages, ImageEmbeddings, Matches
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.notes import TRIGGERS, Notes, declared

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


def test_a_key_of_another_type_than_before_is_said(notes: Notes, database_url: str) -> None:
    notes.make("integer")
    notes.attach()
    notes.run("alter table notes alter id type bigint")
    (state,) = [state for state in source_states(notes.connection) if state.name == "note"]
    assert state.problems == [
        "the columns of public.notes have other types or another index now: `matching-pipeline attach` repairs it"
    ]
    assert state.needs_attaching
    attach(notes.connection, declared())
    notes.run("insert into notes values (9000000000, 'Baker')")
    notes.work(database_url)
    assert notes.embedded() == [9000000000]
    assert [state.problems for state in source_states(notes.connection) if state.name == "note"] == [[]]


def test_schemas_that_are_not_there_are_named_at_once(connection: Connection) -> None:
    images = EXAMPLES.images[0].model_copy(update={"expose": "nowhere"})
    texts = EXAMPLES.texts[0].model_copy(update={"expose": "elsewhere"})
    assert refusal(connection, EXAMPLES.model_copy(update={"images": (images,), "texts": (texts,)})) == [
        "image_ai: expose: there is no schema nowhere",
        "job_embeddings: expose: there is no schema elsewhere",
    ]
