"""A face-match app, and the pipeline beside it, as the field's documents test them."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import dagster as dg

from matching_pipeline.components.matches import faces_sensor, matches
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.definitions import defs
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.queues import client
from matching_pipeline.queues.worker import Summary, Worker
from matching_pipeline_tests.integration.school import School, embedding


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
        self.run("update job_queue set run_at = now() where status = 'pending'")

    @contextmanager
    def lingering(self, drains: int = 1, batch_size: int = FaceHandler.batch_size) -> Iterator[list[Summary]]:
        """Warm runs beside the block; afterwards their summaries stand in the list."""

        class Handler(FaceHandler):
            pass

        Handler.batch_size = batch_size
        summaries: list[Summary] = []
        with ThreadPoolExecutor(drains) as threads:
            running = [threads.submit(Worker(self.database_url, Handler(), linger=60).run) for _ in range(drains)]
            self._await_drains(drains)
            try:
                yield summaries
            finally:
                client.stop_all(self.connection)
                summaries += [drain.result(timeout=60) for drain in running]

    def await_idle(self, seconds: float = 60) -> None:
        """Until the drains that linger have done everything."""
        deadline = time.monotonic() + seconds
        while self.run("select 1 from job_queue where status in ('pending', 'processing') limit 1"):
            assert time.monotonic() < deadline, self.all("select * from job_queue where status <> 'completed'")
            time.sleep(0.05)

    def _await_drains(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while client.queue_state(self.connection, "faces").drains < count:
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
        result = faces_sensor(context)
    assert isinstance(result, dg.RunRequest | dg.SkipReason)
    return result


def tick_and_run(pipeline: Pipeline, instance: dg.DagsterInstance) -> dict[str, Any]:
    """The run that the sensor requests, to its end; returns what it reports."""
    request = tick(pipeline, instance)
    assert isinstance(request, dg.RunRequest), request
    result = dg.materialize(
        [matches],
        resources={"pipeline": pipeline},
        instance=instance,
        partition_key=request.partition_key,
        run_config=request.run_config,
        tags=request.tags,
    )
    assert result.success
    reported = result.asset_materializations_for_node("matches")[-1].metadata
    return {name: value.value for name, value in reported.items()}
