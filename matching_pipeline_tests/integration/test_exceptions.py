"""A row of the table that `except` names removes pairs at once; without it they come back."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches.matching import Matching, matching_of
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach, detach
from matching_pipeline.sources.declarations import Declarations, Matches
from matching_pipeline.sources.matcher import Exceptions
from matching_pipeline_tests.conftest import EXAMPLES, NewTemplate
from matching_pipeline_tests.integration.school import FACE_RULE, School

BLOCKS = Exceptions(table="blocks", left="blocker", right="blocked", on="user_id")
RULE = FACE_RULE.model_copy(update={"exceptions": BLOCKS})
FACE: Matching = matching_of(RULE)


def declarations(**changed: str) -> Declarations:
    rule = RULE.model_copy(update={"exceptions": BLOCKS.model_copy(update=changed)})
    return Declarations(sources=(EXAMPLES.source("face"),), matches=(Matches(matchers=(rule,)),))


class Dating(School):
    def process_blocks(self) -> list[tuple[str, str | None]]:
        """Returns the state and the error of each job that is not completed."""
        QueueWorker(self.database_url, MatchHandler(RULE.queue, FACE, ["face"])).run()
        return self.connection.execute(
            "select status, error_message from matching_pipeline.jobs where status <> 'completed'"
        ).fetchall()

    def shown(self) -> set[frozenset[UUID]]:
        rows = self.connection.execute("select left_id, right_id from matching_pipeline.matches")
        return {frozenset(pair) for pair in rows}


@pytest.fixture(scope="session")
def template(new_template: NewTemplate) -> str:
    return new_template("with_blocks", fill)


def fill(connection: Connection, database_url: str) -> None:
    """A man who matches two women."""
    connection.execute("create table blocks (blocker uuid, blocked uuid)")
    attach(connection, declarations())
    app = Dating(connection, database_url)
    for gender in ("male", "female", "female"):
        app.face_of(gender)
    connection.execute("delete from matching_pipeline.jobs where kind = 'table'")
    assert app.process_blocks() == []
    assert len(app.shown()) == 2


@pytest.fixture
def app(connection: Connection, database_url: str) -> Dating:
    return Dating(connection, database_url, first_id=100)


BLOCK = (
    "insert into blocks select he.id, she.id from profiles he, profiles she where he.gender = 'male' and he <> she"
)


@pytest.mark.parametrize("turned", [False, True], ids=["he blocks her", "she blocks him"])
def test_a_block_removes_the_pair_in_its_transaction_and_an_unblock_brings_it_back(app: Dating, turned: bool) -> None:
    him, her, _ = app.run("select id from profiles order by gender desc, id")
    pair = (her, him) if turned else (him, her)
    with app.connection.transaction():
        app.run("insert into blocks values (%s, %s)", *pair)
        assert len(app.shown()) == 1
    left = app.shown()
    assert app.process_blocks() == []
    assert app.shown() == left
    assert FACE.rebuild(app.connection).unchanged == 1
    app.run("delete from blocks")
    assert app.process_blocks() == []
    assert len(app.shown()) == 2
    assert FACE.rebuild(app.connection).unchanged == 2


def test_a_block_that_is_rolled_back_leaves_the_pairs(app: Dating) -> None:
    with app.connection.transaction(force_rollback=True):
        app.run(BLOCK)
        assert app.shown() == set()
    assert len(app.shown()) == 2


def test_a_block_waits_for_no_worker_and_a_job_removes_the_pair(app: Dating) -> None:
    with connect(app.database_url) as worker, worker.transaction():
        worker.execute("select from matching_pipeline.matches for update")
        app.run("set lock_timeout = '1s'")
        app.run(BLOCK)
        assert len(app.shown()) == 2
    assert app.process_blocks() == []
    assert app.shown() == set()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_at_a_stricter_isolation_level_a_job_removes_the_pair(app: Dating, level: str) -> None:
    app.run(f"set default_transaction_isolation = '{level}'")
    app.run(BLOCK)
    app.run("reset default_transaction_isolation")
    assert app.process_blocks() == []
    assert app.shown() == set()


class BlockedMeanwhile(MatchHandler):
    """The app blocks all that the worker's open transaction mirrors and matches."""

    app: Dating

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        figures = super().write(connection, outcomes)
        if outcomes[0].job.kind == "entity" and self.app.run("select count(*) from blocks") == [0]:
            self.app.run(BLOCK)
        return figures


