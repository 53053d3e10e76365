"""`matching-pipeline process`: what is due, here and now."""

import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC
from uuid import UUID

import click

from matching_pipeline.cli.console import progress, say
from matching_pipeline.cli.opening import connected
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.handlers import registry
from matching_pipeline.logs import log_to_stderr
from matching_pipeline.models.registry import shadow_queue
from matching_pipeline.queues import client
from matching_pipeline.settings import Settings
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import (
    NotFound,
    enqueue_entities,
    enqueue_missing,
    enqueue_packs,
    enqueue_resync,
)


@click.command("process")
@click.option(
    "--entity",
    "entities",
    multiple=True,
    nargs=2,
    metavar="SOURCE KEY",
    help="All pictures, or the text, of this entity, embedded already or not.",
)
@click.option(
    "--pack-for", "packs", multiple=True, metavar="KEY", help="The pack of product pictures of this entity."
)
@click.option("--missing", is_flag=True, help="Everything that has no up-to-date result, and what triggers missed.")
@click.option("--failed", is_flag=True, help="With --missing: failed jobs too, with fresh attempts.")
@click.option("--because", metavar="TEXT", help="With --failed: only those whose reason holds this text.")
@click.option("--verbose", is_flag=True, help="A line each time that jobs are claimed, completed or snoozed.")
def process_command(
    entities: tuple[tuple[str, str], ...],
    packs: tuple[str, ...],
    missing: bool,
    failed: bool,
    because: str | None,
    verbose: bool,
) -> None:
    """Embed pictures and texts and make product pictures here and now, and bring changed matches up to date.

    It works beside the standing worker, and does all that is due in the same queues. It names the jobs that another
    worker has leased, and waits for them. Status 1 if a job failed, or waits because its queue is paused.
    """
    if not (entities or packs or missing):
        raise click.UsageError("say what to process: --entity SOURCE KEY, --pack-for KEY or --missing")
    if (failed and not missing) or (because is not None and not failed):
        raise click.UsageError("--failed goes with --missing, and --because TEXT with --failed")
    log_to_stderr(logging.INFO if verbose else logging.WARNING)
    with connected() as (settings, connection, declarations):
        wanted = _enqueue_missing(connection, declarations, failed, because) if missing else set()
        wanted |= _enqueue_named(connection, declarations, entities, packs)
        queues = [queue for queue in registry.in_use(connection, declarations) if queue in wanted]
        worked_off = [_work_off(settings, connection, declarations, queue) for queue in queues]
    has_failures = any(done.failed for done in worked_off)
    if has_failures:
        say("what failed and why: matching-pipeline status")
    if has_failures or any(done.left.jobs for done in worked_off):
        sys.exit(1)


def _enqueue_missing(
    connection: Connection, declarations: Declarations, failed: bool, because: str | None
) -> set[str]:
    """Returns the queues to process."""
    enqueue_resync(connection)
    client.hasten_publishing(connection)
    say(f"{enqueue_missing(connection)} pictures and texts queued; all tables are compared with the mirror")
    # a product picture is never missing, as it is made only when an app or a person asks for it
    queues = {queue for queue in registry.queues(declarations) if declarations.queues.get(queue) != "generate"}
    if failed:
        retried = [client.retry_because(connection, queue, because or "") for queue in queues]
        say(f"{sum(retried)} failed jobs are pending again")
    return queues


def _enqueue_named(
    connection: Connection,
    declarations: Declarations,
    entities: Iterable[tuple[str, str]],
    packs: tuple[str, ...],
) -> set[str]:
    """Returns the queues to process."""
    queues: set[str] = set()
    for source, key in entities:
        say(f"{enqueue_entities(connection, source, [key])} pictures and texts of {source} {key} queued")
        queues |= _queues_of(declarations, source)
    if packs:
        if not declarations.generated:
            raise NotFound("no source has generated images: declare matching_pipeline.GeneratedImages")
        for asset in declarations.generated:
            say(f"{enqueue_packs(connection, asset.source, packs)} packs of product pictures queued")
        queues |= {queue for queue, work in declarations.queues.items() if work == "generate"}
    return queues


def _queues_of(declarations: Declarations, source: str) -> set[str]:
    """The queues that an entity of the source passes through: those of its items, and those of its matchers."""
    of_items = [each.name for each in declarations.of_items if source in each.sources]
    matching = [each.queue for each in declarations.matchers if source in (each.left, each.right)]
    return {*of_items, *map(shadow_queue, of_items), *matching}


def _work_off(
    settings: Settings, connection: Connection, declarations: Declarations, queue: str
) -> registry.WorkedOff:
    """Jobs that another worker has leased are waited for."""
    assert settings.database_url is not None
    said = False

    def wait(jobs: Sequence[UUID]) -> None:
        nonlocal said
        # once only: the number falls, and a renewed lease ends later
        if not said and (leased := _leased(connection, queue, jobs)):
            said = True
            say(leased)

    with progress(queue) as advance:
        done = registry.work_off(
            settings, settings.database_url, declarations, queue, on_progress=advance, on_wait=wait
        )
    say(f"{queue}: {done.jobs} jobs, {done.failed} failed")
    if done.pause:
        say(f"{queue} is {done.pause}: its jobs wait for `matching-pipeline resume {queue}`")
    elif done.left.jobs:
        reason = " ".join((done.left.reason or "").split())
        say(f"{queue}: {done.left.jobs} jobs wait until {done.left.until} UTC: {reason}")
    return done


def _leased(connection: Connection, queue: str, ids: Sequence[UUID]) -> str | None:
    """Says for which jobs we wait, and for how long at most; None if no job is leased.

    A live worker ends or renews its lease. A killed worker looks the same until the lease runs out.
    """
    (leased,) = named_rows(connection, "leased_jobs", queue=queue, ids=list(ids))
    if not leased["jobs"]:
        return None
    until = leased["until"].astimezone(UTC)
    return f"{queue}: waiting for {leased['jobs']} jobs that another worker has leased until {until:%H:%M:%S} UTC"
