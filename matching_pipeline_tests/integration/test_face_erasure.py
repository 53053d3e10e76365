"""The deletion of a face or its user erases its id and its vector from the whole database."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from uuid import UUID

import dagster as dg
import pytest
from psycopg.sql import SQL, Identifier, Literal

from matching_pipeline import examples
from matching_pipeline.components.instance import create_instance_tables, instance_url
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.components.worker import QueueConfig, process_now
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.matches import locks
from matching_pipeline.matches.locks import ListsLock
from matching_pipeline.queues import client
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.progress import StopSignal
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.conftest import NewTemplate
from matching_pipeline_tests.integration.school import FACE, FACE_RULE, FaceHandler, School, embedding

QUEUE = FACE_RULE.queue
DELETE_FACE = "delete from faces where id = %s"
DELETE_USER = "delete from profiles where id = (select user_id from faces where id = %s)"
NULL_VECTOR = "update faces set embedding = null where id = %s"
Place = tuple[str, str, str | None]
"""schema, table and column"""
removals = pytest.mark.parametrize("removal", [DELETE_FACE, DELETE_USER], ids=["face", "user"])


class Traces:
    """The id of a face and its vector as text, read while the face exists."""

    def __init__(self, school: School, face: UUID) -> None:
        self._connection = school.connection
        (vector,) = school.run("select embedding::text from faces where id = %s", face)
        self._names = {"id": str(face), "vector": vector.strip("[]")}

    def found(self) -> set[str]:
        """The columns of all schemas of the database that hold any of it."""
        tables = self._connection.execute(
            """select nspname, relname, array_agg(attname::text)
            from pg_attribute
            join pg_class on pg_class.oid = attrelid
            join pg_namespace on pg_namespace.oid = relnamespace
            where relkind in ('r', 'm') and attnum > 0 and not attisdropped
              and nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
            group by nspname, relname"""
        ).fetchall()
        # to ask for each column of each table takes a second
        held = self._places(((schema, table, None) for schema, table, _ in tables), ["id", "vector"])
        return {
            f"{schema}.{table}.{column}: {what}"
            for what in self._names
            for schema, table, column in self._places(
                (
                    (schema, table, column)
                    for schema, table, columns in tables
                    if (schema, table, None) in held
                    for column in columns
                ),
                [what],
            )
        }

    def _places(self, places: Iterable[Place], names: Sequence[str]) -> list[Place]:
        """Those that hold the id or the vector; without a column the whole row is searched."""
        asked = list(places)
        if not asked:
            return []
        sought = [self._names[name] for name in names]
        exists = [
            SQL("select {} where exists (select from {} as row where {})").format(
                Literal(number),
                Identifier(schema, table),
                SQL(" or ").join(
                    SQL("position({} in {}::text) > 0").format(
                        Literal(each), Identifier("row", column) if column else Identifier("row")
                    )
                    for each in sought
                ),
            )
            for number, (schema, table, column) in enumerate(asked)
        ]
        rows = self._connection.execute(SQL(" union all ").join(exists))
        return [asked[number] for (number,) in rows]


class Paused(FaceHandler):
    """Waits inside a worker, before or after the first write, while the transaction is open."""

    def __init__(self, before_writing: bool) -> None:
        super().__init__(QUEUE, FACE)
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


def vector() -> list[float]:
    """A vector unlike any other, and similar to all."""
    return [1.0, *(random.uniform(0.001, 0.04) for _ in range(50))]


def change(school: School, face: UUID) -> None:
    school.run("update faces set embedding = %s where id = %s", embedding(*vector()), face)


@pytest.fixture(scope="session")
def template(new_template: NewTemplate) -> str:
    return new_template("full_lists", fill)


def fill(connection: Connection, database_url: str) -> None:
    """30 women and 25 men, whose lists are full, so that a lost pair is replaced."""
    school = School(connection, database_url)
    for _ in range(25):
        school.face_of("male", vector())
    for _ in range(30):
        school.face_of("female", vector())
    school.process()


@pytest.fixture
def school(connection: Connection, database_url: str) -> School:
    return School(connection, database_url, first_id=1000)


@pytest.fixture
def face(school: School) -> UUID:
    """A woman who is first in a list."""
    (first,) = school.run("select face_b_id from matches where rank_for_a = 1 order by 1 desc limit 1")
    return first  # type: ignore[no-any-return]


@contextmanager
def serving(school: School, handler: FaceHandler) -> Iterator[None]:
    """A worker serves the queue until the block ends."""
    stop = StopSignal()
    with ThreadPoolExecutor() as pool:
        worker = pool.submit(QueueWorker(school.database_url, handler, serve=True, stop=stop).run)
        try:
            yield
        finally:
            stop.set()
            client.wake(school.connection)
        worker.result(timeout=30)


def assert_erased(school: School, traces: Traces) -> None:
    """Also after all jobs were processed. Then the partners' lists are complete."""
    assert traces.found() == set()
    assert_erased_by_worker(school, traces)


