"""What the queue's verbs cost, with a long history and a long backlog behind them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.queues import client
from matching_pipeline.queues.client import Job
from matching_pipeline_tests.fixtures.recording import MINUTE, QUEUE, SOURCE
from matching_pipeline_tests.integration.conftest import claim

BACKLOG = "backlog"
DAY = timedelta(days=1)
HISTORY = f"""
    insert into matching_pipeline.jobs (queue, source, id, key, status, attempts, started_at, completed_at)
    select '{QUEUE}', '{SOURCE}', id, id, 'completed', 1, ended - interval '1 minute', ended
    from (
        select lpad(to_hex(number), 32, '0')::uuid as id, now() - (100000 - number) * interval '6 seconds' as ended
        from generate_series(1, 100000) as number
    ) as history;

    insert into matching_pipeline.jobs (queue, source, id, key, run_at)
    select queue, '{SOURCE}', id, id, due
    from (values ('{QUEUE}', 10000), ('{BACKLOG}', 20000)) as queues (queue, length), lateral (
        select md5(queue || number)::uuid as id, now() - (length - number) * interval '1 millisecond' as due
        from generate_series(1, length) as number
    ) as jobs;
"""


@dataclass(frozen=True)
class Cost:
    sequential_scans: int
    buffers: int
    """Shared buffers touched by the statement and by what the functions in it run."""
    indexes: frozenset[str]


class Measure:
    """Runs a named query in a transaction of its own and tells what it cost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = psycopg.ClientCursor(connection)

    def __call__(self, name: str, **parameters: Any) -> Cost:
        before = self._index_scans()
        with self._connection.transaction():
            self._cursor.execute(b"explain (analyze, buffers, format json) " + query(name), parameters)
            (((plan,),),) = self._cursor.fetchall()
            scans = "select seq_scan from pg_stat_xact_user_tables where relid = 'matching_pipeline.jobs'::regclass"
            ((sequential_scans,),) = self._connection.execute(scans.encode())
        after = self._index_scans()
        return Cost(
            sequential_scans,
            plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"],
            frozenset(index for index, count in after.items() if count > before[index]),
        )

    def _index_scans(self) -> dict[str, int]:
        self._connection.execute("select pg_stat_force_next_flush()")
        scans = (
            "select indexrelname, idx_scan from pg_stat_user_indexes where relid = 'matching_pipeline.jobs'::regclass"
        )
        return dict(self._connection.execute(scans.encode()).fetchall())


def leases(jobs: Sequence[Job]) -> dict[str, Any]:
    return {"ids": [job.id for job in jobs], "attempts": [job.attempt for job in jobs]}


def new_jobs() -> dict[str, Any]:
    return {"queue": QUEUE, "source": SOURCE, "kind": "entity", "keys": [str(uuid4()) for _ in range(20)]}


@pytest.fixture(scope="module")
def long_queue_url(new_database: Callable[..., str], migrated_template: str) -> str:
    url = new_database(migrated_template)
    with connect(url) as connection:
        connection.execute(HISTORY.encode())
        connection.execute("vacuum analyze matching_pipeline.jobs")
    return url


@pytest.fixture
def session(long_queue_url: str) -> Iterator[Connection]:
    with connect(long_queue_url) as connection:
        yield connection


@pytest.fixture
def measure(session: Connection) -> Measure:
    return Measure(session)


@pytest.mark.parametrize("queue", [QUEUE, BACKLOG])
def test_a_claim_walks_its_index(measure: Measure, queue: str) -> None:
    # a session's first call reads the catalogue
    measure("claim", queue=queue, batch_size=20, lease=MINUTE)
    cost = measure("claim", queue=queue, batch_size=20, lease=MINUTE)
    assert cost.indexes == {"jobs_claim_idx", "jobs_lease_idx", "jobs_pkey"}
    assert cost.sequential_scans == 0
    assert cost.buffers < 1000


@pytest.mark.parametrize("queue", [QUEUE, BACKLOG, "empty"])
def test_the_state_of_a_queue_is_looked_up(measure: Measure, queue: str) -> None:
    measure("queue_state", queue=queue)
    cost = measure("queue_state", queue=queue)
    assert cost.indexes == {"jobs_claim_idx"}
    assert cost.sequential_scans == 0
    assert cost.buffers < 100


def test_enqueue_and_complete_touch_only_their_rows(session: Connection, measure: Measure) -> None:
    measure("enqueue", **new_jobs())
    cost = measure("enqueue", **new_jobs())
    assert cost.sequential_scans == 0
    assert cost.buffers < 1000
    cost = measure("complete", **leases(claim(session, 20)))
    assert cost.sequential_scans == 0
    assert cost.buffers < 1000


def test_renewing_failing_and_snoozing_touch_only_their_rows(session: Connection, measure: Measure) -> None:
    first, *rest = claim(session, 20)
    for cost in (
        measure("renew", **leases([first, *rest]), lease=MINUTE),
        measure("fail", id=first.id, attempt=first.attempt, reason="broken", permanent=False),
        measure("snooze", **leases(rest), delay=MINUTE, reason="later"),
    ):
        assert cost.indexes >= {"jobs_pkey"}
        assert cost.sequential_scans == 0
        assert cost.buffers < 1000


def test_a_purge_walks_its_index(measure: Measure) -> None:
    cost = measure("purge", keep=6.93 * DAY)
    assert cost.indexes == {"jobs_completed_idx", "jobs_pkey"}
    assert cost.sequential_scans == 0


def test_a_claim_stays_cheap_after_thousands_that_no_vacuum_followed(session: Connection, measure: Measure) -> None:
    session.execute("alter table matching_pipeline.jobs set (autovacuum_enabled = off)")
    for _ in range(50):
        assert len(client.complete(session, claim(session, 100))) == 100
    cost = measure("claim", queue=QUEUE, batch_size=20, lease=MINUTE)
    assert cost.sequential_scans == 0
    assert cost.buffers < 2000


def test_an_app_that_deletes_an_owner_does_not_wait_for_a_walk_of_the_queue(session: Connection) -> None:
    session.execute("insert into listings (type) select 'project' from generate_series(1, 10)")
    with session.transaction():
        # often enough for Postgres to settle on one plan for all
        for _ in range(10):
            session.execute("delete from listings where id = (select min(id::text)::uuid from listings)")
        scans = "select seq_scan from pg_stat_xact_user_tables where relid = 'matching_pipeline.jobs'::regclass"
        assert session.execute(scans.encode()).fetchall() == [(0,)]
