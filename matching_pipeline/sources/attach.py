"""Attaches what is declared to a database, and tells how the two differ."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import stamina
from psycopg.rows import TupleRow, class_row
from psycopg.types.json import Jsonb

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, limit_lock_waits
from matching_pipeline.errors import ConfigurationError, PermanentFailure, SourceUnreadable
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline.sources.reading import read_all
from matching_pipeline.sources.source import Source

LOCK_WAIT = "200ms"
"""Making a trigger waits for the app's transactions on the table, and the app's next statements wait for it."""
MENDED = "`matching-pipeline attach` mends it"
_RETRYING = stamina.RetryingCaller(attempts=None, timeout=60, wait_initial=0.1, wait_max=2, wait_jitter=0.5)


def attach(connection: Connection, declarations: Declarations) -> None:
    """Attaches every source and matcher, or brings them up to date. Two sessions that attach take turns.

    Raises ConfigurationError, and attaches nothing, where a declaration does not fit the database.
    """
    with _alone(connection):
        if problems := fit_problems(connection, declarations):
            raise ConfigurationError("\n".join(problems))
        with connection.transaction():
            for name, work in declarations.queues.items():
                connection.execute(query("declare_queue"), {"name": name, "work": work})
        for source in declarations.sources:
            _attach_source(connection, source, declarations)
        with connection.transaction():
            for matcher in declarations.matchers:
                parameters = {**matcher.model_dump(), "queue": matcher.queue, "declaration": _json(matcher)}
                connection.execute(query("attach_matcher"), parameters)
                connection.execute(query("give_first_settings"), parameters)
            for matcher in declarations.matchers:
                connection.execute(query("search_our_schema"))
                connection.execute(query("attach_publication"), {"name": matcher.name})
        _execute_giving_way(connection, None, query("make_publishing_triggers"))
        _execute_giving_way(connection, None, query("make_write_back_triggers"))
        connection.execute(query("join_realtime"))
        for matcher in declarations.matchers:
            _execute_giving_way(connection, matcher.name, query("make_exception_triggers"), what="matcher")
        _expose(connection, declarations)


def fit_problems(connection: Connection, declarations: Declarations) -> list[str]:
    """All that is declared and does not fit the database."""
    problems: list[str] = []
    for source in declarations.sources:
        found = _execute_giving_way(connection, source.name, query("source_problems"), declaration=_json(source))
        problems += [problem for (problem,) in found]
    for matcher in declarations.matchers:
        sides = {side: _json(declarations.source(getattr(matcher, side))) for side in ("left", "right")}
        found = _execute_giving_way(
            connection, matcher.name, query("matcher_problems"), what="matcher", matcher=_json(matcher), **sides
        )
        problems += [problem for (problem,) in found]
    exposing = [asset for _, assets in _exposing(declarations) for asset in assets]
    names = {"names": [asset.expose for asset in exposing]}
    missing = {name for (name,) in connection.execute(query("missing_schemas"), names).fetchall()}
    return problems + [
        f"{each.name}: expose: there is no schema {each.expose}" for each in exposing if each.expose in missing
    ]


def detach(connection: Connection, source: str, *, forget: bool = False) -> None:
    """Removes the source's triggers. With `forget` deletes its mirror, embeddings, jobs and matchers too."""
    with _alone(connection):
        for table, _ in connection.execute(query("tables_with_triggers"), {"name": source}).fetchall():
            _execute_giving_way(connection, source, query("drop_triggers"), table=table)
        with connection.transaction():
            connection.execute(query("detach_source"), {"name": source, "forget": forget})
        _drop_stray_triggers(connection)


def detach_queue(connection: Connection, queue: str) -> bool:
    """Deletes a matcher with its pairs, or the queue of an asset; the jobs too. False where there is no such queue.

    Embeddings stay: other assets may show them.
    """
    with _alone(connection):
        with connection.transaction():
            if queue not in _attached(connection, "attached_queues"):
                return False
            connection.execute(query("detach_queue"), {"name": queue})
        _drop_stray_triggers(connection)
    return True


def _drop_stray_triggers(connection: Connection) -> None:
    """Drops the triggers on exceptions of matchers that are gone, or of which a source is detached."""
    for (matcher,) in connection.execute(query("stray_exceptions")).fetchall():
        _execute_giving_way(connection, matcher, query("make_exception_triggers"), what="matcher")