def assert_erased_by_worker(school: School, traces: Traces) -> None:
    """After all jobs were processed. Then the partners' lists are complete."""
    school.process()
    assert traces.found() == set()
    assert school.rows() == school.expected_rows()
    has, should_have = school.mirror()
    assert has == should_have
    assert not [face for face, status in school.jobs() if status != "completed"]


@removals
def test_a_matched_face_leaves_no_trace_and_its_partners_lists_are_recomputed(
    school: School, face: UUID, removal: str
) -> None:
    traces = Traces(school, face)
    assert {column.split(": ")[0] for column in traces.found()} >= {
        *("public.faces.id", "public.faces.embedding", "matching_pipeline.matches.right_id"),
        *("matching_pipeline.jobs.key", "matching_pipeline.entities.key", "matching_pipeline.entities.embedding"),
    }
    school.run(removal, face)
    assert_erased(school, traces)


@removals
def test_a_face_that_waits_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    change(school, face)
    assert school.queued() == {face}
    traces = Traces(school, face)
    school.run(removal, face)
    assert_erased(school, traces)


@removals
def test_a_face_that_was_never_read_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    """A worker may have read its row, so its job stays for a moment."""
    new = school.face_of("female", vector())
    traces = Traces(school, new)
    school.run(removal, new)
    assert traces.found() == {"matching_pipeline.jobs.key: id"}
    assert_erased_by_worker(school, traces)


@pytest.mark.parametrize("statement", [NULL_VECTOR, DELETE_FACE])
def test_a_vector_that_is_removed_leaves_no_trace(school: School, face: UUID, statement: str) -> None:
    traces = Traces(school, face)
    school.run(statement, face)
    assert not [where for where in traces.found() if "matching_pipeline." in where]
    school.process()
    assert not [where for where in traces.found() if "matching_pipeline." in where]
    assert school.rows() == school.expected_rows()


@pytest.mark.parametrize("table", ["faces", "profiles"])
def test_truncated_faces_leave_no_trace(school: School, face: UUID, table: str) -> None:
    change(school, face)
    traces = Traces(school, face)
    school.run(f"truncate {table} cascade")
    assert_erased(school, traces)


@removals
def test_a_claimed_face_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    class Deleted(FaceHandler):
        def prepare_write(self, connection: Connection) -> None:
            school.run(removal, face)
            super().prepare_write(connection)

    change(school, face)
    traces = Traces(school, face)
    assert QueueWorker(school.database_url, Deleted(QUEUE, FACE)).run().counts["lost"] == 1
    assert_erased(school, traces)


@pytest.mark.parametrize("removal", [DELETE_FACE, DELETE_USER, NULL_VECTOR, "truncate faces"])
@pytest.mark.parametrize("before_writing", [True, False], ids=["before writing", "after writing"])
@pytest.mark.parametrize("partner", [False, True], ids=["its own", "its partner's"])
def test_an_app_does_not_wait_for_a_worker_and_a_job_erases_the_rest_within_a_second(
    school: School, face: UUID, removal: str, before_writing: bool, partner: bool
) -> None:
    changed = school.run("select face_a_id from matches where face_b_id = %s", face)[0] if partner else face
    change(school, changed)
    school.run("delete from matching_pipeline.matches where right_id = %s", face)
    traces = Traces(school, face)
    handler = Paused(before_writing)
    with serving(school, handler):
        assert handler.reached.wait(10)
        if removal.startswith("truncate") and not before_writing:
            # which waits for every reader of the table
            handler.go_on.set()
        began = time.monotonic()
        school.run(removal, *([face] if "%s" in removal else []))
        assert time.monotonic() - began < 1
        handler.go_on.set()
        began = time.monotonic()
        while any("matching_pipeline." in where for where in traces.found()):
            assert time.monotonic() - began < 2  # a second, and the time of the search for traces
    if removal != NULL_VECTOR:
        assert_erased(school, traces)
    assert school.rows() == school.expected_rows()


