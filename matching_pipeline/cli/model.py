"""`matching-pipeline model`: which models embed, and how another takes the place of one."""

import click

from matching_pipeline.cli.console import models_table, say
from matching_pipeline.cli.doctor import QUEUE as ASKING
from matching_pipeline.cli.opening import Connected, connected
from matching_pipeline.models import activation
from matching_pipeline.models.activation import ModelChangeRefused, matchings_of, require_another
from matching_pipeline.models.registry import EMBEDDED, MODALITIES, current_model, registered_models
from matching_pipeline.providers.factory import Modality, chosen_models, require_working

PROPOSED = "proposed"


@click.group()
def model() -> None:
    """Show the models, and let another take the place of the active one.

    A new model works beside the active one, as its shadow. Readers do not see it until it is activated.
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
@click.option(
    "--sample", default=1000, show_default=True, help="NAME embeds so many entities, unless it is the shadow."
)
@click.option("--yes", is_flag=True, help="Do not ask whether the price of the sample is right.")
def compare_command(modality: Modality, name: str | None, sample: int, yes: bool) -> None:
    """Compare the active model with the shadow, or with NAME, and propose thresholds; nothing changes.

    The shadow is compared on what it has embedded so far. Another model embeds a sample first, after its price was
    printed. The scores of two models differ. The proposed threshold keeps as many pairs as there are.
    """
    from matching_pipeline.cli import compare

    with connected() as opened:
        shadow = current_model(opened.connection, modality, "shadow")
        name = name or shadow or chosen_models(opened.settings)[modality]
        require_another(opened.connection, modality, name)
        matchings = matchings_of(opened.connection, modality, opened.settings.match_part_images)
        if not matchings:
            raise ModelChangeRefused(f"no matcher compares {EMBEDDED[modality]}: declare one first")
        embedded = None if name == shadow else compare.embed_sample(opened, matchings, modality, name, sample, yes)
        for found in compare.comparisons(opened, matchings, name, embedded):
            compare.show(found)
            compare.show_pairs(opened, found)


def _thresholds(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, float | None]:
    """The thresholds by matcher; None for `proposed`."""
    thresholds: dict[str, float | None] = {}
    for value in values:
        matcher, _, number = value.rpartition("=")
        try:
            thresholds[matcher or value] = None if value == PROPOSED else float(number)
            fits = value == PROPOSED or (bool(matcher) and -1 <= float(number) <= 1)
        except ValueError:
            fits = False
        if not fits:
            raise click.BadParameter(f"{value!r} is not {PROPOSED}, nor MATCHER=NUMBER with a number from -1 to 1")
    return thresholds


def _proposed(opened: Connected, name: str) -> dict[str, float]:
    """The thresholds of equal quantile, as far as the sample has pairs."""
    from matching_pipeline.cli.compare import comparisons

    modality = activation.modality_of_model(opened.connection, name)
    matchings = matchings_of(opened.connection, modality, opened.settings.match_part_images)
    found = list(comparisons(opened, matchings, name))
    for each in found:
        say(f"{each.rule.matcher}: the threshold is {each.thresholds[1]:g}")
    return {each.rule.matcher: each.thresholds[1] for each in found}


@model.command()
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if it lacks embeddings that the active model has.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="MATCHER=NUMBER",
    callback=_thresholds,
    help="The matcher's threshold with this model; `--threshold proposed` takes those of `model compare` for all.",
)
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Even if more than half of the entities that have matches by a matcher lose all of them.",
)
def activate(name: str, force: bool, thresholds: dict[str, float | None], accept_loss: bool) -> None:
    """Make the shadow active and the active model the shadow, at once for all readers. The same command goes back."""
    with connected() as opened:
        chosen = {matcher: value for matcher, value in thresholds.items() if value is not None}
        if None in thresholds.values():
            chosen = _proposed(opened, name) | chosen
        options = activation.Options(force=force, accept_loss=accept_loss, thresholds=chosen)
        figures = activation.activate(opened.connection, name, options, part_images=opened.settings.match_part_images)
    say(f"{name} is active; the model before it still embeds too, until `matching-pipeline model retire`")
    if figures.lists:
        say("matches: " + ", ".join(f"{count} {figure}" for figure, count in vars(figures).items()))


@model.command()
@click.argument("name")
def retire(name: str) -> None:
    """Remove a shadow's rows and its jobs."""
    with connected() as (_, connection, _declarations):
        removed = activation.retire(connection, name)
    say(f"{name} is retired; {removed} of its rows are gone")
