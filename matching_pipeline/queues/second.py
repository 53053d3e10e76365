"""The second session of a queue's worker, in a thread of its own, while there is more than a batch to do."""

import threading
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Self

from matching_pipeline.queues.progress import StopSignal, Summary

Run = Callable[[StopSignal, Callable[[Summary], None]], Summary]
"""Works until the signal, and reports progress."""


class SecondSession:
    """While one session claims or writes a batch, the requests of the other's batch run.

    It ends when nothing is due, or after its batch when the first session ends.
    """

    def __init__(self, stop: StopSignal, run: Run) -> None:
        self._whole = stop
        self._work = run
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._before = self._now = Summary()
        """of sessions that ended, and of the one that runs"""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """If the process is told to end, by an error that is not an Exception, its jobs are released at once."""
        if self._thread is not None:
            self._stop.set(at_once=error is not None and not isinstance(error, Exception))
            self._thread.join()
        if error is None:
            self.require_no_error()

    @property
    def is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Unless it runs."""
        if self.is_alive:
            return
        before = self.total(Summary())
        self._before, self._now = before, Summary()
        self._stop = StopSignal(self._whole)
        self._thread = threading.Thread(
            target=self._run, name=f"{threading.current_thread().name}, second", daemon=True
        )
        self._thread.start()

    def require_no_error(self) -> None:
        """Raises in the first session's thread the error that ended the second."""
        if self._error is not None and not self.is_alive:
            error, self._error = self._error, None
            raise error

    def total(self, first: Summary) -> Summary:
        """What both sessions did."""
        if self._thread is None:
            return first
        counts, figures = self._before.counts + self._now.counts, self._before.figures + self._now.figures
        return replace(first, counts=first.counts + counts, figures=first.figures + figures)

    def _run(self) -> None:
        try:
            self._note(self._work(self._stop, self._note))
        except BaseException as error:
            self._error = error

    def _note(self, summary: Summary) -> None:
        self._now = Summary(summary.counts.copy(), summary.figures.copy())
