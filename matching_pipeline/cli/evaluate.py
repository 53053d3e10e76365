"""`matching-pipeline evaluate`: how good the matches are, according to people's labels."""

import click

from matching_pipeline.cli.console import say, table_of
from matching_pipeline.cli.opening import connected

MEASURES = ("nDCG@10", "precision", "recall")


@click.command("evaluate")
def evaluate_command() -> None:
    """Print the quality of the matches by matcher and model, from the labels in `match_labels`.

    In brackets is the interval that contains the true value with a confidence of 95 %.
    """
    from matching_pipeline.matches.evaluation import evaluate, labels_apart

    with connected() as (settings, connection, _):
        found = list(evaluate(connection, settings.match_part_images))
        apart = labels_apart(connection)
    rows = [
        (
            *(each.matcher, each.model, each.status, each.quality.pairs, each.quality.entities),
            *(each.quality.ndcg or "–", each.quality.precision or "–", each.quality.recall or "–"),
        )
        for each in found
    ]
    if rows:
        table_of(("matcher", "model", "status", "judged pairs", "entities", *MEASURES), rows)
    else:
        say("no pair is judged: docs/matchers.md says how your app writes labels")
    if apart:
        say(f"{apart} labels count for nothing: their matcher or an entity is gone, or has no embedding yet")
