"""`matching-pipeline migrate`, `attach` and `detach`: what the owner of the schema does."""

from collections.abc import Iterator
from contextlib import contextmanager

import click
import psycopg

from matching_pipeline.cli.console import say, say_all
from matching_pipeline.cli.opening import open_settings, open_to_attach
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import migrate, require_migrated
from matching_pipeline.db.queries import query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import attach, detach, detach_queue, make_example_tables, set_notify
from matching_pipeline.sources.attached import differences, misfits, source_states
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import NotFound
from matching_pipeline.sources.guess import guess


@click.command("migrate")
def migrate_command() -> None:
    """Bring our schema, and Dagster's own tables, up to date, and attach what is declared.

    A source that is attached and not declared stays attached: `detach` removes it.
    """
    settings, database_url, declarations = open_to_attach(migrates=True)
    _migrate(settings, database_url)
    with _session(database_url) as connection:
        if Settings().database_url is None:
            make_example_tables(connection)
        _attach(settings, connection, declarations)


@click.command("attach")
@click.option("--guess", "guesses", is_flag=True, help="Print declarations for the database's tables; write nothing.")
def attach_command(guesses: bool) -> None:
    """Attach the declared sources again: triggers on their tables, and the views that they expose.

    If something does not fit, it names all of it and changes nothing. --guess reads the catalog, and prints
    declarations for its tables, with a reason for each line.
    """
    if guesses:
        with connect(resolve_database_url(Settings())) as connection:
            click.echo(guess(connection), nl=False)
        return
    settings, database_url, declarations = open_to_attach()
    with _session(database_url) as connection:
        require_migrated(connection)
        _attach(settings, connection, declarations)


@click.command("detach")
@click.argument("name")
@click.option("--forget", is_flag=True, help="Delete the source's mirror, embeddings, jobs and matches too.")
def detach_command(name: str, forget: bool) -> None:
    """Remove the triggers of a source, or the queue of an asset or matcher; NAME is the source's or the queue's.

    Our tables keep the data of a source, unless --forget is given. The jobs of a detached queue are deleted,
    and the pairs of a detached matcher. Views that an asset exposed stay.
    """
    _, database_url, declarations = open_settings()
    with _session(database_url) as connection:
        require_migrated(connection)
        is_source = name in {state.name for state in source_states(connection)}
        if is_source:
            detach(connection, name, forget=forget)
        elif not detach_queue(connection, name):
            raise NotFound(f"there is no attached source or queue {name}")
    say(f"{name} is detached" + (" and forgotten" if forget or not is_source else ""))
    if name in (*(source.name for source in declarations.sources), *declarations.queues):
        say("it is still declared: `migrate` and `attach` attach it again")


def _migrate(settings: Settings, database_url: str) -> None:
    from matching_pipeline.components.instance import create_instance_tables, instance_url

    with _session(database_url) as connection:
        applied = migrate(connection)
        connection.execute(query("create_dagster_schema"))
    create_instance_tables(settings.dagster_postgres_url or instance_url(database_url))
    say(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


@contextmanager
def _session(database_url: str) -> Iterator[Connection]:
    """A session with the owner's rights, which prints Postgres' warnings."""
    with connect(database_url) as connection:
        if not_owner := _not_owner(connection):
            raise ConfigurationError(f"DATABASE_URL: {not_owner}")
        connection.add_notice_handler(_say_warning)
        yield connection


def _attach(settings: Settings, connection: Connection, declarations: Declarations) -> None:
    attach(connection, declarations)
    set_notify(connection, settings.enqueue_notify)
    say(f"attached {', '.join(source.name for source in declarations.sources) or 'nothing: no source is declared'}")
    say_all(differences(connection, declarations))


def attach_or_remark(settings: Settings, connection: Connection, declarations: Declarations) -> None:
    """Attaches if that changes something. A role that only works cannot; it says what the owner has to do."""
    if _not_owner(connection) is not None:
        say_all(differences(connection, declarations))
    elif misfits(connection, declarations) or any(state.needs_attaching for state in source_states(connection)):
        connection.add_notice_handler(_say_warning)
        _attach(settings, connection, declarations)
    else:
        set_notify(connection, settings.enqueue_notify)


def migrate_or_require_migrated(settings: Settings, database_url: str) -> None:
    """A role that only works, such as `sql/role.sql` makes, cannot migrate and need not."""
    with connect(database_url) as connection:
        if restricted := _not_owner(connection) is not None:
            require_migrated(connection)
    if not restricted:
        _migrate(settings, database_url)


def _not_owner(connection: Connection) -> str | None:
    """Why our role cannot migrate; None if it can, as far as can be told before."""
    row = connection.execute(query("other_owner")).fetchone()
    if row is None:
        return None
    role, owner = row
    return f"its role {role} does not own the pipeline's tables: migrate as {owner}"


def _say_warning(notice: psycopg.errors.Diagnostic) -> None:
    if notice.severity_nonlocalized == "WARNING":
        say(f"warning: {notice.message_primary}")
