"""What was asked of providers: each request and its cost, and each answer, kept so that none is bought twice."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Literal, Self

import psycopg
from psycopg.rows import class_row

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure, ProviderUnavailable

RECONNECT_SECONDS = 60.0
OTHERS_SECONDS = 0.2
"""Between looks whether another process has its answer."""
OTHERS_PATIENCE_SECONDS = 600.0
"""Longer than requests take: who asks for longer hangs, and others ask instead."""
SPENT_IS_TRUE_SECONDS = 5.0
"""How long the day's cost is trusted, our own requests added, before the database is asked again."""

Outcome = Literal["answered", "unusable", "refused", "rate limit", "unavailable", "configuration"]


@dataclass(frozen=True)
class Answer:
    """`content` is an embedding as float32, JSON, or a picture's file.

    A text embedded in a batch has its share of the tokens.
    """

    content: bytes
    input_tokens: int
    output_tokens: int


Answers = dict[bytes, Answer | JobFailure]
"""By the hash of the input."""


@dataclass(frozen=True)
class Call:
    """One request, as it ended."""

    model: str
    items: int
    milliseconds: int
    outcome: Outcome
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    request_id: str | None = None
    error: str | None = None
    answered_by: str = ""
    answers: Mapping[bytes, Answer] = field(default_factory=dict)
    """By the hash of the input, under `answered_by`."""


