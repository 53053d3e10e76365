"""Inner products of many rows with many rows: by NumKong of 8-bit codes, by numpy of floats; and what each costs."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

numkong: Any
try:
    numkong = import_module("numkong")
except ImportError:  # it has no wheel for this platform
    numkong = None

_TIMED_ROWS, _TIMED_COLUMNS = (256, 512), 256
_TIMES = 12
CLEARLY = 1.2
"""8-bit codes must be so many times as fast: they lose more, so that more pairs need an exact score."""

_buffers = threading.local()
"""A thread's last product. New memory for each product would cost a tenth of it."""


def packed(codes: NDArray[np.int8]) -> Any:
    return numkong.dots_pack(codes)


def of_codes(some: NDArray[np.int8], others: Any) -> NDArray[Any]:
    """(some rows, other rows), of others that are packed. The thread's next product overwrites it."""
    shape = len(some), others.width
    product = _buffer(shape, np.dtype(np.int32))
    numkong.dots_packed(some, others, out=numkong.from_pointer(product.ctypes.data, shape, "int32", owner=product))
    return product


def of_floats(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[Any]:
    """(some rows, other rows). The thread's next product overwrites it."""
    product = _buffer((len(some), len(others)), np.dtype(np.float32))
    np.matmul(some, others.T, out=product)
    return product


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread."""

    code: float | None
    """of a multiplication of 8-bit codes; None without NumKong"""
    float32: float
    """of a multiplication of floats"""

    @property
    def faster(self) -> float:
        return self.code if self.code is not None and self.codes_are_faster else self.float32

    @property
    def codes_are_faster(self) -> bool:
        return self.code is not None and CLEARLY * self.code < self.float32


@cache
def costs() -> Costs:
    """Measured once a process, within some milliseconds: no instruction set tells how good its implementation is."""
    random = np.random.default_rng(0)
    left, right = (random.normal(size=(rows, _TIMED_COLUMNS)).astype(np.float32) for rows in _TIMED_ROWS)
    ways: list[Callable[[], object]] = [lambda: of_floats(left, right)]
    if numkong is not None:
        left_codes, right_codes = ((20 * rows).clip(-127, 127).astype(np.int8) for rows in (left, right))
        packed_codes = packed(right_codes)
        ways.append(lambda: of_codes(left_codes, packed_codes))
    with one_thread_each():
        floats, *codes = _seconds(ways)
    return Costs(codes[0] if codes else None, floats)


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_thread_each() -> Iterator[None]:
    """For the block numpy's products use the caller's thread only; the caller has a thread for each core.

    The limit is the process': the last of overlapping blocks takes it away.
    """
    with _limit_lock:
        if not _limits:
            _limits.append(_controller().limit(limits=1, user_api="blas"))
        else:
            _limits.append(_limits[-1])
    try:
        yield
    finally:
        with _limit_lock:
            limit = _limits.pop()
            if not _limits:
                limit.restore_original_limits()


_limit_lock = threading.Lock()
_limits = list[Any]()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _buffer(shape: tuple[int, int], form: np.dtype[Any]) -> NDArray[Any]:
    size = shape[0] * shape[1] * form.itemsize
    memory = getattr(_buffers, "memory", None)
    if memory is None or len(memory) < size:
        memory = _buffers.memory = np.empty(size, dtype=np.uint8)
    buffer: NDArray[Any] = memory[:size].view(form).reshape(shape)
    return buffer


def _seconds(ways: list[Callable[[], object]]) -> list[float]:
    """Seconds of a multiplication in each way: the least of many times in turns, as other load only adds."""
    measured: list[list[float]] = [[] for _ in ways]
    for _ in range(_TIMES):
        for way, seconds in zip(ways, measured, strict=True):
            began = perf_counter()
            way()
            seconds.append(perf_counter() - began)
    return [min(seconds) / (_TIMED_ROWS[0] * _TIMED_ROWS[1] * _TIMED_COLUMNS) for seconds in measured]
