"""The tests' own queue, a school and a studio."""

import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.fixtures.studio import Studio
from matching_pipeline_tests.integration.school import School


@pytest.fixture
def school(connection: Connection, database_url: str) -> School:
    return School(connection, database_url)


@pytest.fixture
def studio(connection: Connection, tmp_path: Path) -> Studio:
    return Studio(connection, tmp_path)


@pytest.fixture
def records(connection: Connection) -> None:
    """The tables that RecordingHandler writes."""
    make_record_tables(connection)


def make_record_tables(connection: Connection) -> None:
    connection.execute("create table recorded (key text not null, result text check (result <> 'poison'))")
    connection.execute("create table forgotten (key text not null)")


def enqueue(connection: Connection, count: int = 1) -> list[str]:
    """The keys of so many new entities, all of them due."""
    keys = [str(uuid4()) for _ in range(count)]
    assert client.enqueue(connection, QUEUE, SOURCE, keys) == count
    return keys


def claim(connection: Connection, batch_size: int = 100, lease: timedelta = MINUTE) -> list[Job]:
    return client.claim(connection, QUEUE, batch_size, lease)


def claim_one(connection: Connection) -> Job:
    (job,) = claim(connection)
    return job


def make_due(connection: Connection) -> None:
    """As if the back-off of pending rows, and the lease of those in processing, were over."""
    connection.execute(
        "update matching_pipeline.jobs set run_at = now() - interval '1 second' "
        "where status in ('pending', 'processing')"
    )


def states(connection: Connection) -> Counter[str]:
    """How many rows there are in each status."""
    rows = connection.execute("select status, count(*) from matching_pipeline.jobs group by status")
    return Counter(dict(rows.fetchall()))


def recorded(connection: Connection) -> Counter[str]:
    """How often each entity was written."""
    return Counter(key for (key,) in connection.execute("select key from recorded"))


def counted_attempts(connection: Connection) -> list[int]:
    """The attempts counted of each row, without snoozes."""
    rows = connection.execute("select attempts - snoozes from matching_pipeline.jobs order by id")
    return [count for (count,) in rows]


def until(connection: Connection, condition: str) -> None:
    """Waits until the SQL condition holds."""
    deadline = time.monotonic() + 120
    while connection.execute(f"select {condition}".encode()).fetchone() != (True,):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)
