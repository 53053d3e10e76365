"""The loop over running futures that the handlers share."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, Generic, TypeVar

from matching_pipeline.errors import STOPS, Stop, as_job_failure

PATIENCE_SECONDS = 2.0
"""A handler yields at least this often while a provider is slow, so that the worker can renew its leases."""

Waiter = TypeVar("Waiter")


class Futures(Generic[Waiter]):
    """Futures, each with those that wait for its result.

    A Stop cancels the futures that have not begun. It is raised after the others have ended, because
    their results are paid for.
    """

    def __init__(self) -> None:
        self._waiters: dict[Future[Any], list[Waiter]] = {}
        self._free: set[Future[Any]] = set()
        self._stop: Stop | None = None

    def __bool__(self) -> bool:
        """Whether a future has not ended."""
        return bool(self._waiters)

    @property
    def stopped(self) -> bool:
        return self._stop is not None

    def stop_at(self, results: Iterable[object]) -> None:
        """Stops as if a future had raised the first Stop among the results, if there is any."""
        self._stop = self._stop or next((each for each in results if isinstance(each, STOPS)), None)

    def add(self, future: Future[Any], waiter: Waiter, *, paid: bool = True) -> None:
        """Several may wait for one future. After a stop, the result of a future that is not `paid` is not awaited."""
        self._waiters.setdefault(future, []).append(waiter)
        if not paid:
            self._free.add(future)

    def cancel(self, waiter: Waiter) -> bool:
        """Cancels the future of its only waiter, unless it has begun; returns whether it did."""
        for future, waiters in self._waiters.items():
            if waiters == [waiter] and future.cancel():
                del self._waiters[future]
                return True
        return False

    def ended(self, patience: float) -> Iterator[list[tuple[Waiter, Any]]]:
        """Yields waiters with their results as futures end; an empty list if none ends within `patience` seconds.

        A result is what the future returned, or a JobFailure for what it raised, or None if a stop cancelled it.
        The caller may add and cancel futures between two yields.
        """
        try:
            while self._waiters:
                done, _ = wait(self._waiters, timeout=patience, return_when=FIRST_COMPLETED)
                errors = [future.exception() for future in done]
                self._stop = self._stop or next((error for error in errors if isinstance(error, STOPS)), None)
                if self._stop:
                    done |= {future for future in self._waiters if future.cancel() or future in self._free}
                yield [(waiter, self._result(future)) for future in done for waiter in self._waiters.pop(future)]
        finally:
            for future in self._waiters:
                future.cancel()
        if self._stop:
            raise self._stop

    def _result(self, future: Future[Any]) -> Any:
        if self._stop and (future in self._free or future.cancelled() or isinstance(future.exception(), STOPS)):
            return None
        error = future.exception()
        return as_job_failure(error) if error else future.result()
