"""What the command prints: bars and tables on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.registry import in_use
from matching_pipeline.matches.feed import Announcement
from matching_pipeline.matches.projects import best_matches
from matching_pipeline.models.registry import ModelCoverage
from matching_pipeline.queues import client

if TYPE_CHECKING:
    from matching_pipeline.matches.audit import Fault

PLAIN_SECONDS = 5.0
"""Between two plain lines of progress."""

Advance = Callable[[int, int], None]


def say(message: str) -> None:
    """Progress and remarks go to stderr: stdout is for what was asked for."""
    print(message, file=sys.stderr, flush=True)


def say_all(messages: Iterable[str]) -> None:
    for message in messages:
        say(message)


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


class QueueReporter:
    """Says what is left in each queue, when it has changed."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, connection: Connection) -> None:
        states = {queue: client.status(connection, queue) for queue in in_use(connection)}
        line = "; ".join(
            f"{queue}: {state['pending']} pending, {state['processing']} processing, {state['failed']} failed"
            for queue, state in states.items()
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
    """From the status of each queue by its name, with its `coverage` and `cost_today`."""
    table = Table(
        *("queue", "pending", "due", "processing", "failed", "oldest pending", "per minute", "covered", "cost")
    )
    for queue, figures in state.items():
        coverage = figures["coverage"]
        table.add_row(
            queue,
            *(str(figures[name]) for name in ("pending", "due", "processing", "failed")),
            f"{figures['oldest_pending_seconds'] or 0:.0f} s",
            f"{figures['completed_per_minute']:.1f}",
            f"{coverage['covered']} of {coverage['rows']} {coverage['what']}",
            _cost(figures["cost_today"]),
        )
    _print(table)


def models_table(models: Sequence[ModelCoverage]) -> None:
    table = Table("model", "modality", "status", "dimensions", "covered", "waiting", "failed")
    for model, coverage in models:
        covered = f"{coverage.covered} of {coverage.rows} {coverage.what}" if coverage else "–"
        counts = (coverage.waiting, coverage.failed_for_good) if coverage else ("–", "–")
        table.add_row(
            *(escape(model.name), model.modality, model.status, str(model.dimensions), covered),
            *map(str, counts),
        )
    _print(table)


def failures_table(state: dict[str, dict[str, Any]]) -> None:
    """From the status of each queue by its name, with its `newest_failures`; nothing where there are none."""
    table = Table("queue", "what", "status", "because", "job", title="Newest failures: `retry QUEUE ID` tries again")
    for queue, figures in state.items():
        for row in figures["newest_failures"]:
            table.add_row(queue, row["what"], row["status"], escape(row["because"]), str(row["item"]))
    if table.rows:
        _print(table)


def faults_tables(faults: Sequence["Fault"]) -> None:
    """One for each fault: how many rows have it, and the first of them."""
    for fault in faults:
        more = f", the first {len(fault.first)}" if fault.rows > len(fault.first) else ""
        table = Table(*fault.columns, title=f"{fault.table}, {fault.what}: {fault.rows}{more}")
        for row in fault.first:
            table.add_row(*(escape(str(value)) for value in row))
        _print(table)


def _cost(cost: dict[str, Any]) -> str:
    if not cost["requests"]:
        return "–"
    per_thousand = cost["cost_usd_per_thousand_rows"]
    rate = "" if per_thousand is None else f", ${per_thousand:.4f} for 1000 rows"
    return f"${cost['cost_usd']:.4f} today{rate}"


def _file(url: str) -> str:
    return url.partition("?")[0].rsplit("/", 1)[-1]


def _print(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 200).print(table)