def set_notify(connection: Connection, notify: bool) -> None:
    """Whether enqueuing wakes the workers by NOTIFY (ENQUEUE_NOTIFY). It holds at once, for open sessions too."""
    connection.execute(query("set_notify"), {"notify": notify})


def misfits(connection: Connection, declarations: Declarations) -> list[str]:
    """What is declared and not attached as it is declared."""
    sources, matchers = _attached(connection, "attached_sources"), _attached(connection, "attached_matchers")
    declared = [
        *(("source", each.name, _json(each).obj, sources) for each in declarations.sources),
        *(("matcher", each.name, _json(each).obj, matchers) for each in declarations.matchers),
    ]
    return [
        f"the {what} {name} is declared and not attached"
        if name not in attached
        else f"the {what} {name} is declared otherwise than it is attached"
        for what, name, declaration, attached in declared
        if attached.get(name) != declaration
    ]


def undeclared(connection: Connection, declarations: Declarations) -> list[str]:
    """What is attached and not declared here. Another code location may have declared it."""
    told = []
    for what, attached, declared in (
        ("source", "attached_sources", {source.name for source in declarations.sources}),
        ("matcher", "attached_matchers", {matcher.name for matcher in declarations.matchers}),
    ):
        names = sorted(_attached(connection, attached).keys() - declared)
        told += [f"the {what} {name} is attached and not declared" for name in names]
    of_matchers = {queue for _, _, queue in connection.execute(query("attached_matchers")).fetchall()}
    for name in sorted(_attached(connection, "attached_queues").keys() - declarations.queues.keys() - of_matchers):
        told.append(f"the queue {name} is of no declared asset: `matching-pipeline detach {name}` deletes it")
    for name, _, queues in connection.execute(query("attached_sources")).fetchall():
        others = ", ".join(sorted(set(queues) - declarations.queues.keys()))
        if others and name in {source.name for source in declarations.sources}:
            told.append(f"the source {name} fills queues that are not declared: {others}")
    return told


def overruled(connection: Connection, declarations: Declarations) -> list[str]:
    """What a row of `match_settings` says otherwise than the declaration, which gives only its first values."""
    told = []
    for matcher in declarations.matchers:
        declared = (matcher.threshold, matcher.top, matcher.attribute_weight)
        row = connection.execute(query("match_policy"), {"matcher": matcher.name, "model": None}).fetchone()
        for name, value, stored in zip(("threshold", "top", "attribute_weight"), declared, row or (), strict=False):
            if value != stored:
                told.append(f"the matcher {matcher.name} has {name} {stored} in match_settings, declared is {value}")
    return told


def differences(connection: Connection, declarations: Declarations) -> list[str]:
    """In what the database is not as it is declared."""
    return [*misfits(connection, declarations), *undeclared(connection, declarations)]


@dataclass(frozen=True)
class SourceState:
    """How one attached source stands."""

    name: str
    table: str
    is_attached: bool
    """False once it is detached and not forgotten."""
    has_table: bool
    rows: int
    """of the table, as Postgres' statistics have it"""
    mirrored: int
    unfinished: int
    failed: int
    trigger_problems: list[str]
    read_problems: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        if self.is_attached and not self.has_table:
            return [
                f"there is no table {self.table}: declare its new name and run `matching-pipeline attach`, or run "
                f"`matching-pipeline detach {self.name} --forget` where it is gone"
            ]
        remedy = MENDED
        if not self.is_attached:
            remedy = f"`matching-pipeline detach {self.name}` drops it"
        return [f"the trigger {problem}: {remedy}" for problem in self.trigger_problems] + self.read_problems

    @property
    def needs_attaching(self) -> bool:
        """Whether `attach` mends a problem: triggers that are missing, keys that have another type now."""
        return self.is_attached and self.has_table and any(MENDED in problem for problem in self.problems)

    def __str__(self) -> str:
        attached = f"attached to {self.table}" if self.is_attached else f"detached from {self.table}"
        return (
            f"{attached}, which has about {self.rows} rows; {self.mirrored} entities mirrored, "
            f"{self.unfinished} jobs unfinished, {self.failed} failed"
        )


