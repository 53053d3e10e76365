"""Keeps the memory of a process that lives long small. If the C library is not glibc, it does nothing."""

import ctypes
import sys
from contextlib import suppress

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""The parameters of `mallopt(3)`."""
LARGE_BYTES = 2**20
"""A block of this size goes back to the system when it is freed. Without a limit glibc soon keeps blocks of 32 MB."""
ARENAS = 2
"""Without a limit each thread may have an arena of its own, which keeps what its thread has freed."""


def limit_freed_memory() -> None:
    _call("mallopt", M_ARENA_MAX, ARENAS)
    _call("mallopt", M_MMAP_THRESHOLD, LARGE_BYTES)


def return_freed_memory() -> None:
    """Returns freed memory to the system, which takes some milliseconds."""
    _call("malloc_trim", 0)


def _call(function: str, *arguments: int) -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*arguments)
