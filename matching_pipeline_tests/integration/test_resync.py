"""A job of the kind `table` compares a source's table with the mirror, and finds what triggers could not see."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources import expansion, reading
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations, ImageEmbeddings, TextEmbeddings
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline.sources.source import Parent, Pictures, Source
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, PictureServer, picture, work_images
from matching_pipeline_tests.fixtures.postings import LetterEmbedder
from matching_pipeline_tests.integration.notes import QUEUE, Notes
from matching_pipeline_tests.integration.school import School, embedding


@pytest.fixture
def notes(connection: Connection, database_url: str) -> Notes:
    return Notes(connection, database_url)


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server
        server.shutdown()


@contextmanager
def past_the_triggers(connection: Connection) -> Iterator[None]:
    """As logical replication writes."""
    connection.execute("set session_replication_role = replica")
    try:
        yield
    finally:
        connection.execute("set session_replication_role = origin")


def no_jobs(connection: Connection) -> bool:
    """Whether no job is unfinished or failed."""
    return connection.execute("select from matching_pipeline.jobs where status <> 'completed'").fetchone() is None


def test_texts_that_changed_came_and_went_past_the_triggers(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker", "Cook", "Nurse")
    notes.work()
    with past_the_triggers(notes.connection):
        notes.run("update notes set title = 'Early baker' where id = 1")
        notes.run("delete from notes where id = 2")
        notes.run("insert into notes (id, title) values (4, 'Smith')")
    assert no_jobs(notes.connection)
    enqueue_resync(notes.connection, "note")
    embedder = LetterEmbedder()
    notes.work(embedder)
    assert sorted(text for texts in embedder.requests for text in texts) == ["Early baker", "Smith"]
    assert notes.embedded() == notes.expected()
    assert no_jobs(notes.connection)


def test_rows_that_met_the_condition_or_ceased_to_past_the_triggers(notes: Notes) -> None:
    notes.attach(when="t.amount is not null")
    notes.run("insert into notes (id, title, amount) values (1, 'Baker', ''), (2, 'Cook', null)")
    notes.work()
    with past_the_triggers(notes.connection):
        notes.run("update notes set amount = case id when 2 then '' end")
    enqueue_resync(notes.connection)
    notes.work()
    assert notes.embedded().keys() == {"2"}
    assert notes.run("select key from matching_pipeline.entities where source = 'note'") == ["2"]


def test_a_parent_that_changed_past_the_triggers(notes: Notes) -> None:
    notes.attach(text=("t.title", "p.name"), parent=Parent(table="public.authors", on="author"))
    notes.run("insert into authors values (1, 'Ann')")
    notes.run("insert into notes (id, title, author) values (1, 'Baker', 1)")
    notes.work()
    with past_the_triggers(notes.connection):
        notes.run("update authors set name = 'Bob'")
    enqueue_resync(notes.connection)
    notes.work()
    assert notes.embedded() == notes.expected("title || E'\\n\\nBob'")


def test_pictures_that_changed_moved_came_and_went_past_the_triggers(
    connection: Connection, database_url: str, server: PictureServer
) -> None:
    app, analyzer = App(connection), CountingAnalyzer()
    urls = [server.put(f"/{number}", picture(size=(10 + number, 10))) for number in range(7)]
    one, other, leaving, gone = (app.product() for _ in range(4))
    changed, moved, deleted = (app.product_image(one, url) for url in urls[:3])
    lost = {app.product_image(gone, urls[3])}
    listing = app.listing()
    hidden = app.listing_image(listing, urls[4])
    work_images(database_url, analyzer)
    assert app.analysed() == {changed, moved, deleted, hidden} | lost
    app.settle()
    with past_the_triggers(connection):
        app.run("update product_images set src = %s where id = %s", urls[5], changed)
        app.run("update product_images set product_id = %s where id = %s", other, moved)
        app.run("delete from product_images where id = %s", deleted)
        app.run("delete from product_images where product_id = %s", gone)
        app.run("delete from products where id in (%s, %s)", gone, leaving)
        app.run("update listings set type = 'service'")
        new = app.product_image(app.product(), urls[6])
    assert app.queue_rows() == set()
    enqueue_resync(connection)
    work_images(database_url, analyzer)
    assert app.analysed() == {changed, moved, new}
    assert analyzer.count == 7
    assert app.run("select input from matching_pipeline.embeddings where item = %s", changed) == [urls[5]]
    assert app.run("select entity from matching_pipeline.items where id = %s", moved) == [other]
    entities = set(app.run("select id from matching_pipeline.entities"))
    assert {one, other} < entities
    assert not {gone, leaving, listing} & entities
    assert (
        connection.execute(
            "select from matching_pipeline.jobs where status <> 'completed' and queue = 'image_ai'"
        ).fetchone()
        is None
    )


def test_vectors_that_changed_came_and_went_past_the_triggers(connection: Connection, database_url: str) -> None:
    school = School(connection, database_url)
    his = [school.face_of("male", vector) for vector in ((1.0,), (0.0, 1.0), (1.0, 1.0), (1.0, 0.5))]
    hers = [school.face_of("female", vector) for vector in ((1.0,), (1.0, 0.2))]
    school.process()
    school.settle()
    with past_the_triggers(connection):
        school.run("update faces set embedding = %s where id = %s", embedding(0.0, 0.0, 1.0), his[0])
        school.run("update faces set embedding = null where id = %s", his[2])
        school.run("delete from faces where id = %s", hers[0])
        school.run("update profiles set school = 'UTS' where id = (select user_id from faces where id = %s)", his[3])
        school.face_of("female", (0.0, 1.0))
        school.face_of("male", (0.9, 0.1))
    assert school.queued() == set()
    enqueue_resync(connection, "face")
    school.process()
    assert school.rows() == school.expected_rows()
    assert school.run("select count(*) from matching_pipeline.entities") == school.run(
        "select count(*) from faces where embedding is not null"
    )


@pytest.mark.parametrize("statement", ["insert", "update", "delete", "truncate"])
def test_a_statement_that_names_a_partition(connection: Connection, database_url: str, statement: str) -> None:
    notes = Notes(connection, database_url)
    notes.run("drop table notes")
    notes.run("create table notes (id bigint primary key, title text, amount text) partition by range (id)")
    notes.run("create table notes_low partition of notes for values from (minvalue) to (100)")
    notes.run("create table notes_high partition of notes for values from (100) to (maxvalue)")
    notes.attach()
    notes.run("insert into notes (id, title) values (1, 'Baker'), (2, 'Cook'), (150, 'Nurse')")
    notes.run("update notes set id = id + 100 where id = 1")
    notes.work()
    assert notes.embedded() == notes.expected()
    notes.run(
        {
            "insert": "insert into notes_low (id, title) values (3, 'Smith')",
            "update": "update notes_low set title = 'Early cook'",
            "delete": "delete from notes_low",
            "truncate": "truncate notes_high",
        }[statement]
    )
    enqueue_resync(connection, "note")
    notes.work()
    assert notes.embedded() == notes.expected()
    assert no_jobs(connection)


def test_a_table_is_compared_in_parts_and_each_part_by_a_job_of_its_own(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 3)
    monkeypatch.setattr(reading, "KEYS_AT_ONCE", 3)
    notes.attach()
    notes.add(*(f"Note {number}" for number in range(9)))
    notes.work()
    notes.settle()
    with past_the_triggers(notes.connection):
        notes.run("update notes set title = title || '!' where mod(id, 2) = 0")
        notes.run("delete from notes where mod(id, 3) = 0")
        notes.run("insert into notes (id, title) select number, 'New' from generate_series(20, 27) as number")
    begun_after = []

    def keys_after(connection: Connection, source: str, key: str) -> list[str]:
        begun_after.append(key)
        return reading.keys_after(connection, source, key)

    monkeypatch.setattr(expansion, "keys_after", keys_after)
    enqueue_resync(notes.connection, "note")
    notes.work()
    assert notes.embedded() == notes.expected()
    assert begun_after == ["", "4", "8", "22", "25"]


def test_a_part_goes_on_though_the_last_row_that_was_compared_is_deleted(
    notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 2)
    monkeypatch.setattr(reading, "KEYS_AT_ONCE", 2)
    notes.attach()
    notes.add("Baker", "Cook", "Nurse")
    notes.work()
    with past_the_triggers(notes.connection):
        notes.run("update notes set title = 'Early nurse' where id = 3")
    notes.run(
        "insert into matching_pipeline.jobs (queue, source, kind, key) values (%s, 'note', 'table', '2')", QUEUE
    )
    notes.run("delete from notes where id = 2")
    notes.work()
    assert notes.embedded() == notes.expected()


def test_a_comparison_that_is_asked_for_while_another_ends_begins_again(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker")
    notes.work()
    notes.run(
        "insert into matching_pipeline.jobs (queue, source, kind, key, payload) "
        """values (%s, 'note', 'table', '', '{"gone": true}')""",
        QUEUE,
    )
    with past_the_triggers(notes.connection):
        notes.run("update notes set title = 'Early baker'")
    enqueue_resync(notes.connection, "note")
    notes.work()
    assert notes.embedded() == notes.expected()


def test_what_is_found_is_enqueued_in_every_queue_of_the_source(notes: Notes) -> None:
    declared = Declarations.of(
        [
            Source(name="note", table="public.notes", text=("t.title",)),
            TextEmbeddings(name="first", sources=("note",)),
            TextEmbeddings(name="second", sources=("note",)),
        ]
    )
    attach(notes.connection, declared)
    notes.add("Baker")
    notes.work(queue="first")
    notes.work(queue="second")
    with past_the_triggers(notes.connection):
        notes.run("update notes set title = 'Cook'")
    enqueue_resync(notes.connection, "note")
    notes.run("delete from matching_pipeline.jobs where queue = 'second'")
    notes.work(queue="first")
    jobs = notes.run("select queue from matching_pipeline.jobs where kind = 'entity' and status = 'pending'")
    assert jobs == ["second"]


def test_a_trigger_that_fails_has_the_table_compared_and_lets_the_app_go_on(notes: Notes) -> None:
    notes.attach()
    notes.add("Baker")
    notes.work()
    notes.run("alter table matching_pipeline.sources rename to elsewhere")
    notes.run("update notes set title = 'Cook'")
    notes.run("alter table matching_pipeline.elsewhere rename to sources")
    notes.run("alter function matching_pipeline.enqueue_keys(text, text, text[]) rename to elsewhere")
    notes.run("update notes set title = 'Nurse'")
    notes.run("alter function matching_pipeline.elsewhere(text, text, text[]) rename to enqueue_keys")
    assert no_jobs(notes.connection)
    enqueue_resync(notes.connection, "note")
    notes.work()
    assert notes.embedded() == notes.expected()


def test_rows_that_cannot_be_compared_leave_one_dead_letter_however_often_they_are_found(notes: Notes) -> None:
    notes.attach(text=("(t.amount::integer)::text",))
    notes.run("insert into notes (id, amount) values (1, 'one'), (2, '2')")
    for _ in range(3):
        enqueue_resync(notes.connection, "note")
        notes.work()
    assert notes.run("select key from matching_pipeline.jobs where status = 'failed'") == ["1"]
    assert notes.embedded().keys() == {"2"}


def test_pictures_and_entities_with_the_same_numbers_are_told_apart(
    connection: Connection, database_url: str, server: PictureServer
) -> None:
    app, analyzer = App(connection), CountingAnalyzer()
    app.run("create table things (id integer primary key)")
    app.run("create table photos (id integer primary key, thing integer, url text)")
    pictures = Pictures(table="public.photos", entity="thing", url="url")
    attach(
        connection,
        Declarations.of(
            [
                Source(name="thing", table="public.things", pictures=pictures),
                ImageEmbeddings(name="image_ai", sources=("thing",)),
            ]
        ),
    )
    urls = [server.put(f"/{number}", picture(size=(10 + number, 10))) for number in range(4)]
    app.run("insert into things values (1), (2)")
    app.run("insert into photos values (1, 2, %s), (2, 1, %s), (3, 1, %s)", *urls[:3])

    def photos() -> dict[str, str]:
        return dict(
            connection.execute(
                "select key, input from matching_pipeline.items join matching_pipeline.embeddings on id = item"
            ).fetchall()
        )

    work_images(database_url, analyzer)
    assert photos() == dict(zip("123", urls, strict=False))
    with past_the_triggers(connection):
        app.run("update photos set url = %s where id = 2", urls[3])
        app.run("delete from photos where id = 3")
    enqueue_resync(connection, "thing")
    work_images(database_url, analyzer)
    assert photos() == {"1": urls[0], "2": urls[3]}
    app.run("delete from things where id = 1")
    app.run("update photos set url = %s where id = 1", urls[2])
    work_images(database_url, analyzer)
    assert photos() == {"1": urls[2]}
