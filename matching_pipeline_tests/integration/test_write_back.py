"""The state of an entity's jobs in the app's own column, for any source."""

from datetime import timedelta
from typing import Any

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.handlers.publishing import PublishingHandler
from matching_pipeline.queues import client
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.attached import source_states
from matching_pipeline.sources.source import WriteBack
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.notes import QUEUE, Notes, declared

LEASE = timedelta(minutes=2)
WORDS = {"status": "state", "pending": "waits", "processing": "works", "completed": "is done", "failed": "has failed"}


class StatedNotes(Notes):
    """Notes with a status in the app's own words."""

    def __init__(self, connection: Connection, database_url: str, **fields: Any) -> None:
        super().__init__(connection)
        self.database_url = database_url
        self.make()
        self.run("alter table notes add column state text")
        self.attach(write_back=WORDS, **fields)

    def states(self) -> list[str | None]:
        return self.run("select state from notes order by id")

    def publish(self) -> Summary:
        self.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        return QueueWorker(self.database_url, PublishingHandler("publishing")).run()

    def kept(self) -> list[str | None]:
        """Why statuses are still to be written."""
        return self.run(
            "select error_message from matching_pipeline.jobs where kind = 'status' and status = 'pending'"
        )


@pytest.fixture
def notes(connection: Connection, database_url: str) -> StatedNotes:
    return StatedNotes(connection, database_url)


def test_the_states_of_an_entitys_jobs_are_written_in_the_apps_words(notes: StatedNotes) -> None:
    notes.run("insert into notes (id, title) values (1, 'one'), (2, 'two')")
    notes.publish()
    assert notes.states() == ["waits", "waits"]
    first, _ = client.claim(notes.connection, QUEUE, 2, LEASE)
    assert notes.states() == ["works", "works"]
    client.fail(notes.connection, first, "refused", permanent=True)
    assert sorted(map(str, notes.states())) == ["has failed", "works"]
    client.retry(notes.connection, QUEUE)
    notes.run("update matching_pipeline.jobs set run_at = now()")
    notes.work(notes.database_url)
    assert notes.states() == ["is done", "is done"]


def test_a_statement_of_the_app_writes_no_status_and_leaves_a_job_for_each_row(notes: StatedNotes) -> None:
    notes.run("insert into notes (id, title) select n, 'n' from generate_series(1, 3) as n")
    notes.run("update notes set title = 'two' where id = 2")
    notes.run("delete from notes where id = 1")
    assert notes.states() == notes.kept() == [None, None]
    notes.publish()
    assert notes.states() == ["waits", "waits"]


def test_a_status_waits_for_no_lock_that_a_trigger_of_the_app_needs(notes: StatedNotes) -> None:
    notes.run(
        "create table counts (n int); create function count_it() returns trigger language plpgsql as $$ begin "
        "lock table counts; return new; end $$; "
        "create trigger count_it before update on notes for each row execute function count_it()"
    )
    notes.run("insert into notes (id, title) values (1, 'one')")
    with connect(notes.database_url) as app, app.transaction():
        app.execute("lock table counts")
        client.claim(notes.connection, QUEUE, 1, LEASE)
        notes.publish()
        assert notes.states() == [None]
        assert notes.kept() == ["its row is locked"]
    notes.publish()
    assert notes.states() == ["works"]


def test_a_status_enqueues_nothing_where_a_trigger_of_the_app_changes_the_row_with_it(
    connection: Connection, database_url: str
) -> None:
    notes = StatedNotes(connection, database_url)
    notes.run(
        "alter table notes add column touched timestamptz; "
        "create function touch() returns trigger language plpgsql as $$ begin "
        "new.touched := clock_timestamp(); return new; end $$; "
        "create trigger touch before update on notes for each row execute function touch()"
    )
    notes.attach(write_back=WORDS, text="concat(t.title, t.touched)")
    notes.run("insert into notes (id, title) values (1, 'one')")
    notes.work(database_url)
    notes.publish()
    assert notes.states() == ["is done"]
    assert notes.run("select touched is not null from notes") == [True]
    assert notes.pending() == []
    notes.run("update notes set title = 'two'")
    assert notes.pending() == ["1"]


def test_a_status_that_is_written_enqueues_nothing(notes: StatedNotes) -> None:
    notes.run("insert into notes (id, title) values (1, 'one')")
    notes.work(notes.database_url)
    assert notes.states() == ["is done"]
    notes.publish()
    assert notes.run("select 1 from matching_pipeline.jobs where status <> 'completed'") == []


def test_an_expression_that_reads_the_status_is_refused(connection: Connection, database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="an expression reads state of public"):
        StatedNotes(connection, database_url, when="t.state is null")


