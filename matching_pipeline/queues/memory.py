"""Keeps the memory of a process that lives long small. If the C library is not glibc, it does nothing."""

import ctypes
import sys
from contextlib import suppress

M_ARENA_MAX = -8
"""The parameter of `mallopt(3)`."""
ARENAS = 2
"""Without a limit each thread may have an arena of its own, which keeps what its thread has freed."""


def limit_arenas() -> None:
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS)


def return_freed_memory() -> None:
    """Returns freed memory to the system, which takes some milliseconds."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