class Ledger:
    """One lane's side of `ai_calls` and `ai_answers`, safe for threads.

    It writes on a session of its own, so that what was paid is known whatever becomes of the caller's
    transaction. A session that is lost is opened again.
    """

    def __init__(self, database_url: str, queue: str, daily_budget: Decimal | None = None) -> None:
        self._database_url = database_url
        self._lane = queue
        self._budget = daily_budget
        self._session = threading.Lock()
        self._connection: Connection | None = None
        self._asking: dict[tuple[str, bytes], Future[Answers]] = {}
        self._asking_lock = threading.Lock()
        self._begun: set[tuple[str, bytes]] = set()
        self._spent, self._day_ends, self._spent_at = Decimal(0), 0.0, float("-inf")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._session:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def answers(
        self,
        model: str,
        input_hashes: Collection[bytes],
        ask: Callable[[list[bytes]], Answers],
    ) -> Answers:
        """The answer to each input: kept ones, what others are asking just now, and the rest by `ask`.

        `ask` answers every input that it is given, and has recorded what it was answered.
        """
        future: Future[Answers] = Future()
        mine, others = self._divide(model, input_hashes, future)
        try:
            answers = self._ask_once(model, mine, ask)
            future.set_result(answers)
        except BaseException as error:
            future.set_exception(error)
            raise
        finally:
            with self._asking_lock:
                for input_hash in mine:
                    del self._asking[model, input_hash]
        # after our own are answered: two threads never wait for each other
        return answers | {input_hash: other.result()[input_hash] for input_hash, other in others.items()}

    def record(self, call: Call) -> None:
        """Writes the request and its answers, in one transaction."""
        parameters = {name: value for name, value in vars(call).items() if name != "answers"}
        answers = call.answers.values()
        self._run(
            "record_ai_call",
            **{**parameters, "queue": self._lane, "error": call.error and call.error[:2000]},
            input_hashes=list(call.answers),
            answers=[answer.content for answer in answers],
            answer_input_tokens=[answer.input_tokens for answer in answers],
            answer_output_tokens=[answer.output_tokens for answer in answers],
        )
        with self._asking_lock:
            self._spent += call.cost_usd

    def require_budget(self) -> None:
        """Raises ProviderUnavailable, until the next day in UTC, where the day's budget is spent.

        Requests under way are not counted: as many as run at once can go beyond it.
        """
        if self._budget is None:
            return
        if time.monotonic() - self._spent_at > SPENT_IS_TRUE_SECONDS:
            ((spent, seconds),) = self._run("spent_today")
            with self._asking_lock:
                self._spent, self._spent_at = spent, time.monotonic()
                self._day_ends = self._spent_at + seconds
        if self._spent >= self._budget:
            seconds = max(self._day_ends - time.monotonic(), 1)
            raise ProviderUnavailable(
                f"AI_DAILY_BUDGET_USD: today's {self._budget} USD are spent ({self._spent:.4f}): no request is made "
                "until the next day in UTC",
                timedelta(seconds=seconds),
            )

    def _divide(
        self, model: str, input_hashes: Collection[bytes], future: Future[Answers]
    ) -> tuple[list[bytes], dict[bytes, Future[Answers]]]:
        """The inputs that are now ours to ask, until `future` is done, and who asks the others."""
        others: dict[bytes, Future[Answers]] = {}
        with self._asking_lock:
            for input_hash in input_hashes:
                asked = self._asking.setdefault((model, input_hash), future)
                if asked is not future:
                    others[input_hash] = asked
        return [input_hash for input_hash in dict.fromkeys(input_hashes) if input_hash not in others], others

    def _ask_once(self, model: str, input_hashes: list[bytes], ask: Callable[[list[bytes]], Answers]) -> Answers:
        """Where another process asks the same, waits until it has its answer, or none; not for one that hangs."""
        answers: Answers = {}
        until = time.monotonic() + OTHERS_PATIENCE_SECONDS
        while waiting := [input_hash for input_hash in input_hashes if input_hash not in answers]:
            late = time.monotonic() > until
            begun = {row[0] for row in self._run("begin_asking", model=model, input_hashes=waiting, late=late)}
            ours = [input_hash for input_hash in waiting if input_hash in begun]
            self._begun.update((model, input_hash) for input_hash in ours)
            try:
                # looked up only now: who asked until a moment ago has recorded the answer
                answers |= self._known(model, ours)
                if missing := [input_hash for input_hash in ours if input_hash not in answers]:
                    answers |= ask(missing)
            finally:
                self._begun.difference_update((model, input_hash) for input_hash in ours)
                if ours:
                    self._run("end_asking", model=model, input_hashes=ours)
            if len(ours) < len(waiting):
                time.sleep(OTHERS_SECONDS)
        return answers

    def _known(self, model: str, input_hashes: Sequence[bytes]) -> dict[bytes, Answer]:
        if not input_hashes:
            return {}
        rows = self._run("known_ai_answers", model=model, input_hashes=input_hashes)
        return {input_hash: Answer(*answer) for input_hash, *answer in rows}

    def _open(self) -> Connection:
        connection = connect(self._database_url)
        try:
            # what a crash of the server takes with it, the last instant's answers, is asked again
            connection.execute(query("open_ledger"))
            connection.execute(query("forget_dead_askers"))
            # what a session that was lost had begun to ask is ours still
            asking: dict[str, list[bytes]] = defaultdict(list)
            for model, input_hash in list(self._begun):
                asking[model].append(input_hash)
            for model, hashes in asking.items():
                connection.execute(query("begin_asking"), {"model": model, "input_hashes": hashes, "late": False})
        except BaseException:
            connection.close()
            raise
        return connection

    def _run(self, name: str, **parameters: Any) -> list[tuple[Any, ...]]:
        until = time.monotonic() + RECONNECT_SECONDS
        with self._session:
            while True:
                try:
                    if self._connection is None or self._connection.closed:
                        self._connection = self._open()
                    cursor = self._connection.execute(query(name), parameters)
                    return cursor.fetchall() if cursor.description else []
                except psycopg.OperationalError as error:
                    if time.monotonic() > until:
                        message = f"what is asked of the provider cannot be recorded: {error}"
                        raise ProviderUnavailable(message, timedelta(seconds=30)) from error
                    time.sleep(0.2)


@dataclass(frozen=True)
class LaneCost:
    """What some lanes cost since midnight UTC, by the requests of every process."""

    requests: int
    failed_requests: int
    cost_usd: Decimal
    rows: int
    """completed"""
    cost_usd_per_thousand_rows: Decimal | None


def queue_cost_today(connection: Connection, *registry: str) -> LaneCost:
    with connection.cursor(row_factory=class_row(LaneCost)) as cursor:
        cost = cursor.execute(query("lane_cost_today"), {"lanes": list(registry)}).fetchone()
    assert cost is not None
    return cost


def purge(connection: Connection, keep_answers: timedelta, keep_calls: timedelta) -> int:
    """Deletes what is older, in small batches; returns how many rows."""
    purged = 0
    for name, keep in (("purge_ai_answers", keep_answers), ("purge_ai_calls", keep_calls)):
        while batch := connection.execute(query(name), {"keep": keep}).rowcount:
            purged += batch
    return purged
