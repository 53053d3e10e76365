"""Deleting a face, or its user, erases: its id and its vector are nowhere in the database any more."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import dagster as dg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from matching_pipeline.components.instance import create_instance_tables, instance_url
from matching_pipeline.components.matches import no_failed_faces
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.worker import QueueConfig, process_now
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.handlers.faces import FaceHandler, rebuild
from matching_pipeline.queues import client
from matching_pipeline.queues.worker import Outcome, Worker
from matching_pipeline_tests.integration.school import School, embedding

DELETE_FACE = "delete from faces where id = %s"
DELETE_USER = "delete from profiles where id = (select user_id from faces where id = %s)"
removals = pytest.mark.parametrize("removal", [DELETE_FACE, DELETE_USER], ids=["face", "user"])


class Traces:
    """What names one face: its id, and its vector as text. Taken while it stands."""

    def __init__(self, school: School, face: UUID) -> None:
        self._connection = school.connection
        (vector,) = school.run("select embedding::text from faces where id = %s", face)
        self._names = {"id": str(face), "vector": vector.strip("[]")}

    def found(self) -> set[str]:
        """The columns of the database, of whatever schema, that hold any of it."""
        columns = self._connection.execute(
            """select nspname, relname, attname
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            join pg_namespace on pg_namespace.oid = relnamespace
            where relkind in ('r', 'm') and attnum > 0 and not attisdropped
              and nspname not in ('pg_catalog', 'information_schema', 'pg_toast')"""
        ).fetchall()
        return {
            f"{schema}.{table}.{column}: {what}"
            for schema, table, column in columns
            for what, text in self._names.items()
            if self._holds(schema, table, column, text)
        }

    def _holds(self, schema: str, table: str, column: str, text: str) -> bool:
        statement = SQL("select exists (select from {} where position({} in {}::text) > 0)").format(
            Identifier(schema, table), Literal(text), Identifier(column)
        )
        return self._connection.execute(statement).fetchone() == (True,)


class Paused(FaceHandler):
    """Waits inside a drain, before or after what is written, while the transaction is open."""

    def __init__(self, before_writing: bool) -> None:
        super().__init__()
        self._before_writing = before_writing
        self.reached, self.go_on = threading.Event(), threading.Event()

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> dict[str, int]:
        if self._before_writing:
            self._pause()
        figures = super().write(connection, outcomes)
        if not self._before_writing:
            self._pause()
        return figures

    def _pause(self) -> None:
        self.reached.set()
        assert self.go_on.wait(20)


@pytest.fixture
def school(connection: Connection, database_url: str) -> School:
    return School(connection, database_url)


def vector() -> list[float]:
    """Unlike any other, and similar to all."""
    return [1.0, *(random.uniform(0.001, 0.04) for _ in range(50))]


def change(school: School, face: UUID) -> None:
    school.run("update faces set embedding = %s where id = %s", embedding(*vector()), face)


@pytest.fixture
def face(school: School) -> UUID:
    """One of 30 women, whose lists and those of 25 men are full, so that a lost pair is refilled."""
    for _ in range(25):
        school.face_of("male", vector())
    women = [school.face_of("female", vector()) for _ in range(30)]
    school.drain()
    (first,) = school.run(
        "select face_b_id from matches where rank_for_a = 1 and face_b_id = any (%s) order by 1 limit 1", women
    )
    return first  # type: ignore[no-any-return]


def assert_erased(school: School, traces: Traces) -> None:
    """Also after all that is owed has been done, and the partners' lists are whole."""
    assert traces.found() == set()
    school.drain()
    assert traces.found() == set()
    assert school.rows() == school.expected_rows()
    assert not [face for face, status in school.jobs() if status != "completed"]


@removals
def test_a_matched_face_leaves_no_trace_and_its_partners_lists_are_refilled(
    school: School, face: UUID, removal: str
) -> None:
    traces = Traces(school, face)
    assert {column.split(": ")[0] for column in traces.found()} >= {
        "public.faces.id", "public.faces.embedding", "public.matches.face_b_id", "public.job_queue.entity_id"
    }  # fmt: skip
    school.run(removal, face)
    assert_erased(school, traces)


@removals
def test_a_face_that_waits_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    change(school, face)
    assert school.owed() == {face}
    traces = Traces(school, face)
    school.run(removal, face)
    assert_erased(school, traces)


@pytest.mark.parametrize("statement", ["update faces set embedding = null where id = %s", DELETE_FACE])
def test_a_vector_that_is_taken_away_is_nowhere(school: School, face: UUID, statement: str) -> None:
    traces = Traces(school, face)
    school.run(statement, face)
    school.drain()
    assert not [where for where in traces.found() if where.endswith("vector") or "matches" in where]
    assert school.rows() == school.expected_rows()


@removals
def test_a_claimed_face_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    class Deleted(FaceHandler):
        def prepare_write(self, connection: Connection) -> None:
            school.run(removal, face)
            super().prepare_write(connection)

    change(school, face)
    traces = Traces(school, face)
    assert Worker(school.database_url, Deleted()).run().counts["lost"] == 1
    assert_erased(school, traces)