BREAKS = {
    "a check": (
        "alter table notes add constraint known check (state in ('waits', 'works'))",
        "alter table notes drop constraint known",
        "known",
    ),
    "a column that is gone": (
        "alter table notes rename column state to progress",
        "alter table notes rename column progress to state",
        "state does not exist",
    ),
    "a trigger": (
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not %%', new.title; end $$; "
        "create trigger refuse before update on notes for each row execute function refuse()",
        "drop trigger refuse on notes",
        "SQLSTATE P0001 in PL/pgSQL function refuse()",
    ),
    "a trigger at the end": (
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not %%', new.title; end $$; "
        "create constraint trigger refuse after update on notes deferrable initially deferred "
        "for each row execute function refuse()",
        "drop trigger refuse on notes",
        "SQLSTATE P0001 in PL/pgSQL function refuse()",
    ),
}


@pytest.mark.parametrize("break_", sorted(BREAKS))
def test_a_status_that_is_refused_stops_nothing_else(notes: StatedNotes, break_: str) -> None:
    breaks, mends, reason = BREAKS[break_]
    notes.run(breaks)
    notes.run("insert into notes (id, title) values (1, 'one')")
    assert notes.work(notes.database_url).completed == 1
    assert notes.embedded() == [1]
    notes.publish()
    (told,) = notes.kept()
    assert reason in str(told)
    (state,) = (each for each in source_states(notes.connection) if each.name == "note")
    assert reason in "; ".join(state.problems)
    notes.run(mends)
    notes.publish()
    assert notes.states() == ["is done"]
    assert notes.kept() == []


def test_a_row_that_the_app_has_locked_gets_its_status_later(notes: StatedNotes) -> None:
    notes.run("insert into notes (id, title) values (1, 'one')")
    notes.publish()
    with connect(notes.database_url) as app, app.transaction():
        app.execute("select from notes for update")
        client.claim(notes.connection, QUEUE, 1, LEASE)
        assert notes.states() == ["waits"]
        notes.publish()
        assert notes.kept() == ["its row is locked"]
    notes.publish()
    assert notes.states() == ["works"]


def test_without_a_status_no_trigger_stands_on_the_jobs(notes: StatedNotes) -> None:
    triggers = "select 1 from pg_trigger where tgname like 'jobs_write_back%%'"
    assert len(notes.run(triggers)) == 3
    # the studio's projects have a status too
    notes.run("update matching_pipeline.sources set attached_at = null where name = 'studio_project'")
    for _ in range(2):
        attach(notes.connection, declared())
        assert notes.run(triggers) == []


def test_the_items_of_an_entity_say_its_state(connection: Connection, database_url: str) -> None:
    """A new picture is mirrored only when its job is completed."""
    app = App(connection)
    app.run("alter table products add column state text not null default 'new'")
    sources = tuple(
        each.model_copy(update={"write_back": WriteBack.model_validate(WORDS)}) if each.name == "product" else each
        for each in EXAMPLES.sources
    )
    attach(connection, EXAMPLES.model_copy(update={"sources": sources}))
    app.settle()
    image = app.product_image(app.product())
    client.claim(connection, "image_ai", 1, LEASE)
    app.embed("product", image)
    (job,) = app.run("select id from matching_pipeline.jobs where kind = 'item'")
    app.run("select matching_pipeline.mark_job_completed(%s, 1)", job)
    QueueWorker(database_url, PublishingHandler("publishing")).run()
    # its matches are to be computed
    assert app.run("select state from products") == ["waits"]
    app.run("delete from matching_pipeline.jobs where queue = 'matches_project'")
    app.run("select matching_pipeline.enqueue_jobs('image_ai', 'product', 'item', array[%s])", str(image))
    assert app.run("select state from products") == ["waits"]
    client.claim(connection, "image_ai", 1, LEASE)
    assert app.run("select state from products") == ["works"]
    # a status that this statement wrote would fail it: its row would change under it
    app.run(
        "create function touch() returns trigger language plpgsql as $$ begin "
        "update product_images set src = src || '#' where product_id = new.id; return new; end $$; "
        "create trigger touch before update of id on products for each row execute function touch()"
    )
    app.run("update products set state = 'new'")
    app.run("update products set id = id")
    assert app.run("select state from products") == ["new"]
    QueueWorker(database_url, PublishingHandler("publishing")).run()
    assert app.run("select state from products") == ["works"]


def test_a_trigger_of_the_app_before_its_own_row_may_enqueue_it_and_sees_rows_by_its_policies(
    notes: StatedNotes,
) -> None:
    notes.run("insert into notes (id, title) values (1, 'one')")
    notes.run("create table heard (row_security text)")
    notes.run(
        "create function again() returns trigger language plpgsql as $$ begin "
        "insert into heard values (current_setting('row_security')); "
        "perform matching_pipeline.enqueue_entity('note', new.id::text); return new; end $$"
    )
    notes.run("create trigger again before update on notes for each row execute function again()")
    notes.run("update notes set title = 'two'")
    notes.publish()
    assert notes.states() == ["waits"]
    assert set(notes.run("select row_security from heard")) == {"on"}
