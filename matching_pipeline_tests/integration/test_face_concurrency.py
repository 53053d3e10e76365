"""The app's transactions meet each other and workers. None of them waits, deadlocks or is aborted because of us."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from uuid import UUID

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.integration.school import FaceHandler, School, embedding

AS_BEFORE = """
alter table matching_pipeline.matches add foreign key (left_id) references faces (id) on delete cascade;
alter table matching_pipeline.matches add foreign key (right_id) references faces (id) on delete cascade;
"""
"""The foreign keys of version 0.1, by which a deleted face took its pairs along."""
LEVELS = ["read committed", "repeatable read", "serializable"]
above_read_committed = pytest.mark.parametrize("level", LEVELS[1:])

CHANGES = {
    "insert": "insert into faces (user_id, embedding) select user_id, embedding from faces where id = %(face)s",
    "update": "update faces set embedding = '[{}]' where id = %(face)s".format(",".join(["1"] * 512)),
    "key": "update faces set id = gen_random_uuid() where id = %(face)s",
    "null": "update faces set embedding = null where id = %(face)s",
    "delete": "delete from faces where id = %(face)s",
    "profile": "update profiles set school = 'HUST' where id = (select user_id from faces where id = %(face)s)",
    "user": "delete from profiles where id = (select user_id from faces where id = %(face)s)",
}
changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@pytest.fixture
def couple(school: School) -> tuple[list[UUID], list[UUID]]:
    """Two faces each of two users: his first matches her first, and his second her second."""
    users = school.user("male"), school.user("female")
    his, hers = ([school.face(user, vector) for vector in ((1, 0), (0, 1))] for user in users)
    school.process()
    school.settle()
    assert school.pairs() == {frozenset(pair) for pair in zip(his, hers, strict=True)}
    return his, hers


@contextmanager
def sessions(school: School, count: int, level: str = LEVELS[0]) -> Iterator[list[Connection]]:
    """Sessions of the app, each in a transaction."""
    with ExitStack() as stack:
        opened = [stack.enter_context(connect(school.database_url)) for _ in range(count)]
        for session in opened:
            session.execute(f"set default_transaction_isolation = '{level}'".encode())
            session.execute("begin")
        yield opened


def delete(session: Connection, face: UUID) -> None:
    session.execute("delete from faces where id = %s", (face,))


def assert_right(school: School) -> None:
    """The jobs that are left make everything right."""
    school.process()
    has, should_have = school.mirror()
    assert has == should_have
    assert school.rows() == school.expected_rows()
    assert {status for _, status in school.jobs()} <= {"completed"}


# Two users delete faces that match each other


def test_with_the_foreign_keys_of_version_0_1_crosswise_deletions_deadlocked(
    school: School, couple: tuple[list[UUID], list[UUID]]
) -> None:
    his, hers = couple
    school.connection.execute(AS_BEFORE.encode())
    with sessions(school, 2) as (he, she), ThreadPoolExecutor() as pool:
        delete(he, his[0])
        delete(she, hers[1])
        waiting = pool.submit(delete, he, his[1])
        with pytest.raises(psycopg.errors.DeadlockDetected):  # noqa: PT012
            delete(she, hers[0])
            waiting.result(timeout=20)
        for session in (he, she):
            session.execute("rollback")


@pytest.mark.parametrize("level", LEVELS)
def test_crosswise_deletions_wait_for_nothing(
    school: School, couple: tuple[list[UUID], list[UUID]], level: str
) -> None:
    his, hers = couple
    with sessions(school, 2, level) as (he, she):
        for session in (he, she):
            session.execute("set local lock_timeout = '1ms'")
        delete(he, his[0])
        delete(she, hers[1])
        delete(he, his[1])
        delete(she, hers[0])
        he.execute("commit")
        she.execute("commit")
    assert_right(school)
    assert school.mirror() == (set(), set())


def test_deletions_of_which_one_is_rolled_back_leave_what_is_there(
    school: School, couple: tuple[list[UUID], list[UUID]]
) -> None:
    his, hers = couple
    with sessions(school, 2) as (he, she):
        delete(he, his[0])
        delete(he, his[1])
        delete(she, hers[0])
        he.execute("rollback")
        she.execute("commit")
    assert_right(school)
    assert school.pairs() == {frozenset((his[1], hers[1]))}


# Workers change what the app's transaction has seen


@above_read_committed
def test_a_transaction_that_changes_what_a_worker_changed_meanwhile_was_aborted(
    school: School, couple: tuple[list[UUID], list[UUID]], level: str
) -> None:
    """So it was in version 0.1, whose triggers changed these rows in the app's transaction."""
    (his, _), (hers, _) = couple
    with sessions(school, 1, level) as (app,):
        app.execute("select count(*) from faces")
        school.run("update faces set embedding = %s where id = %s", embedding(1, 0.5), his)
        school.process()
        with pytest.raises(psycopg.errors.SerializationFailure):
            app.execute("delete from matching_pipeline.matches where right_id = %s", (hers,))


