"""Celery's messages in Postgres."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from kombu import Connection, Queue
from sqlalchemy import func, select

from matching_pipeline.components.instance import instance_url
from matching_pipeline.components.postgres_broker import Transport
from matching_pipeline.db import connections
from matching_pipeline_tests.integration.conftest import until

QUEUE = Queue("shards", routing_key="shards")
ONE_WAITS = (
    "(select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock') = 1"
)


class Worker:
    """One session, as of a Celery worker."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(f"sqla+{url}")
        # only a worker has the transport
        self._connection.transport_cls = Transport
        self.channel = self._connection.channel()

    def take(self) -> Any:
        return self.channel.basic_get(QUEUE.name)

    def vanish(self) -> None:
        self.channel._locking.connection.close()


@pytest.fixture
def url(connection: connections.Connection, database_url: str) -> str:
    connection.execute("create schema if not exists dagster")
    url = instance_url(database_url)
    with Connection(f"sqla+{url}") as sender:
        for body in ("first", "second"):
            sender.Producer().publish(body, routing_key=QUEUE.routing_key, declare=[QUEUE])
    return url


def test_a_message_is_taken_once_until_its_worker_vanishes(url: str) -> None:
    one, other = Worker(url), Worker(url)
    taken = [one.take(), other.take()]
    assert [message.payload for message in taken if message] == ["first", "second"]
    assert one.take() is None
    one.vanish()
    again = other.take()
    assert (again.payload, again.delivery_info["redelivered"]) == ("first", 1)
    again.ack()


def test_a_worker_whose_session_is_lost_connects_again(connection: connections.Connection, url: str) -> None:
    worker = Worker(url)
    message = worker.take()
    assert not connection.execute(
        b"select from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'"
    ).fetchall()
    session = worker.channel._locking.scalar(select(func.pg_backend_pid()))
    connection.execute("select pg_terminate_backend(%s)", [session])
    for action in (message.ack, worker.take, worker.take):
        with pytest.raises(Transport.connection_errors):
            action()
    assert Worker(url).take().payload == "first"


@pytest.mark.parametrize(
    "beforehand",
    [
        "create sequence queue_id_sequence",
        "create table kombu_queue (id integer primary key, name varchar(200) unique)",
    ],
)
def test_workers_that_start_at_once_make_the_tables_once(
    beforehand: str, connection: connections.Connection, database_url: str
) -> None:
    connection.execute("create schema if not exists dagster")
    url = instance_url(database_url)
    with ThreadPoolExecutor() as pool, psycopg.connect(database_url, options="-c search_path=dagster") as other:
        other.execute(beforehand.encode())
        opened = pool.submit(lambda: Worker(url).channel.session)
        until(connection, ONE_WAITS)
        other.commit()
        opened.result()


def test_workers_that_name_a_queue_at_once_make_one(
    connection: connections.Connection, database_url: str, url: str
) -> None:
    worker = Worker(url)
    with ThreadPoolExecutor() as pool, psycopg.connect(database_url, options="-c search_path=dagster") as other:
        other.execute("insert into kombu_queue (id, name) values (1000, 'other')")
        made = pool.submit(worker.channel._new_queue, "other")
        until(connection, ONE_WAITS)
        other.commit()
        made.result()
    assert worker.channel._get_or_create("other").id == 1000


def test_a_step_that_ends_each_worker_fails(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    from matching_pipeline.components.celery_app import MOST_DEATHS, execute_plan

    for deaths in range(MOST_DEATHS + 1):
        execute_plan.push_request(delivery_info={"redelivered": deaths})
        execute_plan.before_start("", (), {})
    execute_plan.push_request(delivery_info={"redelivered": MOST_DEATHS + 1})
    with pytest.raises(RuntimeError, match="4 Celery workers ended while they did this step"):
        execute_plan.before_start("", (), {})
