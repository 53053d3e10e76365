"""Attaches what is declared to a database, and detaches it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import stamina
from psycopg.rows import TupleRow

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.transactions import GAVE_WAY, limit_lock_waits
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attached import as_json, stored_declarations
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import enqueue_resync
from matching_pipeline.sources.named_class import load_class
from matching_pipeline.sources.source import Source

LOCK_WAIT = "200ms"
"""Making a trigger waits for the app's transactions on the table, and the app's next statements wait for it."""
_RETRYING = stamina.RetryingCaller(attempts=None, timeout=60, wait_initial=0.1, wait_max=2, wait_jitter=0.5)


def attach(connection: Connection, declarations: Declarations) -> None:
    """Attaches every source and matcher, or brings them up to date. Two sessions that attach take turns.

    Raises ConfigurationError, and attaches nothing, if a declaration does not fit the database.
    """
    with _alone(connection):
        if problems := fit_problems(connection, declarations):
            raise ConfigurationError("\n".join(problems))
        with connection.transaction():
            for name, work in declarations.queues.items():
                connection.execute(query("declare_queue"), {"name": name, "work": work})
        for asset in declarations.derived:
            statement = query("attach_derived")
            _execute_giving_way(connection, asset.name, statement, what="asset", declaration=as_json(asset))
        for source in declarations.sources:
            _attach_source(connection, source, declarations)
        with connection.transaction():
            for matcher in declarations.matchers:
                parameters = {**matcher.model_dump(), "queue": matcher.queue, "declaration": as_json(matcher)}
                connection.execute(query("attach_matcher"), parameters)
                connection.execute(query("give_first_settings"), parameters)
            for matcher in declarations.matchers:
                connection.execute(query("search_our_schema"))
                connection.execute(query("attach_publication"), {"name": matcher.name})
        _execute_giving_way(connection, None, query("make_publishing_triggers"))
        connection.execute(query("join_realtime"))
        for matcher in declarations.matchers:
            _execute_giving_way(connection, matcher.name, query("make_exception_triggers"), what="matcher")
        _expose(connection, declarations)


def fit_problems(connection: Connection, declarations: Declarations) -> list[str]:
    """All that is declared and does not fit the database."""
    problems: list[str] = []
    for asset in declarations.derived:
        load_class(asset.name, asset.handler)
    for source in declarations.sources:
        found = _execute_giving_way(connection, source.name, query("source_problems"), declaration=as_json(source))
        problems += [problem for (problem,) in found]
    for matcher in declarations.matchers:
        sides = {side: as_json(declarations.source(getattr(matcher, side))) for side in ("left", "right")}
        found = _execute_giving_way(
            connection, matcher.name, query("matcher_problems"), what="matcher", matcher=as_json(matcher), **sides
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
    """Deletes a matcher with its pairs, or the queue of an asset; the jobs too. False if there is no such queue.

    Embeddings stay: other assets may show them.
    """
    with _alone(connection):
        with connection.transaction():
            if queue not in stored_declarations(connection, "attached_queues"):
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


def make_example_tables(connection: Connection) -> None:
    """Makes the tables and functions of the example apps if they are missing."""
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
    parameters: dict[str, Any] = {"declaration": as_json(source), "queues": declarations.queues_of(source)}
    declared_queues = list(declarations.queues)
    statement = query("attach_source")
    changed = _execute_giving_way(connection, source.name, statement, **parameters, declared_queues=declared_queues)
    # A job that was completed before would write no status.
    _execute_giving_way(connection, None, query("make_write_back_triggers"))
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


def _expose(connection: Connection, declarations: Declarations) -> None:
    """Makes the views and functions that the declarations name, in the schemas that they name."""
    for statement, assets in _exposing(declarations):
        for asset in assets:
            with connection.transaction():
                connection.execute(query("search_our_schema"))
                connection.execute(statement, {"declaration": as_json(asset)})


def _exposing(declarations: Declarations) -> list[tuple[bytes, list[Any]]]:
    """The assets that expose something, by the statement that makes it."""
    statements: list[tuple[bytes, Sequence[Any]]] = [
        (query("expose_images"), declarations.images),
        (query("expose_texts"), declarations.texts),
        (query("expose_derived"), declarations.derived),
        (query("expose_matches"), declarations.matches),
        (query("expose_generated_images"), declarations.generated),
    ]
    return [(statement, [asset for asset in assets if asset.expose]) for statement, assets in statements]
