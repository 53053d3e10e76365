"""Celery's messages in Postgres: a worker's session locks the message that it takes until it acknowledges it.

Kombu's own transport hides a message that a worker takes, and never shows it again if the machine vanishes. Here
the lock ends with the session, and another worker takes the message.
"""

from functools import cached_property
from json import loads
from queue import Empty
from typing import Any

from kombu.transport import sqlalchemy
from sqlalchemy import Connection, create_engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError, ProgrammingError
from sqlalchemy.pool import NullPool

LOCKS = 0x6D707362
"""The first number of the advisory locks; the second is the message's id."""
KEEPALIVES = {"idle": "30", "interval": "10", "count": "3"}
"""By which Postgres notices within a minute that a machine is gone."""


class Channel(sqlalchemy.Channel):
    do_restore = False

    def __init__(self, connection: Any, **options: Any) -> None:
        self._taken: dict[str, int] = {}
        """The messages by delivery tag: a session may lock what it has locked."""
        super().__init__(connection, **options)

    def _open(self) -> Any:
        """Makes kombu's tables. If another process makes them at this moment, it looks again."""
        try:
            return super()._open()
        except (IntegrityError, ProgrammingError):
            return super()._open()

    def _get_or_create(self, queue: str) -> Any:
        """The same for the row of a queue."""
        try:
            return super()._get_or_create(queue)
        except IntegrityError:
            self.session.rollback()
            return super()._get_or_create(queue)

    @cached_property
    def _locking(self) -> Connection:
        """The session that has the locks."""
        engine = create_engine(self.connection.client.hostname, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        connection = engine.connect()
        for name, value in KEEPALIVES.items():
            connection.scalar(select(func.set_config(f"tcp_keepalives_{name}", value, False)))
        return connection

    def _get(self, queue: str) -> dict[str, Any]:
        """The oldest message that no session has; its delivery_info says how often it was taken before."""
        message = self.message_cls
        # the offset keeps Postgres from locking before it sorts
        others = self._query_all(queue).where(message.id.not_in(self._taken.values()))
        self.session.commit()  # the transaction that looked for the queue, or it would stay open
        waiting = others.order_by(message.id).offset(0).subquery()
        free = select(waiting.c.id).where(func.pg_try_advisory_lock(LOCKS, waiting.c.id)).limit(1)
        if (number := self._locking.scalar(free)) is None:
            raise Empty
        counted = update(message).where(message.id == number).values(version=message.version + 1)
        row = self._locking.execute(counted.returning(message.version, message.payload)).first()
        if row is None:  # another worker has acknowledged it meanwhile
            self._unlock(number)
            raise Empty
        payload: dict[str, Any] = loads(row.payload)
        payload["properties"]["delivery_info"]["redelivered"] = row.version - 2
        self._taken[payload["properties"]["delivery_tag"]] = number
        return payload

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        self._end(delivery_tag, done=True)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        self._end(delivery_tag, done=not requeue)

    def _end(self, delivery_tag: str, done: bool) -> None:
        super().basic_ack(delivery_tag)
        number = self._taken.pop(delivery_tag)
        if done:
            self._locking.execute(delete(self.message_cls).where(self.message_cls.id == number))
        self._unlock(number)

    def _unlock(self, number: int) -> None:
        self._locking.scalar(select(func.pg_advisory_unlock(LOCKS, number)))

    def close(self) -> None:
        super().close()
        if "_locking" in vars(self):
            self._locking.close()


class Transport(sqlalchemy.Transport):
    Channel = Channel
    connection_errors = (*sqlalchemy.Transport.connection_errors, InvalidRequestError)
    """With the second, SQLAlchemy refuses all further statements of a lost session. Celery connects again."""

    def drain_events(self, connection: Any, timeout: float | None = None) -> Any:
        """Returns soon: Celery acknowledges between two calls, and a worker takes a further message only then."""
        return super().drain_events(connection, timeout and min(timeout, 0.2))
