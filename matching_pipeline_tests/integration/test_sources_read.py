"""Rows of the app as workers read them: expressions that fail, tables that change, any key, any statement."""

from collections.abc import Sequence
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import SourceUnreadable
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.reading import read_each
from matching_pipeline.sources.source import Parent
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, work_images
from matching_pipeline_tests.fixtures.postings import LetterEmbedder
from matching_pipeline_tests.integration.notes import Notes
from matching_pipeline_tests.integration.school import School


def examples_with(name: str, **changes: Any) -> Declarations:
    """The examples with one source changed."""
    sources = [source.model_copy(update=changes) if source.name == name else source for source in EXAMPLES.sources]
    return EXAMPLES.model_copy(update={"sources": tuple(sources)})


@pytest.fixture
def notes(connection: Connection, database_url: str) -> Notes:
    return Notes(connection, database_url)


@pytest.mark.parametrize(
    ("expression", "state"),
    [
        ("(t.amount::integer)::text", "22P02"),
        ("(100 / length(t.amount))::text", "22012"),
        ("strict(t.amount)", "P0001"),
    ],
)
def test_an_expression_that_fails_for_one_row_of_a_thousand_fails_its_job_only(
    notes: Notes, expression: str, state: str
) -> None:
    notes.run(
        "create function public.strict(word text) returns text language plpgsql as "
        "'begin if word = '''' then raise exception ''no word''; end if; return word; end'"
    )
    notes.attach(text=("t.title", expression))
    notes.run(
        "insert into notes (id, title, amount) select number, 'Note ' || number, "
        "case when number = 487 then '' else number::text end from generate_series(1, 1000) as number"
    )
    embedder = LetterEmbedder(batch_items=500, batch_tokens=100_000)
    assert notes.work(embedder).counts["failed"] == 1
    assert notes.embedded().keys() == {str(number) for number in range(1, 1001)} - {"487"}
    assert notes.failed() == {"487": f"an expression of the source note fails for this row: SQLSTATE {state}"}
    notes.run("update notes set amount = '487' where id = 487")
    notes.work(embedder)
    assert len(notes.embedded()) == 1000
    assert notes.failed() == {}


def test_a_result_stays_while_the_expression_fails(notes: Notes) -> None:
    notes.attach(text=("t.title", "(t.amount::integer)::text"))
    notes.add("Baker")
    notes.work()
    before = notes.embedded()
    notes.run("update notes set amount = 'secret'")
    notes.work()
    assert notes.embedded() == before
    assert "secret" not in notes.failed()["1"]


def test_a_row_whose_expression_begins_to_fail_before_the_result_is_written_fails_alone(notes: Notes) -> None:
    notes.attach(text=("t.title", "(t.amount::integer)::text"))
    notes.add("Baker", "Cook", "Nurse")

    def spoil(texts: Sequence[str]) -> None:
        notes.run("update notes set amount = 'secret' where id = 2")

    notes.work(LetterEmbedder(spoil))
    assert notes.embedded().keys() == {"1", "3"}
    assert notes.failed().keys() == {"2"}
    assert "secret" not in str(
        notes.connection.execute("select error_message from matching_pipeline.jobs").fetchall()
    )


def test_a_picture_whose_expression_fails_fails_alone(connection: Connection, database_url: str) -> None:
    app = App(connection)
    connection.execute("alter table listings add label text default '1'")
    attach(connection, examples_with("project", properties={"label": "(t.label::integer)::text"}))
    good, bad = (app.listing_image(app.listing()) for _ in range(2))
    app.run(
        "update listings set label = 'secret' where id = (select listing_id from listing_images where id = %s)", bad
    )
    work_images(database_url, CountingAnalyzer())
    failed = connection.execute("select key, error_message from matching_pipeline.jobs where status = 'failed'")
    reasons: dict[str, str] = dict(failed.fetchall())
    assert "SQLSTATE 22P02" in reasons[str(bad)]
    assert "SQLSTATE" not in reasons[str(good)]