def test_a_block_of_entities_that_an_open_transaction_mirrors_removes_the_pair(app: Dating) -> None:
    app.run("delete from faces"), app.process_blocks()
    for user in app.run("select id from profiles"):
        app.face(user)
    handler = BlockedMeanwhile(RULE.queue, FACE, ["face"])
    handler.app = app
    QueueWorker(app.database_url, handler).run()
    assert app.run("select count(*) from blocks, matching_pipeline.entities where user_key = blocked::text") == [2]
    assert app.shown() == set()


@pytest.mark.parametrize(("change", "left"), [(BLOCK, 0), ("delete from blocks", 2)])
def test_a_change_that_is_committed_after_the_workers_second_look_still_counts(
    app: Dating, change: str, left: int
) -> None:
    app.run("delete from faces"), app.process_blocks()
    if left:
        app.run(BLOCK), app.process_blocks()
    with connect(app.database_url) as other, other.transaction():
        other.execute(change.encode())
        for user in app.run("select id from profiles"):
            app.face(user)
        assert app.process_blocks() == []
        assert len(app.shown()) == 2 - left
    assert app.process_blocks() == []
    assert len(app.shown()) == left
    kept = "select from matching_pipeline.jobs where kind = 'excepted'"
    assert app.connection.execute(kept).fetchall() == []


def test_the_indexes_of_the_two_columns_find_the_rows(app: Dating) -> None:
    app.run("insert into blocks select gen_random_uuid(), gen_random_uuid() from generate_series(1, 3000)")
    app.run("create index on blocks (blocker)"), app.run("create index on blocks (blocked)")
    app.run("analyze blocks")
    ids = app.run("select id from matching_pipeline.entities")
    rows_read = "select pg_stat_get_xact_tuples_returned('blocks'::regclass)"
    with app.connection.transaction():
        before = app.run(rows_read)
        app.run(BLOCK)
        pairs = app.run("select left_id from matching_pipeline.excepted_pairs('face', %s, %s)", ids, ids)
        assert (len(pairs), app.shown()) == (4, set())
        assert app.run(rows_read) == before


def test_a_value_that_the_columns_cannot_take_is_left_out(app: Dating) -> None:
    app.run(BLOCK)
    him, *_ = app.run("select blocker::text from blocks")
    values = "select right_value from matching_pipeline.excepted_values('face', %s)"
    assert set(app.run(values, ["no uuid", him])) == set(
        app.run("select unnest(array[blocker, blocked])::text from blocks")
    )


def test_an_update_and_a_truncate_of_blocks_are_seen(app: Dating) -> None:
    app.run(BLOCK)
    app.run("update blocks set blocked = gen_random_uuid()")
    assert app.process_blocks() == []
    assert len(app.shown()) == 2
    app.run("delete from blocks"), app.run(BLOCK), app.run("truncate blocks")
    assert app.process_blocks() == []
    assert len(app.shown()) == 2


def test_a_column_that_is_renamed_fails_no_statement_and_stops_the_matcher_with_its_name(app: Dating) -> None:
    app.run("alter table blocks rename blocked to target")
    app.run(BLOCK)
    (*_, (status, error)) = app.process_blocks()
    assert (status, len(app.shown())) == ("pending", 2)
    assert error == (
        'the table of `except` of the matcher face cannot be read: column "blocked" does not exist: correct the '
        "table or the declaration, then run `matching-pipeline attach`"
    )


def test_a_table_or_column_that_is_missing_is_named_and_nothing_is_attached(app: Dating) -> None:
    with pytest.raises(ConfigurationError, match=r"matcher face: except\.table: there is no table public\.nothing"):
        attach(app.connection, declarations(table="public.nothing"))
    with pytest.raises(ConfigurationError, match=r"matcher face: except\.right: public\.blocks has no column target"):
        attach(app.connection, declarations(right="target"))


TRIGGERS = "select count(*) from pg_trigger where tgrelid = 'blocks'::regclass and tgname ~ '^matching_pipeline_'"


def test_triggers_follow_the_declaration(app: Dating) -> None:
    assert app.run(TRIGGERS) == [4]
    attach(app.connection, declarations())
    assert app.run(TRIGGERS) == [4]
    rule = Matches(matchers=(FACE_RULE,))
    attach(app.connection, Declarations(sources=(EXAMPLES.source("face"),), matches=(rule,)))
    assert app.run(TRIGGERS) == [0]
    attach(app.connection, declarations())
    detach(app.connection, "face", forget=True)
    assert app.run(TRIGGERS) == [0]
