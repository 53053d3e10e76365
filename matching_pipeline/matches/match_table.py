"""What every kind of pair shares: who may write its lists, what a list keeps, ids of rows, the figures of a write."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import psycopg

from matching_pipeline.db.arrays import Uuids
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.queues.worker import LockBusy

LOCK_SECONDS = 20.0


@dataclass
class Figures:
    """What maintaining `matches` did to its rows."""

    lists: int = 0
    """how many were looked at"""
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0

    def __iadd__(self, other: "Figures") -> "Figures":
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def take_lists(connection: Connection, kind: str) -> None:
    """Until the transaction ends nobody else writes lists of this kind, and all that was written can be seen.

    Who waits is next: no shard of a rebuild begins meanwhile. Raises Busy where others hold the lists for longer than
    LOCK_SECONDS.
    """
    deadline = time.monotonic() + LOCK_SECONDS
    for lock in ("try_be_next_at_lists", "try_lock_lists"):
        # in a loop, as a session that waits in Postgres can be part of a deadlock
        while connection.execute(query(lock), {"kind": kind}).fetchone() != (True,):
            if time.monotonic() > deadline:
                raise LockBusy("a rebuild or another drain writes `matches`")
            time.sleep(0.05)


@contextmanager
def holding_lists(connection: Connection, kind: str) -> Iterator[None]:
    """The same for the whole block, over many transactions; waits as long as it takes."""
    with _locked(connection, "hold_lists", "release_lists", kind):
        yield


@contextmanager
def sharing_lists(connection: Connection, kind: str) -> Iterator[None]:
    """The same, but others may share them, who write other lists; waits its turn behind who wants them alone."""
    with _locked(connection, "await_turn_at_lists", "end_turn_at_lists", kind):
        connection.execute(query("share_lists"), {"kind": kind})
    try:
        yield
    finally:
        _unlock(connection, "release_shared_lists", kind)


@contextmanager
def writers(connection: Connection, kind: str, parts: int) -> Iterator[list[Connection]]:
    """This session, which shares the lists, and for several parts another that does too, if it can be had: what a new
    row costs, foreign keys most of all, each session pays in a process of its own."""
    with ExitStack() as stack:
        sessions = [connection]
        if parts > 1:
            with suppress(psycopg.OperationalError, ConfigurationError):
                other = stack.enter_context(connect(connection.info.dsn, password=connection.info.password))
                # not to be waited for: whoever waits for the lists alone waits for us
                if other.execute(query("try_share_lists"), {"kind": kind}).fetchone() == (True,):
                    sessions.append(other)
        yield sessions


@contextmanager
def _locked(connection: Connection, lock: str, unlock: str, kind: str) -> Iterator[None]:
    connection.execute(query(lock), {"kind": kind})
    try:
        yield
    finally:
        _unlock(connection, unlock, kind)


def _unlock(connection: Connection, unlock: str, kind: str) -> None:
    if not connection.closed:
        connection.execute(query(unlock), {"kind": kind})


def match_policy(connection: Connection, kind: str) -> Policy:
    row = connection.execute(query("match_policy"), {"kind": kind}).fetchone()
    assert row is not None
    return Policy(*row)


def new_ids(count: int) -> Uuids:
    """Random ids that begin with the time (UUIDs of version 7), ascending: new rows stand together in the index.

    Drawn here, as Postgres asks its source of randomness for one at a time, which can cost a tenth of the insert.
    """
    drawn = np.frombuffer(os.urandom(16 * count), dtype=np.uint8).reshape(count, 16).copy()
    drawn[:, :6] = np.frombuffer((time.time_ns() // 1_000_000).to_bytes(6), dtype=np.uint8)
    drawn[:, 6] = drawn[:, 6] & 0x0F | 0x70
    drawn[:, 8] = drawn[:, 8] & 0x3F | 0x80
    return Uuids(np.sort(drawn.view("S16").ravel()))
