"""`matching-pipeline process`: what is due, here and now."""

import sys
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
    "--pack-for",
    "packs",
    multiple=True,
    type=click.UUID,
    metavar="PROJECT",
    help="The pack of product pictures of this row of `projects`.",
)
@click.option("--missing", is_flag=True, help="Every image and posting that has no up-to-date row.")
def process_command(
    projects: tuple[UUID, ...], products: tuple[UUID, ...], packs: tuple[UUID, ...], missing: bool
) -> None:
    """Analyse images, embed postings and make product pictures here and now, and bring changed matches up to date."""
    if not (projects or products or packs or missing):
        raise click.UsageError("say what to process: --project ID, --product ID, --pack-for PROJECT or --missing")
    with connected() as (settings, connection):
        queued = enqueue_missing(connection) if missing else 0
        queued += enqueue_images(connection, projects, products)
        say(f"{queued} images and postings queued")
        if packs:
            say(f"{enqueue_packs(connection, packs)} packs of product pictures queued")
        wanted: set[str] = set()
        if projects or products:
            wanted |= {registry.IMAGE_AI, registry.MATCHES}
        if packs:
            wanted |= {registry.GENERATED_IMAGES}
        if missing:  # a product picture is never missing: an app or a person asks for it
            wanted |= {*registry.QUEUES} - {registry.GENERATED_IMAGES}
        failed = sum(
            _work_off(settings, connection, queue) for queue in registry.in_use(connection) if queue in wanted
        )
    if failed:
        say("what failed and why: matching-pipeline status")
        sys.exit(1)


def _work_off(settings: Settings, connection: Connection, queue: str) -> int:
    """Returns how many jobs failed, here or in another worker, which is waited for."""
    assert settings.database_url is not None
    said = ""

    def wait(jobs: Sequence[UUID]) -> None:
        nonlocal said
        if (leased := _leased(connection, queue, jobs)) and leased != said:
            say(said := leased)

    with progress(queue) as advance:
        done = registry.work_off(settings, settings.database_url, queue, on_progress=advance, on_wait=wait)
    say(f"{queue}: {done.jobs} jobs, {done.failed} failed")
    return done.failed


def _leased(connection: Connection, queue: str, ids: Sequence[UUID]) -> str | None:
    """Says for which jobs we wait, and for how long at most; None where no job is leased.

    A live worker ends or renews its lease. A killed worker looks the same until the lease runs out.
    """
    (leased,) = named_rows(connection, "leased_items", queue=queue, ids=list(ids))
    if not leased["items"]:
        return None
    until = leased["until"].astimezone(UTC)
    return f"{queue}: waiting for {leased['items']} jobs that another worker has leased until {until:%H:%M:%S} UTC"
