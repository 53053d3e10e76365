"""The requests to providers (`ai_calls`), and the cost of each."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.providers.answer_cache import Answer, AnswerCache
from matching_pipeline.providers.budget import Budget, Reservation
from matching_pipeline.providers.session import ReconnectingSession
from matching_pipeline.providers.tracing import trace

CallOutcome = Literal["answered", "unusable", "refused", "rate limit", "unavailable", "configuration"]


@dataclass(frozen=True)
class Call:
    """A request that has ended."""

    model: str
    items: int
    milliseconds: int
    outcome: CallOutcome
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    request_id: str | None = None
    error: str | None = None
    operation: str = "request"


class CallLog:
    """Records the requests for one queue, and holds them to the daily budget. Threads may share it."""

    def __init__(self, session: ReconnectingSession, cache: AnswerCache, queue: str, budget: Budget) -> None:
        self.reserve = budget.reserve
        self._session = session
        self._cache = cache
        self._queue = queue
        self._budget = budget

    def record(
        self, call: Call, answered_by: str, answers: Mapping[bytes, Answer], reservation: Reservation | None = None
    ) -> None:
        """Writes the request, and its answers into the cache under the name `answered_by`, in one transaction."""
        parameters = {**vars(call), "queue": self._queue, "error": call.error and call.error[:2000]}

        def write(connection: Connection) -> None:
            with connection.transaction():
                connection.execute(query("record_ai_call"), parameters)
                self._cache.keep(connection, answered_by, answers)
                # last, since all requests of a day wait for this row
                self._budget.settle(connection, reservation, call.cost_usd)

        self._session.run(write)
        trace(self._queue, call)


@dataclass(frozen=True)
class QueueCost:
    """The cost of some queues since midnight UTC; `rows` are jobs that completed."""

    requests: int
    failed_requests: int
    cost_usd: Decimal
    rows: int
    cost_usd_per_thousand_rows: Decimal | None


def queue_cost_today(connection: Connection, *queues: str) -> QueueCost:
    with connection.cursor(row_factory=class_row(QueueCost)) as cursor:
        cost = cursor.execute(query("queue_cost_today"), {"queues": list(queues)}).fetchone()
    assert cost is not None
    return cost


def purge(connection: Connection, keep: timedelta) -> int:
    """Deletes the requests that are older, in small batches; returns how many."""
    return sum(iter(lambda: connection.execute(query("purge_ai_calls"), {"keep": keep}).rowcount, 0))
