"""Rows of `jobs` with values that a person wrote and no worker expects: that job stops, and nothing else does."""

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import WorkerPolicy, request_worker
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, RecordingHandler
from matching_pipeline_tests.integration.conftest import enqueue, recorded
from matching_pipeline_tests.integration.notes import Notes

MOST = 2**31 - 1
DONE = "completed"
HELD = "status = 'processing', attempts = 1"


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize(
    ("written", "status"),
    [
        ("run_at = 'infinity'", "pending"),
        ("run_at = '20000-01-01'", "pending"),
        ("run_at = '-infinity'", DONE),
        (f"attempts = {MOST}", "failed"),
        (f"attempts = {MOST}, snoozes = {MOST}", "failed"),
        (f"attempts = 5000, max_attempts = {MOST}", DONE),
        (f"deaths = {MOST}", "failed"),
        (f"batch_limit = {MOST}", DONE),
        ("caused_at = 'infinity'", DONE),
        ("caused_at = '20000-01-01'", DONE),
        ("created_at = '-infinity'", DONE),
        ("created_at = 'infinity', payload = '[1]', kind = '', source = ''", DONE),
        (f"{HELD}, started_at = '-infinity', run_at = 'infinity', claimer = -5", "processing"),
        (f"{HELD}, started_at = 'infinity', run_at = now(), deaths = {MOST}", "failed"),
    ],
)  # fmt: skip
def test_the_worker_does_the_others(connection: Connection, database_url: str, written: str, status: str) -> None:
    odd, *others = enqueue(connection, 4)
    connection.execute(f"update matching_pipeline.jobs set {written} where key = %s".encode(), (odd,))
    QueueWorker(database_url, RecordingHandler()).run()
    assert recorded(connection) == dict.fromkeys([odd, *others] if status == DONE else others, 1)
    found = connection.execute("select status from matching_pipeline.jobs where key = %s", (odd,))
    assert found.fetchone() == (status,)
    # what sensors and people ask
    assert isinstance(request_worker(connection, [QUEUE], WorkerPolicy("1", 3600, 2)), tuple)
    assert client.status(connection, QUEUE)


@pytest.mark.usefixtures("records")
def test_a_job_with_many_attempts_by_hand_can_fail(connection: Connection) -> None:
    enqueue(connection)
    connection.execute(f"update matching_pipeline.jobs set attempts = 5000, max_attempts = {MOST}".encode())
    (job,) = client.claim(connection, QUEUE, 1, MINUTE)
    assert client.fail(connection, job, "broken", permanent=False)
    assert connection.execute("select status from matching_pipeline.jobs").fetchone() == ("pending",)


def test_a_job_with_a_key_or_kind_that_its_source_has_not_stops_alone(
    connection: Connection, database_url: str
) -> None:
    notes = Notes(connection, database_url)
    notes.attach()
    for kind, key, payload in (
        ("table", "x", '{"gone": true}'),
        ("table", "x", "{}"),
        ("table", "", "[1]"),
        ("entity", "x", "17"),
        ("nonsense", "1", "{}"),
        ("parent", "x", "{}"),
    ):
        connection.execute(
            "insert into matching_pipeline.jobs (queue, source, kind, key, payload) values (%s, 'note', %s, %s, %s)",
            ("note_embeddings", kind, key, payload),
        )
    notes.add("good")
    assert notes.work().stopped_because == "nothing is due"
    assert notes.embedded() == notes.expected()
    unfinished = {kind: reason for kind, _, reason in notes.unfinished()}
    assert set(unfinished) <= {"nonsense", "parent"}
    assert "no rows of the kind nonsense" in unfinished["nonsense"]


def test_a_job_that_no_constraint_admits_is_refused_as_it_is_written(connection: Connection) -> None:
    enqueue(connection)
    for written in ("attempts = -1", "deaths = -1", "batch_limit = 0"):
        with pytest.raises(psycopg.errors.CheckViolation):
            connection.execute(f"update matching_pipeline.jobs set {written}".encode())
