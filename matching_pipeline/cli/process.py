"""`matching-pipeline process`: what is due, here and now."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC
from uuid import UUID

import click

from matching_pipeline.cli.console import progress, say
from matching_pipeline.cli.opening import connected
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.handlers import registry
from matching_pipeline.settings import Settings
from matching_pipeline.sources.enqueue import enqueue_images, enqueue_missing, enqueue_packs


@click.command("process")
@click.option(
    "--project", "projects", multiple=True, type=click.UUID, metavar="ID", help="All images of this project."
)
@click.option(
    "--product", "products", multiple=True, type=click.UUID, metavar="ID", help="All images of this product."
)
@click.option(
    "--pack",
    "packs",
    multiple=True,
    type=click.UUID,
    metavar="ID",
    help="Its pack of product pictures.",
)
@click.option("--missing", is_flag=True, help="Every image and posting that has no up-to-date row.")
def process_command(
    projects: tuple[UUID, ...], products: tuple[UUID, ...], packs: tuple[UUID, ...], missing: bool
) -> None:
    """Analyse images, embed postings and make product pictures here and now, and bring changed matches up to date."""
    if not (projects or products or packs or missing):
        raise click.UsageError("say what to process: --project ID, --product ID, --pack ID or --missing")
    with connected() as (settings, connection):
        queued = enqueue_missing(connection) if missing else 0
        queued += enqueue_images(connection, projects, products)
        say(f"{queued} images and postings queued")
        if packs:
            say(f"{enqueue_packs(connection, packs)} packs of product pictures queued")
        failed = 0
        wanted: set[str] = set()
        if projects or products:
            wanted |= {registry.IMAGE_AI, registry.MATCHES}
        if packs:
            wanted |= {registry.GENERATED_IMAGES}
        if missing:  # a product picture never is: it is asked for
            wanted |= {*registry.QUEUES} - {registry.GENERATED_IMAGES}
        for queue in registry.in_use(connection):
            if queue in wanted:
                failed += _drain(settings, connection, queue)
    if failed:
        say("what failed and why: matching-pipeline status")
        sys.exit(1)


def _drain(settings: Settings, connection: Connection, queue: str) -> int:
    """Returns how many items failed, here or in another drain, which is waited for."""
    assert settings.database_url is not None
    ids = [row["id"] for row in named_rows(connection, "unfinished_items", queue=queue, ids=None)]
    total, failed, waiting = len(ids), 0, ""
    with progress(queue) as advance:
        while left := len(named_rows(connection, "unfinished_items", queue=queue, ids=ids)):
            advance(total - left, total)
            summary = registry.drain(
                settings,
                settings.database_url,
                queue,
                on_progress=lambda summary: advance(min(summary.counts.total(), total), total),
            )
            failed += summary.counts["failed"]
            if not summary.counts.total():
                if (leased := _leased(connection, queue, ids)) and leased != waiting:
                    say(waiting := leased)
                time.sleep(0.5)
        advance(total, total)
    failed = max(failed, len(named_rows(connection, "failed_items", queue=queue, ids=ids)))
    say(f"{queue}: {total} items, {failed} failed")
    return failed


def _leased(connection: Connection, queue: str, ids: Sequence[UUID]) -> str | None:
    """What is waited for, and for how long at most: a worker that is alive ends or renews its lease, one that was
    killed cannot be told from it before."""
    (leased,) = named_rows(connection, "leased_items", queue=queue, ids=ids)
    if not leased["items"]:
        return None
    until = leased["until"].astimezone(UTC)
    return f"{queue}: waiting for {leased['items']} items that another worker has leased until {until:%H:%M:%S} UTC"
