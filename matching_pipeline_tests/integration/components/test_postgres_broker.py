"""Celery's messages in Postgres."""

from typing import Any

import pytest
from kombu import Connection, Queue
from sqlalchemy import func, select

from matching_pipeline.components.instance import instance_url
from matching_pipeline.components.postgres_broker import Transport
from matching_pipeline.db import connections

QUEUE = Queue("shards", routing_key="shards")


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


def test_a_step_that_ends_each_worker_fails(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    from matching_pipeline.components.celery_app import MOST_DEATHS, execute_plan

    for deaths in range(MOST_DEATHS + 1):
        execute_plan.push_request(delivery_info={"redelivered": deaths})
        execute_plan.before_start("", (), {})
    execute_plan.push_request(delivery_info={"redelivered": MOST_DEATHS + 1})
    with pytest.raises(RuntimeError, match="4 Celery workers ended while they did this step"):
        execute_plan.before_start("", (), {})
