"""What the trigger costs an insert, and how fast a worker processes jobs whose work costs nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from uuid import uuid4

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.queues.worker import QueueWorker

SINGLE_INSERTS = 2_000
BULK_ROWS = 10_000
JOBS = 20_000


class NoWork:
    """Completes every job and writes nothing."""

    queue = "bench"
    batch_size = 100
    lease = timedelta(minutes=2)

    def work(self, connection: Connection, jobs: Sequence[Job]) -> Iterator[list[Outcome]]:
        yield [Outcome(job) for job in jobs]

    def prepare_write(self, connection: Connection) -> None:
        """Nothing to take."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Nothing to write."""

    def forget(self, connection: Connection, job: Job) -> None:
        """Nothing to forget."""


def main(database_url: str) -> None:
    with connect(database_url) as connection:
        print("\n## An insert with the trigger against one without")
        single = {trigger: _with_trigger(connection, trigger, insert_singly) for trigger in (False, True)}
        added = (single[True] - single[False]) / SINGLE_INSERTS * 1000
        ratio = single[True] / single[False]
        print(f"{SINGLE_INSERTS} inserts, a transaction each: {ratio:.2f} times, +{added:.3f} ms each")
        bulk = {trigger: _with_trigger(connection, trigger, insert_in_bulk) for trigger in (False, True)}
        print(f"{BULK_ROWS} rows in one statement: {bulk[True] / bulk[False]:.2f} times, {bulk[True]:.2f} s in all")

        print("\n## Jobs with a no-op handler")
        client.enqueue(connection, NoWork.queue, "thing", [str(uuid4()) for _ in range(JOBS)])
        summary = QueueWorker(database_url, NoWork()).run()
        rate = summary.completed / summary.seconds
        print(f"{summary.completed} jobs in batches of {NoWork.batch_size}: {rate:.0f} a second")


def insert_singly(connection: Connection) -> None:
    for _ in range(SINGLE_INSERTS):
        connection.execute(
            "insert into product_images (product_id, src) select id, 'file:///bench.jpg' from products limit 1"
        )


def insert_in_bulk(connection: Connection) -> None:
    connection.execute(
        "insert into product_images (product_id, src) select products.id, 'file:///bench.jpg' "
        "from (select id from products limit 1) as products, generate_series(1, %s)",
        (BULK_ROWS,),
    )


def _with_trigger(connection: Connection, enabled: bool, insert: Callable[[Connection], None]) -> float:
    """Seconds."""
    connection.execute("truncate products cascade")
    connection.execute("truncate matching_pipeline.jobs")
    connection.execute("insert into products default values")
    switch = "enable" if enabled else "disable"
    connection.execute(
        f"alter table product_images {switch} trigger matching_pipeline_product_picture_insert".encode()
    )
    began = time.monotonic()
    insert(connection)
    return time.monotonic() - began
