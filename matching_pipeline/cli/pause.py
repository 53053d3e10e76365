"""`matching-pipeline pause` and `resume`: stop the work of one queue, and start it again."""

import getpass

import click

from matching_pipeline.cli.console import say
from matching_pipeline.cli.opening import connected
from matching_pipeline.handlers import registry
from matching_pipeline.queues import client
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.enqueue import NotFound


@click.command("pause")
@click.argument("queue")
@click.option(
    "--until", "pause_end", default="infinity", metavar="TIME", help="As Postgres reads it, such as 'tomorrow 7:00'."
)
def pause_command(queue: str, pause_end: str) -> None:
    """Stop all workers from claiming jobs of QUEUE, until TIME (UTC) or until `resume`.

    A worker finishes the jobs that it claimed before. New ones wait.
    """
    with connected() as (_, connection, declarations):
        require_queue(declarations, queue)
        client.pause(connection, queue, getpass.getuser(), pause_end)
        say(f"{queue} is {client.queue_pause(connection, queue)}")


@click.command("resume")
@click.argument("queue")
def resume_command(queue: str) -> None:
    """End the pause of QUEUE: its workers continue at once."""
    with connected() as (_, connection, declarations):
        require_queue(declarations, queue)
        was_paused = client.resume(connection, queue)
        say(f"{queue} continues" if was_paused else f"{queue} was not paused")


def require_queue(declarations: Declarations, queue: str) -> None:
    if queue not in registry.queues(declarations):
        raise NotFound(f"there is no queue {queue}, only {', '.join(registry.queues(declarations))}")
