"""A job says when the app made the change that it follows from, also where other jobs stand between."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.fetch import FetchLimits
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources import expansion
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, picture, work_images
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.fixtures.recording import QUEUE, SOURCE, RecordingHandler
from matching_pipeline_tests.integration.conftest import claim, claim_one, enqueue
from matching_pipeline_tests.integration.school import School

EARLIER = datetime(2025, 1, 1, tzinfo=UTC)
LATER = datetime(2025, 1, 2, tzinfo=UTC)


def date_back(connection: Connection, to: datetime = EARLIER, key: str | None = None) -> None:
    """As if the app had made its changes then."""
    connection.execute(
        "update matching_pipeline.jobs set caused_at = %(to)s where %(key)s::text is null or key = %(key)s",
        {"to": to, "key": key},
    )


def causes(connection: Connection, queue: str, kind: str = "entity") -> set[datetime]:
    """The causes of the pending jobs."""
    rows = connection.execute(
        "select caused_at from matching_pipeline.jobs where queue = %s and kind = %s and status = 'pending'",
        (queue, kind),
    )
    return {caused_at for (caused_at,) in rows}


def job_caused_at(moment: datetime | None) -> Job:
    return Job(uuid4(), SOURCE, "entity", "a key", {}, 1, moment)


class Following(RecordingHandler):
    """Each job is followed by one in the queue `next`."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        client.enqueue(connection, "next", SOURCE, [outcome.job.key for outcome in outcomes])

    def forget(self, connection: Connection, job: Job) -> None:
        client.enqueue(connection, "next", SOURCE, [job.key])


class FollowingFailures(Following):
    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(job, failure=PermanentFailure("broken")) for job in jobs]


def test_the_change_is_the_apps_transaction(connection: Connection) -> None:
    with connection.transaction():
        ((began,),) = connection.execute("select now()")
        enqueue(connection)
    job = claim_one(connection)
    assert job.caused_at == began
    client.snooze(connection, [job], timedelta(0), "later")
    assert claim_one(connection).caused_at == began


def test_a_second_change_does_not_hide_the_first(connection: Connection) -> None:
    (key,) = enqueue(connection)
    date_back(connection)
    client.enqueue(connection, QUEUE, SOURCE, [key])
    assert claim_one(connection).caused_at == EARLIER


def test_the_earliest_cause_counts_also_for_a_job_that_waits_already(connection: Connection) -> None:
    (key,) = enqueue(connection)
    with connection.transaction():
        client.state_cause(connection, [job_caused_at(LATER), job_caused_at(EARLIER), job_caused_at(None)])
        client.enqueue(connection, QUEUE, SOURCE, [key])
        client.enqueue(connection, "next", SOURCE, [key])
    assert causes(connection, QUEUE) == causes(connection, "next") == {EARLIER}


def test_a_cause_holds_for_one_transaction(connection: Connection) -> None:
    with connection.transaction():
        client.state_cause(connection, [job_caused_at(EARLIER)])
    enqueue(connection)
    assert min(causes(connection, QUEUE)) > LATER


def test_retried_jobs_keep_their_cause(connection: Connection) -> None:
    enqueue(connection)
    date_back(connection)
    client.fail(connection, claim_one(connection), "broken", permanent=True)
    client.retry(connection, QUEUE)
    assert claim_one(connection).caused_at == EARLIER


@pytest.mark.parametrize("handler", [Following(), FollowingFailures()])
def test_what_a_write_enqueues_has_the_earliest_cause_of_its_jobs(
    connection: Connection, database_url: str, handler: RecordingHandler
) -> None:
    first, second = enqueue(connection, 2)
    date_back(connection, EARLIER, first)
    date_back(connection, LATER, second)
    QueueWorker(database_url, handler).run()
    assert causes(connection, "next") == {EARLIER}


def test_from_a_picture_to_its_matches(connection: Connection, database_url: str, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(picture("teal"))
    app = App(connection)
    app.product_image(app.product(), (tmp_path / "picture.png").as_uri())
    date_back(connection)
    work_images(database_url, CountingAnalyzer(), FetchLimits(file_roots=(tmp_path,)))
    assert causes(connection, "matches_project") == {EARLIER}


def test_from_a_parent_to_its_entities(connection: Connection, database_url: str) -> None:
    school = School(connection, database_url)
    user = school.user()
    school.face(user)
    school.process()
    school.settle()
    school.run("update profiles set school = 'HUST' where id = %s", user)
    date_back(connection)
    (job,) = client.claim(connection, "matches_face", 10, timedelta(minutes=1))
    outcomes = list(expansion.expand(connection, [job]))
    with connection.transaction():
        client.state_cause(connection, [job])
        expansion.write(connection, "matches_face", outcomes)
    assert (job.kind, causes(connection, "matches_face")) == ("parent", {EARLIER})


def test_from_a_table_to_its_rows_and_its_next_part(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 2)
    board = JobBoard(connection)
    for _ in range(3):
        board.post()
    board.settle()
    enqueue_resync(connection, "posting")
    date_back(connection)
    (job,) = client.claim(connection, "job_embeddings", 10, timedelta(minutes=1))
    outcomes = list(expansion.expand(connection, [job]))
    with connection.transaction():
        client.state_cause(connection, [job])
        expansion.write(connection, "job_embeddings", outcomes)
    assert causes(connection, "job_embeddings", "table") == {EARLIER}
    assert causes(connection, "job_embeddings", "entity") == {EARLIER}
    client.complete(connection, [job])
    work_postings(database_url)
    assert len(board.embedded()) == 3


@pytest.mark.parametrize("stated", ["infinity", "0001-01-01 BC", "later", "9999-12-31"])
def test_a_cause_that_no_client_reads_is_not_kept(connection: Connection, stated: str) -> None:
    """Every role can set it."""
    with connection.transaction():
        connection.execute("select set_config('matching_pipeline.caused_at', %s, true)", (stated,))
        enqueue(connection)
    (job,) = claim(connection)
    assert job.caused_at is not None
    assert abs(job.caused_at - datetime.now(UTC)) < timedelta(days=3660)