def test_a_vector_whose_expression_fails_fails_alone_and_keeps_its_pairs(
    connection: Connection, database_url: str
) -> None:
    school = School(connection, database_url)
    school.run("alter table profiles add label text default '1'")
    properties = {"school": "p.school", "gender": "p.gender", "label": "(p.label::integer)::text"}
    attach(connection, examples_with("face", properties=properties))
    a, b = school.face_of("male"), school.face_of("female")
    school.process()
    assert school.pairs() == {frozenset((a, b))}
    school.run("update profiles set label = 'secret' where id = (select user_id from faces where id = %s)", a)
    c = school.face_of("female")
    school.process()
    assert school.pairs() == {frozenset((a, b)), frozenset((a, c))}
    ((status, reason),) = connection.execute(
        "select status, error_message from matching_pipeline.jobs where key = %s and status <> 'completed'", (str(a),)
    ).fetchall()
    assert (status, reason) == ("failed", "an expression of the source face fails for this row: SQLSTATE 22P02")


def test_a_renamed_column_is_one_fault_of_the_source_until_the_declaration_is_mended(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker", "Cook")
    notes.work()
    notes.run("alter table notes rename title to heading")
    notes.run("insert into notes (id, heading) values (3, 'Nurse')")
    notes.run("update notes set heading = 'Early baker' where id = 1")
    notes.run("delete from notes where id = 2")
    summary = notes.work()
    assert (summary.counts["failed"], summary.completed) == (0, 0)
    reason = "the source note cannot be read: column t.title does not exist: correct the table or the declaration, "
    reason += "then run `matching-pipeline attach`"
    assert notes.unfinished() == [("entity", 0, reason), ("table", 0, reason)]
    notes.attach(text=("t.heading",))
    notes.work()
    assert notes.unfinished() == []
    assert notes.embedded() == notes.expected("heading")
    assert notes.failed() == {}


def test_a_column_that_is_renamed_before_the_result_is_written_fails_nothing(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker")

    def rename(texts: Sequence[str]) -> None:
        notes.run("alter table notes rename title to heading")

    assert notes.work(LetterEmbedder(rename)).counts["failed"] == 0
    ((kind, attempts, reason),) = notes.unfinished()
    assert (kind, attempts, "column t.title does not exist" in reason) == ("entity", 0, True)


def test_a_renamed_column_of_a_parent_is_one_fault_of_the_source(notes: Notes) -> None:
    parent = Parent(table="public.authors", on="author")
    notes.attach(text=("t.title", "p.name"), parent=parent)
    notes.run("insert into authors values (1, 'Ann')")
    notes.run("insert into notes (id, title, author) values (1, 'Baker', 1)")
    notes.work()
    notes.run("alter table authors rename name to called")
    notes.run("update authors set called = 'Anne'")
    notes.run("alter table notes rename author to written_by")
    notes.run("update authors set called = 'Anna'")
    assert notes.work().counts["failed"] == 0
    assert {(kind, attempts) for kind, attempts, _ in notes.unfinished()} == {("table", 0)}
    notes.attach(text=("t.title", "p.called"), parent=Parent(table="public.authors", on="written_by"))
    notes.work()
    assert notes.embedded() == notes.expected("title || E'\\n\\nAnna'")


def test_a_fault_of_one_source_holds_up_no_other_source_of_the_queue(
    connection: Connection, database_url: str
) -> None:
    app = App(connection)
    ware, image = app.product_image(app.product()), app.listing_image(app.listing())
    app.run("alter table listing_images rename image_url to url")
    work_images(database_url, CountingAnalyzer())
    assert app.status(ware)[0] == "failed"  # its file may not be read
    status, reason = app.status(image)
    assert (status, "the source project cannot be read" in str(reason)) == ("pending", True)


def test_forced_row_level_security_makes_the_source_unreadable_and_hides_no_row(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker")
    notes.work()
    owner = f"owner_{uuid4().hex}"
    notes.run(f"create role {owner}")
    notes.run(f"grant usage, create on schema public, matching_pipeline to {owner}")
    for table in ("notes", "matching_pipeline.sources"):
        notes.run(f"alter table {table} owner to {owner}")
    functions = (
        "read_source(text, text, text[])",
        "source_keys(text, text, integer)",
        "source_statement(text, text)",
        "visible(text)",
        "blanks()",
    )
    for function in functions:
        notes.run(f"alter function matching_pipeline.{function} owner to {owner}")
    try:
        notes.run("alter table notes enable row level security, force row level security")
        notes.run("update notes set title = 'Cook'")
        notes.run("select matching_pipeline.enqueue_keys('note', 'table', array[''])")
        notes.work()
        assert [(kind, attempts) for kind, attempts, _ in notes.unfinished()] == [("entity", 0), ("table", 0)]
        assert all('policy for table "notes"' in reason for _, _, reason in notes.unfinished())
        assert notes.embedded().keys() == {"1"}
        notes.run("alter table notes no force row level security")
        notes.work()
        assert notes.embedded() == notes.expected()
    finally:
        notes.run(f"reassign owned by {owner} to current_user")
        notes.run(f"drop owned by {owner}")
        notes.run(f"drop role {owner}")


def test_an_unknown_source_is_unreadable(connection: Connection) -> None:
    with pytest.raises(SourceUnreadable, match="there is no source stranger"):
        read_each(connection, "stranger", "entity", ["1"])


def test_rows_without_a_key_are_left_out(connection: Connection, database_url: str) -> None:
    notes = Notes(connection, database_url, "id bigint unique")
    notes.attach()
    notes.run("insert into notes (id, title) values (null, 'Nobody'), (1, 'Baker'), (null, 'None')")
    notes.run("update notes set title = 'Anybody' where id is null")
    notes.work()
    assert notes.embedded().keys() == {"1"}
    notes.run("select matching_pipeline.enqueue_keys('note', 'table', array[''])")
    notes.run("update notes set id = null where id = 1")
    notes.work()
    assert (notes.embedded(), notes.failed()) == ({}, {})
    notes.run("delete from notes where id is null")
    notes.work()
    assert (notes.unfinished(), notes.failed()) == ([], {})


def test_keys_that_are_not_unique_any_more_stop_nothing(connection: Connection, database_url: str) -> None:
    notes = Notes(connection, database_url)
    notes.attach()
    notes.run("alter table notes drop constraint notes_pkey")
    notes.run("insert into notes (id, title) values (1, 'Baker'), (1, 'Cook'), (2, 'Nurse')")
    notes.work()
    assert notes.embedded().keys() == {"1", "2"}
    assert (notes.unfinished(), notes.failed()) == ([], {})


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("id smallint primary key", ("-32768", "0", "7")),
        (
            "id text primary key",
            ("", "a b", "'; drop table notes; --", "%s", "ключ", "00000000-0000-0000-0000-00000000000A"),
        ),
        ("id varchar(40) primary key", ("a", "A")),
        ("id uuid primary key", ("00000000-0000-0000-0000-00000000000a",)),
    ],
)
def test_keys_of_every_type_that_is_allowed_name_their_rows(
    connection: Connection, database_url: str, key: str, keys: Sequence[str]
) -> None:
    notes = Notes(connection, database_url, key)
    notes.attach()
    type = key.split()[1]
    notes.run(
        f"insert into notes (id, title) select key::{type}, 'Note:' || key from unnest(%s::text[]) as key", [*keys]
    )
    notes.work()
    assert notes.embedded() == notes.expected()
    notes.run("update notes set title = title || '!'")
    notes.work()
    assert notes.embedded() == notes.expected()
    notes.run("delete from notes")
    notes.work()
    assert notes.embedded() == {}


@pytest.mark.parametrize("timing", ["before", "after"])
def test_an_apps_own_trigger_that_edits_the_row_just_inserted(notes: Notes, timing: str) -> None:
    notes.attach()
    edit = "new.title = 'edited ' || new.title; return new"
    if timing == "after":
        edit = "update notes set title = 'edited ' || title where id = new.id; return null"
    notes.run(f"create function public.edit() returns trigger language plpgsql as $$begin {edit}; end$$")
    notes.run(f"create trigger edit {timing} insert on notes for each row execute function public.edit()")
    notes.add("Baker", "Cook")
    notes.work()
    assert notes.run("select title from notes order by id") == ["edited Baker", "edited Cook"]
    assert notes.embedded() == notes.expected()


def copy(connection: Connection) -> None:
    with connection.cursor() as cursor, cursor.copy("copy notes (id, title) from stdin") as rows:
        rows.write("4\tCopied\n5\tCopied too\n")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into notes (id, title) select number, 'Note ' || number from generate_series(4, 1500) as number",
        "insert into notes (id, title) values (1, 'Upserted'), (4, 'New') "
        "on conflict (id) do update set title = excluded.title",
        "merge into notes using (values (1, 'Merged'), (2, null), (4, 'New')) as given (id, title) "
        "on notes.id = given.id when matched and given.title is null then delete "
        "when matched then update set title = given.title "
        "when not matched then insert (id, title) values (given.id, given.title)",
        "copy",
        "update notes set title = title || '!'",
        "update notes set id = id + 10",
        "update notes set id = -id, title = 'New' where id <> 2",
        "with one as (update notes set title = 'First' where id = 1) update notes set title = 'Second' where id = 2",
        "delete from notes where id > 1",
        "with gone as (delete from notes where id = 1 returning *) "
        "insert into notes (id, title) select 9, title from gone",
        "truncate notes",
        "truncate notes; insert into notes (id, title) values (1, 'Again'), (7, 'New')",
        "delete from notes; insert into notes (id, title) values (1, 'Again')",
        "do $$ begin delete from notes; raise division_by_zero; exception when division_by_zero then null; end $$",
    ],
)
def test_whatever_way_a_row_changes_the_embeddings_are_of_the_rows_as_they_are(notes: Notes, statement: str) -> None:
    notes.attach()
    for isolation, when in product(("read committed", "serializable"), ("mirrored", "waiting")):
        notes.run("delete from notes")
        notes.work()
        notes.add("Baker", "Cook", "Nurse")
        if when == "mirrored":
            notes.work()
        with notes.connection.transaction():
            notes.run(f"set transaction isolation level {isolation}")
            if statement == "copy":
                copy(notes.connection)
            else:
                for part in [statement] if "$$" in statement else statement.split(";"):
                    notes.run(part)
        notes.work(LetterEmbedder(batch_items=2000, batch_tokens=100_000))
        assert notes.embedded() == notes.expected(), (isolation, when)
        assert (notes.unfinished(), notes.failed()) == ([], {}), (isolation, when)
        mirrored = notes.run("select key from matching_pipeline.entities where source = 'note'")
        assert set(mirrored) == notes.expected().keys(), (isolation, when)


