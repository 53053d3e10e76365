"""The `matching-pipeline` command."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from uuid import UUID

import click
import psycopg
from pydantic import ValidationError

from matching_pipeline.cli.audit import audit_command
from matching_pipeline.cli.console import (
    QueueReporter,
    best_matches_table,
    print_announcement,
    progress,
    say,
    say_all,
)
from matching_pipeline.cli.daemon import daemon_command
from matching_pipeline.cli.doctor import findings, unchosen_models
from matching_pipeline.cli.evaluate import evaluate_command
from matching_pipeline.cli.follow import LogFollower
from matching_pipeline.cli.gallery import PORT as GALLERY_PORT
from matching_pipeline.cli.gallery import gallery_command
from matching_pipeline.cli.init import init_command
from matching_pipeline.cli.model import model
from matching_pipeline.cli.opening import connected, open_settings, open_to_attach
from matching_pipeline.cli.pause import pause_command, require_queue, resume_command
from matching_pipeline.cli.process import process_command
from matching_pipeline.cli.search import search_command
from matching_pipeline.cli.status import status_command
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.db.migrations import migrate as migrate_schema
from matching_pipeline.db.migrations import require_migrated
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable, RebuildSuperseded
from matching_pipeline.handlers import registry
from matching_pipeline.matches.feed import announcements
from matching_pipeline.models.activation import ModelChangeRefused
from matching_pipeline.queues import client
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import attach, detach, detach_queue, make_example_tables, set_notify
from matching_pipeline.sources.attached import differences, misfits, source_states
from matching_pipeline.sources.declarations import PUBLISHING, Declarations
from matching_pipeline.sources.enqueue import NotFound
from matching_pipeline.sources.guess import guess


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="matching_pipeline")
def cli() -> None:
    """Keeps AI embeddings and matches fresh over Postgres and pgvector.

    Works on DATABASE_URL, or on an embedded Postgres in .data if it is not set.
    """


@cli.command()
@click.option("--sample-data", is_flag=True, help="Insert sample rows first, also if DATABASE_URL is set.")
@click.option("--until-idle", is_flag=True, help="End once everything due is done, and print the best matches.")
@click.option("--port", default=3000, show_default=True, help="The UI's; another is taken if it is in use.")
@click.option("--verbose", is_flag=True, help="A line each time that jobs are claimed, completed or snoozed.")
def dev(sample_data: bool, until_idle: bool, port: int, verbose: bool) -> None:
    """Run everything: the database, its schema, Dagster with its sensors and schedules.

    With DATABASE_URL unset it starts an embedded Postgres. Ctrl-C ends all of it.
    """
    from matching_pipeline.cli import dev as machine
    from matching_pipeline.gallery.serving import serving
    from matching_pipeline.sample_data.insert import insert_sample_data

    machine.require_one_value_each()
    if embedded := Settings().database_url is None:
        say("Starting Postgres …")
    # to import Dagster takes as long as to start Postgres
    threading.Thread(target=import_module, args=("matching_pipeline.components.instance",)).start()
    settings, database_url, declarations = open_settings(sample_data=sample_data)
    say("Bringing the schema up to date …")
    _migrate_or_require_migrated(settings, database_url)
    with (
        serving(settings, database_url, machine.free_port(GALLERY_PORT)) as gallery,
        connect(database_url) as connection,
    ):
        if sample_data or embedded:
            make_example_tables(connection)
        _attach_or_remark(settings, connection, declarations)
        if sample_data:
            say(insert_sample_data(connection))
        if embedded:
            say(f"Postgres: {database_url}")
        say_all(unchosen_models(settings, connection))
        environment = _dagster_environment(settings, database_url, gallery)
        say("Starting Dagster …")
        with machine.running_dagster(settings, database_url, machine.free_port(port), environment) as dagster:
            follow_log = LogFollower(dagster.log, verbose=verbose)
            dagster.wait_until_serving()
            say(f"Dagster's UI: {dagster.url}/assets   (its log: {dagster.log})")
            say(f"The gallery: {gallery}")
            if until_idle:
                machine.wait_until_idle(
                    connection, dagster, registry.queues(declarations), QueueReporter(declarations), follow_log
                )
            else:
                say("New rows are processed as they come. Ctrl-C stops everything.")
                machine.run_until_interrupted(dagster, follow_log)
                say("Stopping: the worker finishes its batch …")
        if until_idle:
            for matcher in declarations.matchers:
                if matcher.left != matcher.right:
                    best_matches_table(connection, matcher)


@cli.command()
def migrate() -> None:
    """Bring our schema, and Dagster's own tables, up to date, and attach what is declared.

    A source that is attached and not declared stays attached: `detach` removes it.
    """
    settings, database_url, declarations = open_to_attach(migrates=True)
    _migrate(settings, database_url)
    with _session(database_url) as connection:
        if Settings().database_url is None:
            make_example_tables(connection)
        _attach(settings, connection, declarations)


@cli.command("attach")
@click.option("--guess", "guesses", is_flag=True, help="Print declarations for the database's tables; write nothing.")
def attach_command(guesses: bool) -> None:
    """Attach the declared sources again: triggers on their tables, and the views that they expose.

    It names all that does not fit, and changes nothing then. --guess reads the database's catalog, and prints
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


