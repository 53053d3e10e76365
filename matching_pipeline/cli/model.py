"""`matching-pipeline model`: which models embed, and how another takes the place of one."""

import click

from matching_pipeline.cli.console import models_table, say
from matching_pipeline.cli.doctor import QUEUE as ASKING
from matching_pipeline.cli.opening import connected
from matching_pipeline.models import activation
from matching_pipeline.models.registry import EMBEDDED, MODALITIES, registered_models
from matching_pipeline.providers.factory import Modality, chosen_models, require_working


@click.group()
def model() -> None:
    """Show the models, and let another take the place of the active one.

    A new model fills beside the active one, as its shadow; readers see nothing of it until it is activated.
    """


@model.command("list")
def show() -> None:
    """Show the models, and how far each has come."""
    with connected() as (_, connection, _declarations):
        models_table(registered_models(connection))


@model.command()
@click.argument("modality", type=click.Choice(list(MODALITIES)))
@click.argument("name", required=False)
def add(modality: Modality, name: str | None) -> None:
    """Let a model embed beside the active one: NAME, or the one that the settings choose."""
    with connected() as (settings, connection, _):
        assert settings.database_url is not None
        name = name or chosen_models(settings)[modality]
        working = require_working(settings, settings.database_url, ASKING, modality, name)
        status, queued = activation.add(connection, working, modality)
    say(f"{name} is the {status} {modality} model; {queued} {EMBEDDED[modality]} queued")
    if status == "shadow":
        say(f"when `matching-pipeline model list` shows it whole: matching-pipeline model activate {name}")


@model.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even where it lacks rows that the active model has.")
def activate(name: str, force: bool) -> None:
    """Let the shadow and the active model change places, at once for all readers; going back is the same."""
    with connected() as (settings, connection, _):
        figures = activation.activate(connection, name, force=force, part_images=settings.match_part_images)
    say(f"{name} is active; the model before it is kept and goes on, until `matching-pipeline model retire`")
    if figures.lists:
        say("matches: " + ", ".join(f"{count} {figure}" for figure, count in vars(figures).items()))


@model.command()
@click.argument("name")
def retire(name: str) -> None:
    """Remove a shadow's rows and its jobs."""
    with connected() as (_, connection, _declarations):
        removed = activation.retire(connection, name)
    say(f"{name} is retired; {removed} of its rows are gone")