def test_keys_that_are_swapped_by_one_statement(connection: Connection, database_url: str) -> None:
    notes = Notes(connection, database_url)
    notes.attach()
    notes.add("Baker", "Cook")
    notes.work()
    notes.run("alter table notes drop constraint notes_pkey, add constraint notes_pkey primary key (id) deferrable")
    notes.run("update notes set id = 3 - id")
    notes.work()
    assert notes.embedded() == notes.expected()


def test_rows_that_a_foreign_key_deletes_or_renames(notes: Notes) -> None:
    notes.run(
        "alter table notes add constraint of_author foreign key (author) references authors "
        "on delete cascade on update cascade"
    )
    notes.attach(parent=Parent(table="public.authors", on="author"), text=("t.title", "p.name"))
    notes.run("insert into authors values (1, 'Ann'), (2, 'Bob')")
    notes.run("insert into notes (id, title, author) values (1, 'Baker', 1), (2, 'Cook', 2), (3, 'Nurse', 2)")
    notes.work()
    notes.run("delete from authors where id = 2")
    notes.run("update authors set id = 7, name = 'Anne'")
    assert notes.embedded().keys() == {"1"}
    notes.work()
    assert notes.embedded() == notes.expected("title || E'\\n\\nAnne'")
    assert notes.run("select parent_key from matching_pipeline.entities where source = 'note'") == ["7"]


