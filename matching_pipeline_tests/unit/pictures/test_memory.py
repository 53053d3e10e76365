from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

import pytest

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.memory import Memory


def test_threads_together_never_hold_more_than_the_limit() -> None:
    memory, lock, held, peak = Memory(100), Lock(), 0, 0

    @contextmanager
    def counted(size: int) -> Iterator[None]:
        nonlocal held, peak
        with memory.hold(size):
            with lock:
                held += size
                peak = max(peak, held)
            yield
            with lock:
                held -= size

    def work(size: int) -> None:
        with counted(size):
            pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, [10, 40, 100, 60, 30] * 40))
    assert held == 0
    assert peak <= 100


def test_memory_is_free_again_after_a_failure() -> None:
    memory = Memory(10)
    with pytest.raises(ZeroDivisionError), memory.hold(10):
        raise ZeroDivisionError
    with memory.hold(10):
        pass


def test_more_than_the_limit_is_refused() -> None:
    with (
        pytest.raises(PermanentFailure, match=r"takes 3 MiB to decode, over IMAGE_MEMORY_BYTES \(10\)"),
        Memory(10).hold(3 * 2**20),
    ):
        pass
