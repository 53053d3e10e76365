"""A face-match app, and the pipeline beside it, as the field's documents test them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import dagster as dg

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.definitions import defs
from matching_pipeline.handlers.matches import VECTORS_AT_ONCE
from matching_pipeline.queues import client
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.integration.school import FaceHandler, School, embedding


class FaceApp(School):
    """Uploads as the field's API does: a face, and then, by itself, a job for it."""

    def upload(self, user: UUID, vector: Sequence[float] = (1.0,)) -> UUID:
        with connect(self.database_url) as connection:
            return upload(connection, user, vector)

    def upload_at_once(self, users: Sequence[UUID]) -> list[UUID]:
        """Each in a thread and a session of its own."""
        with ThreadPoolExecutor(len(users)) as threads:
            vectors = [(1.0, place / len(users)) for place in range(len(users))]
            return list(threads.map(self.upload, users, vectors))

    def statuses(self) -> Counter[str]:
        return Counter(status for _, status in self.jobs())

    def all(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement.encode(), parameters).fetchall()

    def later(self) -> None:
        """As if the back-off of what is pending were over."""
        self.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")

    @contextmanager
    def standing_workers(self, workers: int = 1, batch_size: int = VECTORS_AT_ONCE) -> Iterator[list[Summary]]:
        """Workers that wait for jobs during the block; afterwards the list has their summaries."""

        class Handler(FaceHandler):
            def __init__(self) -> None:
                super().__init__()
                self.batch_size = batch_size

        summaries: list[Summary] = []
        with ThreadPoolExecutor(workers) as threads:
            running = [
                threads.submit(QueueWorker(self.database_url, Handler(), serve=True).run) for _ in range(workers)
            ]
            self._await_workers(workers)
            try:
                yield summaries
            finally:
                client.stop_all(self.connection)
                summaries += [worker.result(timeout=60) for worker in running]

    def await_idle(self, seconds: float = 60) -> None:
        """Until the workers have processed all jobs."""
        deadline = time.monotonic() + seconds
        while self.run("select 1 from matching_pipeline.jobs where status in ('pending', 'processing') limit 1"):
            assert time.monotonic() < deadline, self.all(
                "select * from matching_pipeline.jobs where status <> 'completed'"
            )
            time.sleep(0.05)

    def _await_workers(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while client.queue_state(self.connection, "matches_face").workers < count:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def upload(connection: Connection, user: UUID, vector: Sequence[float] = (1.0,)) -> UUID:
    given = embedding(*vector)
    row = connection.execute(
        "insert into faces (user_id, embedding) values (%s, %s) returning id", (user, given)
    ).fetchone()
    assert row is not None
    face: UUID = row[0]
    connection.execute(
        "insert into match_jobs (face_id, user_id, embedding, status) values (%s, %s, %s, 'pending')",
        (face, user, given),
    )
    return face


def tick(pipeline: Pipeline, instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """What the sensor says now."""
    with dg.build_sensor_context(instance=instance, resources={"pipeline": pipeline}, definitions=defs) as context:
        result = defs.get_sensor_def("matches_face_sensor")(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def tick_and_run(pipeline: Pipeline, instance: dg.DagsterInstance) -> dict[str, Any]:
    """The run that the sensor requests, until nothing is due; returns what it reports of `matches`."""
    request = tick(pipeline, instance)
    assert isinstance(request, dg.RunRequest), request
    with ThreadPoolExecutor(1) as threads:
        stopping = threads.submit(stop_when_idle, pipeline.database_url)
        result = defs.resolve_job_def("worker").execute_in_process(
            run_config=request.run_config, tags=request.tags, instance=instance, resources={"pipeline": pipeline}
        )
        stopping.result()
    assert result.success
    (reported,) = (
        each.metadata
        for each in result.asset_materializations_for_node("serve_queues")
        if each.asset_key == dg.AssetKey("matches")
    )
    return {name: value.value for name, value in reported.items()}


def stop_when_idle(database_url: str) -> None:
    """Tells the workers to leave once a worker has entered and no job is due or processing."""
    busy = """select not exists (select from matching_pipeline.workers where entered_at is not null) or exists (
        select from matching_pipeline.jobs where status = 'processing' or (status = 'pending' and run_at <= now()))"""
    with connect(database_url) as connection:
        while connection.execute(busy.encode()).fetchone() == (True,):
            time.sleep(0.1)
        client.stop_all(connection)