@pytest.mark.parametrize("first", ["parent", "child"])
@pytest.mark.parametrize("meanwhile", [True, False])
def test_a_parent_that_one_transaction_edits_while_another_inserts_its_child(
    connection: Connection, database_url: str, first: str, meanwhile: bool
) -> None:
    school = School(connection, database_url)
    user, other = school.user("male", school="Old"), school.face_of("female", school="New")
    face = school.new_id()
    with connect(database_url) as editing, connect(database_url) as inserting:
        editing.execute("begin")
        inserting.execute("begin")
        editing.execute("update profiles set school = 'New' where id = %s", (user,))
        inserting.execute(
            "insert into faces (id, user_id, embedding) select %s, %s, embedding from faces where id = %s",
            (face, user, other),
        )
        for session in (editing, inserting) if first == "parent" else (inserting, editing):
            session.execute("commit")
            if meanwhile:
                school.process()
    school.process()
    assert school.pairs() == {frozenset((face, other))}
    assert school.rows() == school.expected_rows()


def test_a_worker_gives_way_to_an_app_that_has_locked_a_table(connection: Connection, database_url: str) -> None:
    with connect(database_url) as app, app.transaction():
        app.execute("lock table public.jobs in access exclusive mode")
        with pytest.raises(SourceUnreadable, match="the app has locked the table of the source posting"):
            read_each(connection, "posting", "entity", [str(uuid4())])
