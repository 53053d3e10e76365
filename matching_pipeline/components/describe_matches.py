"""What a report of matches shows of each matcher.

For vectors that the app made, such as faces, it shows only numbers: an erasure does not reach the copies that Dagster
keeps.
"""

from typing import Any

import dagster as dg

from matching_pipeline.components.metadata import Metadata
from matching_pipeline.components.pictures import histogram, markdown_table, picture
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.matches.evaluation import stored_quality
from matching_pipeline.sources.declarations import Declarations, Matches
from matching_pipeline.sources.matcher import Matcher

PAIRS = 8
"""The best pairs that a report shows."""
BLOCKS = 20
"""The blocks that a report shows: entities that can match each other have the same properties."""


def is_shown(matcher: Matcher, declarations: Declarations) -> bool:
    """Whether entities of the matcher may be named."""
    return not any(declarations.source(name).vector for name in (matcher.left, matcher.right))


def describe_matches(pipeline: Pipeline, declared: Matches) -> Metadata:
    described: dict[str, Any] = {}
    with pipeline.connection() as connection:
        for matcher in declared.matchers:
            described |= _scores(connection, matcher) | _quality(connection, matcher)
            if is_shown(matcher, pipeline.declarations):
                described |= _best_pairs(connection, matcher)
            else:
                described |= _blocks(connection, matcher)
    pairs = sum(described[f"{matcher.name} pairs"] for matcher in declared.matchers)
    return {**described, "dagster/row_count": pairs}


def _scores(connection: Connection, matcher: Matcher) -> dict[str, Any]:
    name = matcher.name
    counts = [count for (count,) in connection.execute(query("match_histogram"), {"matcher": name})]
    plot = picture(histogram(counts, 0, 1), f"{name} scores")
    return {f"{name} pairs": sum(counts), f"{name} scores": dg.MetadataValue.md(plot)}


def _quality(connection: Connection, matcher: Matcher) -> dict[str, Any]:
    """Numbers, so that the UI plots them over time; none if no pair is judged."""
    quality = stored_quality(connection, matcher.name)
    measures = {"nDCG@10": quality.ndcg, "precision": quality.precision, "recall": quality.recall}
    described: dict[str, Any] = {f"{matcher.name} judged pairs": quality.pairs} if quality.pairs else {}
    for measure, estimate in measures.items():
        if estimate:
            described[f"{matcher.name} {measure}"] = estimate.value
            described[f"{matcher.name} {measure}, 95 %"] = f"{estimate.low:.2f} to {estimate.high:.2f}"
    return described


def _best_pairs(connection: Connection, matcher: Matcher) -> dict[str, Any]:
    rows = [
        (
            f"{best['similarity']:.3f}",
            *(picture(best[side]) if best[side] else "" for side in ("left_thumbnail", "right_thumbnail")),
            *(f"`{best[key]}`" for key in ("left_key", "right_key")),
        )
        for best in named_rows(connection, "best_matches", matcher=matcher.name, count=PAIRS)
    ]
    header = ("score", "left picture", "right picture", *matcher.columns)
    return {f"best {matcher.name} matches": dg.MetadataValue.md(markdown_table(header, rows))}


def _blocks(connection: Connection, matcher: Matcher) -> dict[str, Any]:
    blocks = connection.execute(query("block_figures"), {"matcher": matcher.name, "count": BLOCKS}).fetchall()
    header = ("block", "left entities", "right entities", "entities with matches", "pairs", "mean similarity")
    return {f"{matcher.name} blocks": dg.MetadataValue.md(markdown_table(header, blocks))}
