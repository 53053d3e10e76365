"""How long our transactions wait for others."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.transactions import give_way


@pytest.fixture
def absent_standby(connection: Connection) -> Iterator[None]:
    """For which a commit that asks for it waits, as on a slow disk; the tests' other sessions do not ask."""
    connection.execute("alter system set synchronous_standby_names = '*'")
    connection.execute("select pg_reload_conf()")
    yield
    connection.execute("alter system reset synchronous_standby_names")
    connection.execute("select pg_reload_conf()")


@pytest.mark.usefixtures("absent_standby")
def test_a_turn_to_commit_is_awaited_where_another_notifies_slowly(connection: Connection, database_url: str) -> None:
    def commit_slowly() -> None:
        with connect(database_url) as slow:
            while slow.execute("show synchronous_standby_names").fetchone() == ("",):
                time.sleep(0.01)
            slow.execute("set synchronous_commit = on")
            slow.execute(
                "with written as (insert into matching_pipeline.ai_asking values ('m', 'h', 1) returning model) "
                "select pg_notify('matching_pipeline_jobs', model) from written"
            )

    tries = []

    def write() -> None:
        tries.append(ours.execute("notify matches"))

    with ThreadPoolExecutor() as pool, connect(database_url) as ours:
        slow = pool.submit(commit_slowly)
        waiting = "select from pg_stat_activity where wait_event = 'SyncRep' and datname = current_database()"
        while not connection.execute(waiting).fetchall():
            assert not slow.done()
            time.sleep(0.01)
        written = pool.submit(give_way, ours, write)
        time.sleep(0.5)
        connection.execute("select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
        written.result(timeout=10)
    assert len(tries) == 1
