"""`matching-pipeline model`: which models embed, and how another takes the place of one."""

import click

from matching_pipeline.cli.console import models_table, say
from matching_pipeline.cli.doctor import QUEUE as ASKING
from matching_pipeline.cli.opening import connected
from matching_pipeline.models import activation
from matching_pipeline.models.activation import ModelChangeRefused, matchings_of, require_another
from matching_pipeline.models.registry import EMBEDDED, MODALITIES, current_model, registered_models
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


@model.command("compare")
@click.argument("modality", type=click.Choice(list(MODALITIES)))
@click.argument("name", required=False)
@click.option("--sample", default=1000, show_default=True, help="NAME embeds so many entities, if it is no shadow.")
@click.option("--yes", is_flag=True, help="Do not ask whether the price of the sample is right.")
def compare_command(modality: Modality, name: str | None, sample: int, yes: bool) -> None:
    """Compare the active model with the shadow, or with NAME, and propose thresholds; nothing changes.

    The shadow is compared on what it has embedded so far. Another model embeds a sample first, after its price was
    printed. Of two models the scores differ. The proposed threshold keeps as many pairs as there are.
    """
    from matching_pipeline.cli import compare

    with connected() as opened:
        shadow = current_model(opened.connection, modality, "shadow")
        name = name or shadow or chosen_models(opened.settings)[modality]
        require_another(opened.connection, modality, name)
        matchings = matchings_of(opened.connection, modality, opened.settings.match_part_images)
        if not matchings:
            raise ModelChangeRefused(f"no matcher compares {EMBEDDED[modality]}")
        embedded = None if name == shadow else compare.embed_sample(opened, matchings, modality, name, sample, yes)
        for found in compare.comparisons(opened, matchings, name, embedded):
            compare.show(found)
            compare.show_pairs(opened, found)


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