def source_states(connection: Connection) -> list[SourceState]:
    """Every source that is attached, or detached and not forgotten."""
    with connection.cursor(row_factory=class_row(SourceState)) as cursor:
        states = cursor.execute(query("source_states")).fetchall()
    return [replace(state, read_problems=_read_problems(connection, state)) for state in states]


def make_example_tables(connection: Connection) -> None:
    """Makes the tables and functions of the example apps where they are missing."""
    for name in ("tables.sql", "functions.sql"):
        for file in sorted(examples.FOLDER.glob(f"*/{name}")):
            connection.execute(file.read_bytes())


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    connection.execute(query("lock_attaching"))
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(query("unlock_attaching"))


def _attach_source(connection: Connection, source: Source, declarations: Declarations) -> None:
    parameters: dict[str, Any] = {"declaration": _json(source), "queues": declarations.queues_of(source)}
    declared_queues = list(declarations.queues)
    statement = query("attach_source")
    changed = _execute_giving_way(connection, source.name, statement, **parameters, declared_queues=declared_queues)
    for (kind,) in connection.execute(query("watched_kinds"), {"name": source.name}).fetchall():
        _execute_giving_way(connection, source.name, query("make_triggers"), kind=kind)
    for table, is_watched in connection.execute(query("tables_with_triggers"), {"name": source.name}).fetchall():
        if not is_watched:
            _execute_giving_way(connection, source.name, query("drop_triggers"), table=table)
    for (kind,) in changed:
        _execute_giving_way(connection, source.name, query("wait_for_writers"), kind=kind)
    # not before: changes from here on have a job of their own
    enqueue_resync(connection, source.name)


def _execute_giving_way(
    connection: Connection, name: str | None, statement: bytes, *, what: str = "source", **parameters: Any
) -> list[TupleRow]:
    """Executes a statement that locks a table of the app, or of ours. It gives way to the app, for up to a minute."""
    what = "the pipeline" if name is None else f"{what} {name}"

    def act() -> list[TupleRow]:
        with connection.transaction():
            limit_lock_waits(connection, LOCK_WAIT)
            return connection.execute(statement, {"name": name, **parameters}).fetchall()

    try:
        return _RETRYING(GAVE_WAY, act)
    except GAVE_WAY:
        raise ConfigurationError(
            f"{what}: transactions of the app hold its tables for longer than a minute: end them, or run "
            "`matching-pipeline attach` again later"
        ) from None
    except psycopg.Error as error:
        message = error.diag.message_primary or str(error)
        raise ConfigurationError(message if message.startswith("source ") else f"{what}: {message}") from error


def _attached(connection: Connection, name: str) -> dict[str, Any]:
    return {name: declaration for name, declaration, *_ in connection.execute(query(name)).fetchall()}


def _read_problems(connection: Connection, state: SourceState) -> list[str]:
    """Whether a worker can read the rows: the rights for it, and columns that the expressions name."""
    if not (state.is_attached and state.has_table):
        return []
    try:
        read_all(connection, state.name, "entity", [])
    except (SourceUnreadable, PermanentFailure) as error:
        return [str(error)]
    problems = ("types_problem", "write_back_problem")
    found = (connection.execute(query(name), {"name": state.name}).fetchone() for name in problems)
    return [row[0] for row in found if row]


def _expose(connection: Connection, declarations: Declarations) -> None:
    """Makes the views and functions that the declarations name, in the schemas that they name."""
    for statement, assets in _exposing(declarations):
        for asset in assets:
            with connection.transaction():
                connection.execute(query("search_our_schema"))
                connection.execute(statement, {"declaration": _json(asset)})


def _exposing(declarations: Declarations) -> list[tuple[bytes, list[Any]]]:
    """The assets that expose something, by the statement that makes it."""
    statements: list[tuple[bytes, Sequence[Any]]] = [
        (query("expose_images"), declarations.images),
        (query("expose_texts"), declarations.texts),
        (query("expose_matches"), declarations.matches),
        (query("expose_generated_images"), declarations.generated),
    ]
    return [(statement, [asset for asset in assets if asset.expose]) for statement, assets in statements]


def _json(declaration: Any) -> Jsonb:
    return Jsonb(declaration.model_dump(mode="json", by_alias=True))