@cli.command("detach")
@click.argument("name")
@click.option("--forget", is_flag=True, help="Delete the source's mirror, embeddings, jobs and matches too.")
def detach_command(name: str, forget: bool) -> None:
    """Remove the triggers of a source, or the queue of an asset or matcher; NAME is the source's or the queue's.

    Our tables keep what they hold of a source, unless --forget is given. The jobs of a detached queue are deleted,
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


@cli.command()
def doctor() -> None:
    """Ask the database, the provider and the place of pictures whether all fits; status 1 if something does not.

    A line each says whether sources, triggers, rights, key, models or dimensions fit.
    """
    settings, database_url, declarations = open_settings()
    found = []
    for finding in findings(settings, database_url, declarations):
        click.echo(f"{'ok ' if finding.fits else 'NO '} {finding.what}: {finding.because}")
        found.append(finding.fits)
    if not all(found):
        sys.exit(1)


@cli.command()
def rebuild() -> None:
    """Recompute the matches of all matchers, and write the difference.

    A newer rebuild of a matcher takes the rest over; this one ends with status 1 then.
    """
    from matching_pipeline.matches.matching import all_attached
    from matching_pipeline.matches.writing import Figures

    figures = Figures()
    with connected() as (settings, connection, _):
        for matching in all_attached(connection, settings.match_part_images):
            with progress(matching.name) as advance:
                figures += matching.rebuild(connection, advance)
    say(str(figures))


@cli.command()
@click.argument("queue")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="Every failed job of the queue.")
@click.option("--because", metavar="TEXT", help="The failed jobs whose reason holds this text.")
def retry(queue: str, ids: tuple[UUID, ...], everything: bool, because: str | None) -> None:
    """Make failed jobs of QUEUE pending again, with fresh attempts: those of the IDs, or of an option.

    A queue has the name of its asset (image_ai), publishing, or matches_ and the name of a matcher. That of a shadow
    model has the name image_ai_shadow.

    If equal jobs failed, only the newest becomes pending. Status 1 if an ID is not a failed job of QUEUE; the others
    are pending again.
    """
    if [bool(ids), everything, because is not None].count(True) != 1:
        raise click.UsageError("name the jobs' ids, or say --all, or --because TEXT")
    with connected() as (_, connection, declarations):
        require_queue(declarations, queue)
        failed = {row["id"] for row in named_rows(connection, "failed_jobs", queue=queue, ids=list(ids))}
        if because is None:
            retried = client.retry(connection, queue, None if everything else ids)
            if queue == PUBLISHING and everything:
                retried += client.hasten_publishing(connection)
        else:
            retried = client.retry_because(connection, queue, because)
        say(f"{retried} jobs are pending again")
    if unknown := [str(id) for id in dict.fromkeys(ids) if id not in failed]:
        raise NotFound(f"{queue} has no failed job {', '.join(unknown)}")


@cli.command()
def watch() -> None:
    """Print a line for each new match until Ctrl-C: matcher, similarity and the two keys."""
    with connected() as (_, connection, _declarations), suppress(KeyboardInterrupt):
        feed = announcements(connection)
        say("waiting for new matches")
        for announcement in feed:
            print_announcement(announcement)


cli.add_command(audit_command)
cli.add_command(daemon_command)
cli.add_command(gallery_command)
cli.add_command(evaluate_command)
cli.add_command(init_command)
cli.add_command(model)
cli.add_command(pause_command)
cli.add_command(process_command)
cli.add_command(search_command)
cli.add_command(status_command)
cli.add_command(resume_command)


def main() -> None:
    """Turns what a person can mend into one message and status 1."""
    # a shell that starts us in the background leaves SIGINT ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGHUP, _terminate)
    try:
        cli(standalone_mode=True)
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, e['loc'])).upper()}: {e['msg']} (it is {e['input']!r})" for e in error.errors()
        ]
        _end("; ".join(problems))
    except (ConfigurationError, ProviderUnavailable, NotFound, ModelChangeRefused, RebuildSuperseded) as error:
        _end(str(error))
    except psycopg.errors.InsufficientPrivilege as error:
        _end(f"DATABASE_URL: its role lacks a right: {error.diag.message_primary}")
    except GAVE_WAY as error:
        _end(f"the app holds locks on what is to be written, try again: {error}")
    except psycopg.OperationalError as error:
        _end(f"DATABASE_URL: the server is away: {' '.join(str(error).split())}")
    except psycopg.DataError as error:
        _end(f"the database refuses a value: {error.diag.message_primary}")


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def _end(message: str) -> None:
    click.echo(f"matching-pipeline: {message}", err=True)
    sys.exit(1)


def _migrate(settings: Settings, database_url: str) -> None:
    from matching_pipeline.components.instance import create_instance_tables, instance_url

    with _session(database_url) as connection:
        applied = migrate_schema(connection)
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


def _attach_or_remark(settings: Settings, connection: Connection, declarations: Declarations) -> None:
    """Attaches if that changes something. A role that only works cannot; it says what the owner has to do."""
    if _not_owner(connection) is not None:
        say_all(differences(connection, declarations))
    elif misfits(connection, declarations) or any(state.needs_attaching for state in source_states(connection)):
        connection.add_notice_handler(_say_warning)
        _attach(settings, connection, declarations)
    else:
        set_notify(connection, settings.enqueue_notify)


def _migrate_or_require_migrated(settings: Settings, database_url: str) -> None:
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


def _dagster_environment(settings: Settings, database_url: str, gallery: str) -> dict[str, str]:
    from matching_pipeline.components.instance import instance_url

    return {
        "DATABASE_URL": database_url,
        "DEFINITIONS_DIR": str(settings.definitions_dir),
        "DAGSTER_POSTGRES_URL": settings.dagster_postgres_url or instance_url(database_url),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "GALLERY_URL": settings.gallery_url or gallery,
        "MATCHING_PIPELINE_DEV_PID": str(os.getpid()),
    }