@removals
@pytest.mark.parametrize("before_writing", [True, False], ids=["before writing", "after writing"])
@pytest.mark.parametrize("partner", [False, True], ids=["its own", "its partner's"])
def test_a_face_deleted_while_a_drain_writes_its_pairs_leaves_no_trace(
    school: School, face: UUID, removal: str, before_writing: bool, partner: bool
) -> None:
    changed = school.run("select face_a_id from matches where face_b_id = %s", face)[0] if partner else face
    change(school, changed)
    school.run("delete from matches where face_b_id = %s", face)
    traces = Traces(school, face)
    handler = Paused(before_writing)
    with ThreadPoolExecutor() as pool, connect(school.database_url) as app:
        drain = pool.submit(Worker(school.database_url, handler).run)
        assert handler.reached.wait(10)
        deletion = pool.submit(app.execute, removal.encode(), (face,))
        time.sleep(0.3)
        handler.go_on.set()
        deletion.result(timeout=20)
        drain.result(timeout=20)
    assert_erased(school, traces)


@removals
def test_a_face_deleted_while_its_lists_are_rebuilt_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    school.face_of("male", school="HUST")
    school.run("truncate matches")
    traces = Traces(school, face)

    def delete(done: int, total: int) -> None:
        school.run(removal, face)

    rebuild(school.connection, delete)
    assert_erased(school, traces)


@contextmanager
def matches_refused(school: School) -> Iterator[None]:
    """As a constraint of the app's own would, whose message quotes the row."""
    school.run("alter table matches add constraint refused check (similarity < 0) not valid")
    yield
    school.run("alter table matches drop constraint refused")


@removals
@pytest.mark.parametrize("attempts", [1, 3], ids=["a failed attempt", "failed for good"])
def test_a_face_whose_work_failed_leaves_no_trace(school: School, removal: str, attempts: int) -> None:
    school.face_of("male", vector())
    face = school.face_of("female", vector())
    with matches_refused(school):
        for _ in range(attempts):
            school.drain()
    assert ("failed" if attempts == 3 else "pending") in {status for _, status in school.jobs()}
    traces = Traces(school, face)
    school.run(removal, face)
    assert traces.found() == set()
    client.retry(school.connection, "faces")
    assert_erased(school, traces)


@removals
def test_a_face_that_was_retried_leaves_no_trace(school: School, removal: str) -> None:
    school.face_of("male", vector())
    face = school.face_of("female", vector())
    with matches_refused(school):
        for _ in range(3):
            school.drain()
    school.run("update match_jobs set status = 'pending' where status = 'failed'")
    school.drain()
    traces = Traces(school, face)
    school.run(removal, face)
    assert_erased(school, traces)


QUEUES_IT: dict[str, Callable[[School, UUID], object]] = {
    "the app's own job": lambda school, face: school.run("insert into match_jobs (face_id) values (%s)", face),
    "a change of its user": lambda school, face: school.run(
        "update profiles set school = 'HUST' where id = (select user_id from faces where id = %s)", face
    ),
    "changed settings": lambda school, face: school.run("update match_settings set threshold = 0.6"),
}


@pytest.mark.parametrize("queue_it", QUEUES_IT.values(), ids=QUEUES_IT)
def test_a_face_that_somebody_queues_while_it_is_being_deleted_leaves_no_trace(
    school: School, face: UUID, queue_it: Callable[[School, UUID], object]
) -> None:
    traces = Traces(school, face)
    with ThreadPoolExecutor() as pool, connect(school.database_url) as app:
        with app.transaction():
            app.execute(DELETE_FACE, (face,))
            queued = pool.submit(queue_it, school, face)
            time.sleep(0.5)
        queued.exception(timeout=20)  # that there is no such face is a good answer too
    school.drain()
    assert_erased(school, traces)


def test_a_face_deleted_while_another_transaction_has_queued_it_leaves_no_trace(school: School, face: UUID) -> None:
    traces = Traces(school, face)
    with ThreadPoolExecutor() as pool:
        with connect(school.database_url) as app, app.transaction():
            app.execute("insert into match_jobs (face_id) values (%s)", (face,))
            deletion = pool.submit(school.run, DELETE_FACE, face)
            time.sleep(0.5)
        deletion.result(timeout=20)
    school.drain()
    assert_erased(school, traces)


@pytest.fixture
def instance(school: School) -> Iterator[dg.DagsterInstance]:
    """Dagster's own tables in the app's database, as `migrate` makes them."""
    school.connection.execute(query("create_dagster_schema"))
    url = instance_url(school.database_url)
    create_instance_tables(url)
    storage = {"postgres": {"postgres_url": url, "should_autocreate_tables": False}}
    with dg.instance_for_test(overrides={"storage": storage, "telemetry": {"enabled": False}}) as instance:
        yield instance


def test_dagster_keeps_no_trace_of_a_face(
    school: School, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", school.database_url)
    school.face_of("male", vector())
    face = school.face_of("female", vector())
    with matches_refused(school):
        result = process_now.execute_in_process(
            resources={"pipeline": Pipeline()},
            instance=instance,
            run_config=dg.RunConfig({"process_queue": QueueConfig(queue="faces")}),
        )
    assert result.success
    assert no_failed_faces.key.name in {each.check_name for each in result.get_asset_check_evaluations()}
    traces = Traces(school, face)
    school.run(DELETE_FACE, face)
    assert {where for where in traces.found() if where.startswith("dagster.")} == set()
