"""What the command prints: bars and tables on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from matching_pipeline import queue
from matching_pipeline.db.connections import Connection
from matching_pipeline.feed import Announcement
from matching_pipeline.lanes import LANES
from matching_pipeline.stages.matching import best_matches

PLAIN_SECONDS = 5.0
"""Between two plain lines of progress."""

Advance = Callable[[int, int], None]


def say(message: str) -> None:
    """Progress and remarks go to stderr: stdout is for what was asked for."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Yields what to call with (done, total)."""
    if not sys.stderr.isatty():
        yield _plain_lines(label)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(label, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _plain_lines(label: str) -> Advance:
    said = time.monotonic()

    def advance(done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= PLAIN_SECONDS or done == total:
            say(f"{label}: {done} of {total}")
            said = time.monotonic()

    return advance


class LaneReporter:
    """Says what is left in each lane, when it has changed."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, connection: Connection) -> None:
        states = {lane: queue.status(connection, lane) for lane in LANES}
        line = "; ".join(
            f"{lane}: {state['pending']} pending, {state['processing']} in work, {state['failed']} failed"
            for lane, state in states.items()
        )
        if line != self._said:
            say(line)
            self._said = line


def best_matches_table(connection: Connection, count: int = 20) -> None:
    table = Table("similarity", "project", "project image", "product", "product image", title="Best matches")
    for best in best_matches(connection, count):
        table.add_row(
            f"{best.similarity:.3f}",
            *(str(best.project_id), escape(_file(best.project_url))),
            *(str(best.product_id), escape(_file(best.product_url))),
        )
    _print(table)


def print_announcement(announcement: Announcement) -> None:
    """A line a pair, tab-separated: kind, similarity, the two ids; where they are too many to tell, how many."""
    for pair in announcement.pairs:
        print(pair.kind, f"{pair.similarity:.3f}", pair.one_id, pair.other_id, sep="\t", flush=True)
    if unnamed := announcement.count - len(announcement.pairs):
        print(announcement.kind, f"{unnamed} more pairs", sep="\t", flush=True)


def coverage_table(state: dict[str, dict[str, Any]]) -> None:
    """From the status of each lane by its name, with its `coverage`."""
    table = Table(*("lane", "pending", "due", "processing", "failed", "oldest pending", "per minute", "covered"))
    for lane, figures in state.items():
        coverage = figures["coverage"]
        table.add_row(
            lane,
            *(str(figures[name]) for name in ("pending", "due", "processing", "failed")),
            f"{figures['oldest_pending_seconds'] or 0:.0f} s",
            f"{figures['completed_per_minute']:.1f}",
            f"{coverage['covered']} of {coverage['rows']} {coverage['what']}",
        )
    _print(table)


def failures_table(state: dict[str, dict[str, Any]]) -> None:
    """From the status of each lane by its name, with its `newest_failures`; nothing where there are none."""
    table = Table("lane", "what", "status", "because", "item", title="Newest failures: `retry LANE ITEM` tries again")
    for lane, figures in state.items():
        for row in figures["newest_failures"]:
            table.add_row(lane, row["what"], row["status"], escape(row["because"]), str(row["item"]))
    if table.rows:
        _print(table)


def _file(url: str) -> str:
    return url.partition("?")[0].rsplit("/", 1)[-1]


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 200).print(table)