@changes
@above_read_committed
def test_a_transaction_is_not_aborted_where_a_worker_changed_rows_meanwhile(
    school: School, couple: tuple[list[UUID], list[UUID]], level: str, change: str
) -> None:
    (_, other), (hers, _) = couple
    school.run("update faces set embedding = %s where id = %s", embedding(1, 0.5), hers)
    with sessions(school, 1, level) as (app,):
        app.execute("select count(*) from faces")
        # her job is claimed and completed, and both lists change
        school.process()
        school.run("update faces set embedding = %s where id = %s", embedding(1, 0.5), other)
        app.execute(change.encode(), {"face": hers})
        school.process()
        app.execute("commit")
    assert_right(school)


@above_read_committed
@pytest.mark.parametrize("table", ["faces", "profiles"])
def test_a_truncation_is_not_aborted_where_a_worker_changed_rows_meanwhile(
    school: School, couple: tuple[list[UUID], list[UUID]], level: str, table: str
) -> None:
    (his, _), _ = couple
    school.run("update faces set embedding = %s where id = %s", embedding(1, 0.5), his)
    with sessions(school, 1, level) as (app,):
        app.execute("select count(*) from matching_pipeline.jobs")
        school.process()
        app.execute(f"truncate {table} cascade".encode())
        app.execute("commit")
    assert_right(school)
    assert school.mirror() == (set(), set())


@changes
@pytest.mark.parametrize("reads_jobs", [False, True], ids=["as it is", "were jobs read"])
def test_two_serializable_transactions_have_nothing_of_ours_in_common(
    school: School, couple: tuple[list[UUID], list[UUID]], change: str, reads_jobs: bool
) -> None:
    (his, _), (hers, _) = couple
    school.run("update matching_pipeline.match_settings set threshold = 0.6")
    # the planner knows that our tables are small, and would read whole tables
    school.run("vacuum analyze matching_pipeline.jobs, matching_pipeline.entities, matching_pipeline.matches")
    with sessions(school, 2, "serializable") as both:
        for session in both if reads_jobs else ():
            session.execute("select count(*) from matching_pipeline.jobs")
        for session, face in zip(both, (his, hers), strict=True):
            session.execute(change.encode(), {"face": face})
        both[0].execute("commit")
        if reads_jobs:
            with pytest.raises(psycopg.errors.SerializationFailure):
                both[1].execute("commit")
        else:
            both[1].execute("commit")
    assert_right(school)


# Two workers


def test_a_worker_computes_lists_after_another_has_written_them(school: School) -> None:
    """Each has a face that belongs into the same list, which takes one."""
    school.run("update matching_pipeline.match_settings set top = 1 where matcher = 'face'")
    school.face_of("female")
    school.process()
    school.face_of("male", (1.0, 1.0))
    handler, others = FaceHandler(), list[Future[Summary]]()
    write = handler.write

    def write_while_another_works(connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        figures = write(connection, outcomes)
        if outcomes and not others:
            school.face_of("male", (1.0, 0.5))
            others.append(pool.submit(school.process))
            # longer than the other needs that does not wait for the lists
            wait(others, 0.3)
        return figures

    handler.write = write_while_another_works  # type: ignore[method-assign]
    with ThreadPoolExecutor() as pool:
        QueueWorker(school.database_url, handler).run()
    assert others[0].done()
    assert_right(school)


def test_writing_a_pair_reads_its_own_entities_however_many_there_are(
    school: School, couple: tuple[list[UUID], list[UUID]]
) -> None:
    many = "(select gen_random_uuid() as id from generate_series(1, 1000)) as others"
    school.run(f"insert into matching_pipeline.entities (source, id, key) select 'face', id, id::text from {many}")
    left, right = couple
    put = (
        "select matching_pipeline.put_pairs('face', 'face', '{}', '{}', %s::uuid[], %s::uuid[], %s::uuid[], "
        "%s::uuid[], %s::uuid[], '{1,1}', '{1,1}', '{1,1}')"
    )
    read = (
        "select sum(idx_tup_fetch + seq_tup_read)::int from pg_stat_xact_user_tables "
        "where relname in ('entities', 'items')"
    )
    with school.connection.transaction():
        for _ in range(8):
            school.run(put, left, left, right, left, right)
        assert school.run(read)[0] < 200