def test_an_erasure_does_not_wait_for_a_rebuild(school: School, face: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard of a rebuild holds the lists for as long as it takes."""
    monkeypatch.setattr(locks, "MOST_SECONDS", 0.5)
    traces = Traces(school, face)
    with connect(school.database_url) as rebuild, ListsLock(rebuild, FACE.name).shared():
        with connect(school.database_url) as app:
            # above read committed nothing is erased in the app's own transaction
            app.execute("set default_transaction_isolation = 'repeatable read'")
            app.execute(DELETE_FACE, (face,))
        assert "matching_pipeline.entities.key: id" in traces.found()
        with serving(school, FaceHandler(QUEUE, FACE)):
            began = time.monotonic()
            while traces.found():
                assert time.monotonic() - began < 2
    assert_erased(school, traces)


@removals
def test_a_face_deleted_while_its_lists_are_rebuilt_leaves_no_trace(school: School, face: UUID, removal: str) -> None:
    school.face_of("male", school="HUST")
    school.process()
    school.run("truncate matching_pipeline.matches")
    traces = Traces(school, face)

    def delete(done: int, total: int) -> None:
        school.run(removal, face)

    FACE.rebuild(school.connection, delete)
    assert_erased(school, traces)


@contextmanager
def matches_refused(school: School) -> Iterator[None]:
    """As a constraint of the app's, whose message quotes the row."""
    school.run("alter table matching_pipeline.matches add constraint refused check (similarity < 0) not valid")
    yield
    school.run("alter table matching_pipeline.matches drop constraint refused")


@removals
@pytest.mark.parametrize("attempts", [1, 3], ids=["a failed attempt", "failed for good"])
def test_a_face_whose_job_failed_leaves_no_trace(school: School, removal: str, attempts: int) -> None:
    school.face_of("male", vector())
    face = school.face_of("female", vector())
    with matches_refused(school):
        for _ in range(attempts):
            school.process()
    assert ("failed" if attempts == 3 else "pending") in {status for _, status in school.jobs()}
    traces = Traces(school, face)
    school.run(removal, face)
    assert traces.found() <= {"matching_pipeline.jobs.key: id"}
    client.retry(school.connection, QUEUE)
    assert_erased_by_worker(school, traces)


@removals
def test_a_face_that_was_retried_leaves_no_trace(school: School, removal: str) -> None:
    school.face_of("male", vector())
    face = school.face_of("female", vector())
    with matches_refused(school):
        for _ in range(3):
            school.process()
    school.run("update match_jobs set status = 'pending' where status = 'failed'")
    school.process()
    traces = Traces(school, face)
    school.run(removal, face)
    assert_erased(school, traces)


QUEUES_IT: dict[str, Callable[[School, UUID], object]] = {
    "the app's own job": lambda school, face: school.run("insert into match_jobs (face_id) values (%s)", face),
    "a change of its user": lambda school, face: school.run(
        "update profiles set school = 'HUST' where id = (select user_id from faces where id = %s)", face
    ),
    "changed settings": lambda school, face: school.run(
        "update matching_pipeline.match_settings set threshold = 0.6"
    ),
}


@pytest.mark.parametrize("queue_it", QUEUES_IT.values(), ids=QUEUES_IT)
def test_a_face_that_is_queued_while_it_is_deleted_leaves_no_trace(
    school: School, face: UUID, queue_it: Callable[[School, UUID], object]
) -> None:
    traces = Traces(school, face)
    with ThreadPoolExecutor() as pool, connect(school.database_url) as app:
        with app.transaction():
            app.execute(DELETE_FACE, (face,))
            queued = pool.submit(queue_it, school, face)
            time.sleep(0.5)
        queued.exception(timeout=20)  # that there is no such face is a good answer too
    school.process()
    assert_erased(school, traces)


def test_a_face_deleted_while_another_transaction_has_queued_it_leaves_no_trace(school: School, face: UUID) -> None:
    traces = Traces(school, face)
    with ThreadPoolExecutor() as pool:
        with connect(school.database_url) as app, app.transaction():
            app.execute("insert into match_jobs (face_id) values (%s)", (face,))
            deletion = pool.submit(school.run, DELETE_FACE, face)
            time.sleep(0.5)
        deletion.result(timeout=20)
    school.process()
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
            resources={"pipeline": Pipeline(definitions_dir=str(examples.FOLDER))},
            instance=instance,
            run_config=dg.RunConfig({"process_queue": QueueConfig(queue=QUEUE)}),
        )
    assert result.success
    assert any("failed" in each.check_name for each in result.get_asset_check_evaluations())
    traces = Traces(school, face)
    school.run(DELETE_FACE, face)
    assert {where for where in traces.found() if where.startswith("dagster.")} == set()
