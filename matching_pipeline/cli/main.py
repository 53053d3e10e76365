"""The `matching-pipeline` command."""

import os
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from uuid import UUID

import click
import psycopg
from pydantic import ValidationError

from matching_pipeline.cli.attaching import (
    attach_command,
    attach_or_remark,
    detach_command,
    migrate_command,
    migrate_or_require_migrated,
)
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
from matching_pipeline.cli.opening import connected, open_settings
from matching_pipeline.cli.pause import pause_command, require_queue, resume_command
from matching_pipeline.cli.process import process_command
from matching_pipeline.cli.search import search_command
from matching_pipeline.cli.status import status_command
from matching_pipeline.db.connections import connect
from matching_pipeline.db.queries import named_rows
from matching_pipeline.db.transactions import GAVE_WAY
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable, RebuildSuperseded
from matching_pipeline.handlers import registry
from matching_pipeline.matches.feed import announcements
from matching_pipeline.models.activation import ModelChangeRefused
from matching_pipeline.queues import client
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import make_example_tables
from matching_pipeline.sources.declarations import PUBLISHING
from matching_pipeline.sources.enqueue import NotFound


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="matching_pipeline")
def cli() -> None:
    """Keeps AI embeddings and matches fresh over Postgres and pgvector.

    Works on DATABASE_URL, or on an embedded Postgres in .data if it is not set.
    """


@cli.command()
@click.option("--sample-data", is_flag=True, help="Insert sample rows first, also into the database of DATABASE_URL.")
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
    migrate_or_require_migrated(settings, database_url)
    with (
        serving(settings, database_url, machine.free_port(GALLERY_PORT)) as gallery,
        connect(database_url) as connection,
    ):
        if sample_data or embedded:
            make_example_tables(connection)
        attach_or_remark(settings, connection, declarations)
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
def doctor() -> None:
    """Connect to the database, the provider and the place of generated pictures; status 1 if something does not fit.

    It prints a line for each: sources, triggers, rights, key, models, dimensions.
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

    If a newer rebuild of the same matcher begins, that one computes the rest, and this one ends with status 1.
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


for command in (
    attach_command,
    audit_command,
    daemon_command,
    detach_command,
    evaluate_command,
    gallery_command,
    init_command,
    migrate_command,
    model,
    pause_command,
    process_command,
    resume_command,
    search_command,
    status_command,
):
    cli.add_command(command)


def main() -> None:
    """Turns what a person can correct into one message and status 1."""
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
        _end(f"the app holds locks on rows that must be written, try again: {error}")
    except psycopg.OperationalError as error:
        _end(f"DATABASE_URL: the server is away: {' '.join(str(error).split())}")
    except psycopg.DataError as error:
        _end(f"the database refuses a value: {error.diag.message_primary}")


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt


def _end(message: str) -> None:
    click.echo(f"matching-pipeline: {message}", err=True)
    sys.exit(1)


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
