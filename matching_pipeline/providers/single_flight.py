"""Requests under way: threads and processes that want the same answer make one request."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure, Stop
from matching_pipeline.providers.answer_cache import Answer, AnswerCache
from matching_pipeline.providers.session import ReconnectingSession
from matching_pipeline.queues.client import enter_as_claimer, process_claimer

LOOK_AGAIN_SECONDS = 0.2
"""Between two looks whether another process has its answer."""
PATIENCE_SECONDS = 600.0
"""A process that asks for longer than this hangs, and another process asks instead: no request takes so long."""

AnswersByHash = dict[bytes, Answer | JobFailure | Stop]
"""By the hash of the input."""
Ask = Callable[[list[bytes]], AnswersByHash]


class SingleFlight:
    """Asks for each input once, no matter how many threads and processes want it.

    Threads of this process share the result of the thread that asks, failures included. Other processes see a row of
    `ai_asking` for each input that is being asked. The row counts while a session of its process lives; ten seconds
    after that another process asks. After the row has gone, the answer is in the cache.
    """

    def __init__(self, session: ReconnectingSession, cache: AnswerCache, asker: int | None = None) -> None:
        self._session = session
        self._cache = cache
        self._asker = asker or process_claimer()
        self._lock = threading.Lock()
        self._under_way: dict[tuple[str, bytes], Future[AnswersByHash]] = {}
        session.on_open = self._announce

    def answers(self, model: str, input_hashes: Collection[bytes], ask: Ask) -> AnswersByHash:
        """The answer to each input: from the cache, from a request that is under way, or by `ask`.

        `ask` answers every input that it is given, and has written the paid answers when it returns.
        """
        answers: AnswersByHash = {}
        wanted = dict.fromkeys(input_hashes)
        until = time.monotonic() + PATIENCE_SECONDS
        while waiting := [input_hash for input_hash in wanted if input_hash not in answers]:
            flight: Future[AnswersByHash] = Future()
            ours, others = self._divide(model, waiting, flight)
            answers |= self._fly(model, ours, flight, ask, late=time.monotonic() > until)
            # no thread waits for this one now, so two threads never wait for each other
            if len(answers) < len(wanted):
                self._wait(others.values())
            for input_hash, other in others.items():
                if other.done() and input_hash in other.result():
                    answers[input_hash] = other.result()[input_hash]
        return answers

    def _wait(self, flights: Collection[Future[AnswersByHash]]) -> None:
        """Waits until a thread of this process has its answers, or another process may have its own."""
        if flights:
            wait(flights, LOOK_AGAIN_SECONDS, FIRST_COMPLETED)
        else:
            time.sleep(LOOK_AGAIN_SECONDS)

    def _divide(
        self, model: str, input_hashes: Collection[bytes], flight: Future[AnswersByHash]
    ) -> tuple[list[bytes], dict[bytes, Future[AnswersByHash]]]:
        """The inputs that this flight now takes, and those of other threads' flights."""
        with self._lock:
            flights = {
                input_hash: self._under_way.setdefault((model, input_hash), flight) for input_hash in input_hashes
            }
        others = {input_hash: other for input_hash, other in flights.items() if other is not flight}
        return [input_hash for input_hash in flights if input_hash not in others], others

    def _fly(
        self, model: str, input_hashes: list[bytes], flight: Future[AnswersByHash], ask: Ask, late: bool
    ) -> AnswersByHash:
        try:
            answers = self._ask(model, input_hashes, ask, late) if input_hashes else {}
            flight.set_result(answers)
            return answers
        except BaseException as error:
            flight.set_exception(error)
            raise
        finally:
            with self._lock:
                for input_hash in input_hashes:
                    del self._under_way[model, input_hash]

    def _ask(self, model: str, input_hashes: list[bytes], ask: Ask, late: bool) -> AnswersByHash:
        """Leaves out the inputs that another process asks for; `late` takes them over."""
        parameters = {"model": model, "input_hashes": input_hashes, "asker": self._asker, "late": late}
        begun = {input_hash for (input_hash,) in self._session.fetch(query("begin_asking"), parameters)}
        if len(begun) < len(input_hashes):
            self._session.run(
                lambda connection: connection.execute(query("mark_gone_askers"), {"asker": self._asker})
            )
        ours = [input_hash for input_hash in input_hashes if input_hash in begun]
        try:
            # Not before: a process that asked until a moment ago has written its answers by now. A process that was
            # killed after it had written them still counts as asking.
            answers: AnswersByHash = {**self._cache.find(model, input_hashes)}
            if missing := [input_hash for input_hash in ours if input_hash not in answers]:
                answers |= ask(missing)
            return answers
        finally:
            self._session.run(lambda connection: connection.execute(query("end_asking"), parameters))

    def _announce(self, connection: Connection) -> None:
        """Shows other processes that this session lives, and its inputs under way."""
        enter_as_claimer(connection, self._asker)
        connection.execute(query("mark_gone_askers"), {"asker": self._asker})
        connection.execute(query("forget_gone_askers"))
        # threads that began to ask on the lost session are still asking
        asking: dict[str, list[bytes]] = defaultdict(list)
        with self._lock:
            for model, input_hash in self._under_way:
                asking[model].append(input_hash)
        for model, hashes in asking.items():
            parameters = {"model": model, "input_hashes": hashes, "asker": self._asker, "late": False}
            connection.execute(query("begin_asking"), parameters)
