"""The memory that pictures may take while they are decoded."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Condition, Lock
from typing import Final

from matching_pipeline.errors import PermanentFailure

DEFAULT_MEMORY: Final = 512 * 2**20


class Memory:
    """So many bytes, which any number of threads share."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._free = limit
        self._freed = Condition()
        self._turn = Lock()

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Waits until so many bytes are free. Threads that wait get them in the order in which they came.

        Raises PermanentFailure if the limit is lower than that.
        """
        if size > self._limit:
            raise PermanentFailure(f"takes {size / 2**20:.0f} MiB to decode, over IMAGE_MEMORY_BYTES ({self._limit})")
        with self._turn, self._freed:
            self._freed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._freed:
                self._free += size
                self._freed.notify_all()


@cache
def process_memory(limit: int) -> Memory:
    """One Memory for all queues of this process."""
    return Memory(limit)
