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
from matching_pipeline.db.queries import named_rows
from matching_pipeline.handlers.registry import in_use
from matching_pipeline.matches.feed import Announcement
from matching_pipeline.models.registry import ModelCoverage
from matching_pipeline.queues import client
from matching_pipeline.sources.attached import SourceState
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.matcher import Matcher

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

    def __init__(self, declarations: Declarations) -> None:
        self._declarations = declarations
        self._said = ""

    def __call__(self, connection: Connection) -> None:
        states = {queue: client.status(connection, queue) for queue in in_use(connection, self._declarations)}
        line = "; ".join(
            f"{queue}: {state['pending']} pending, {state['processing']} processing, {state['failed']} failed"
            + (f", paused until {state['paused_until']}" if state["paused_until"] else "")
            for queue, state in states.items()
        )
        if line != self._said:
            say(line)
            self._said = line


def best_matches_table(connection: Connection, matcher: Matcher, count: int = 20) -> None:
    """The best pairs of a matcher of pictures, with the URLs of their images."""
    left, right = matcher.left, matcher.right
    table = Table("similarity", left, f"{left} image", right, f"{right} image", title=f"Best {matcher.name} matches")
    for best in named_rows(connection, "best_matches", matcher=matcher.name, count=count):
        table.add_row(
            f"{best['similarity']:.3f}",
            *(best["left_key"], escape(_file(best["left_url"] or ""))),
            *(best["right_key"], escape(_file(best["right_url"] or ""))),
        )
    print_table(table)


def print_announcement(announcement: Announcement) -> None:
    """Prints a line for each pair: matcher, similarity and the two keys, separated by tabs. If there are more pairs,
    a line says how many."""
    for pair in announcement.best:
        print(pair.matcher, f"{pair.similarity:.3f}", pair.left_key, pair.right_key, sep="\t", flush=True)
    if unnamed := announcement.count - len(announcement.best):
        print(announcement.matcher, f"{unnamed} more pairs", sep="\t", flush=True)


def coverage_table(state: dict[str, dict[str, Any]]) -> None:
    """Prints a table. `state` has the status of each queue by its name, with `coverage` and `cost_today`."""
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
    print_table(table)


def sources_table(states: Sequence[SourceState]) -> None:
    table = Table("source", "table", "rows, about", "entities mirrored", "jobs unfinished", "failed", "problems")
    for state in states:
        counts = map(str, (state.rows, state.mirrored, state.unfinished, state.failed))
        name = state.name if state.is_attached else f"{state.name} (detached)"
        table.add_row(name, escape(state.table), *counts, escape("; ".join(state.problems)) or "–")
    print_table(table)


def models_table(models: Sequence[ModelCoverage]) -> None:
    table = Table("model", "modality", "status", "dimensions", "covered", "waiting", "failed")
    for model, coverage in models:
        covered = f"{coverage.covered} of {coverage.rows} {coverage.what}" if coverage else "–"
        counts = (coverage.waiting, coverage.failed_for_good) if coverage else ("–", "–")
        table.add_row(
            *(escape(model.name), model.modality, model.status, str(model.dimensions), covered),
            *map(str, counts),
        )
    print_table(table)


def failures_table(state: dict[str, dict[str, Any]]) -> None:
    """Prints a table, unless there are no failures. `state` has the status of each queue, with `newest_failures`."""
    table = Table("queue", "what", "status", "because", "job", title="Newest failures: `retry QUEUE ID` tries again")
    for queue, figures in state.items():
        for row in figures["newest_failures"]:
            table.add_row(queue, row["what"], row["status"], escape(row["because"]), str(row["item"]))
    if table.rows:
        print_table(table)


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row))
    print_table(table)


def faults_tables(faults: Sequence["Fault"]) -> None:
    """Prints a table for each fault: how many rows have it, and the first of them."""
    for fault in faults:
        more = f", the first {len(fault.first)}" if fault.rows > len(fault.first) else ""
        table_of(fault.columns, fault.first, f"{fault.table}, {fault.what}: {fault.rows}{more}")


def _cost(cost: dict[str, Any]) -> str:
    if not cost["requests"]:
        return "–"
    per_thousand = cost["cost_usd_per_thousand_rows"]
    rate = "" if per_thousand is None else f", ${per_thousand:.4f} for 1000 rows"
    return f"${cost['cost_usd']:.4f} today{rate}"


def _file(url: str) -> str:
    return url.partition("?")[0].rsplit("/", 1)[-1]


def print_table(table: Table) -> None:
    Console(width=None if sys.stdout.isatty() else 200).print(table)
