"""What `matching-pipeline model compare` does: it embeds a sample if needed, compares, and prints."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from matching_pipeline.cli.console import print_table, progress, say, table_of
from matching_pipeline.cli.opening import Connected
from matching_pipeline.db.queries import named_rows
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.handlers.images import AnalysedImage
from matching_pipeline.handlers.registry import embedding_handler
from matching_pipeline.matches.comparison import Images, ModelComparison, compare, sampled
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.columns import as_ids, as_uuids
from matching_pipeline.matches.kernel.images import image_set
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.matching import Matching
from matching_pipeline.models.registry import EMBEDDED
from matching_pipeline.providers.factory import Modality, price
from matching_pipeline.queues.client import Job
from matching_pipeline.queues.handler import Outcome
from matching_pipeline.sources.items import read_items

QUEUE = "compare"
"""The call log records the requests for a sample under this name."""
SHOWN = 10
"""Pairs lost and pairs won."""
BAR = 30
"""Characters of the longest bar."""


def comparisons(
    opened: Connected, matchings: Sequence[Matching], model: str, embedded: Images | None = None
) -> Iterator[ModelComparison]:
    with snapshot(opened.connection):
        for matching in matchings:
            if found := compare(opened.connection, matching, model, embedded=embedded):
                yield found
            else:
                say(f"{matching.name}: the two models have embedded no entities in common that may match")


def embed_sample(
    opened: Connected, matchings: Sequence[Matching], modality: Modality, model: str, size: int, sure: bool
) -> Images:
    """Has the model embed `size` entities of each matcher, and stores nothing but the provider's answers."""
    settings, connection, _ = opened
    assert settings.database_url is not None
    items = _items(opened, matchings, size)
    jobs = {_job(item): item for item in items}
    if modality == "text":
        inputs = [str(row.content) for row in read_items(connection, list(jobs))[0].values()]
    else:
        inputs = [str(item["key"]) for item in items]
    cost = price(settings, settings.database_url, QUEUE, modality, model, inputs)
    say(f"{model} embeds a sample of {len(items)} {EMBEDDED[modality]}, which costs about ${cost:.4f}")
    if cost and not sure:
        click.confirm("Go on?", abort=True, err=True)
    done: dict[Job, Outcome] = {}
    with (
        embedding_handler(settings, settings.database_url, QUEUE, modality, model) as handler,
        progress(f"sample of {EMBEDDED[modality]}") as advance,
    ):
        todo = list(jobs)
        for begin in range(0, len(todo), handler.batch_size):
            for outcomes in handler.work(connection, todo[begin : begin + handler.batch_size]):
                done |= {outcome.job: outcome for outcome in outcomes}
                advance(len(done), len(todo))
    reasons = [str(outcome.failure or outcome.must_wait) for outcome in done.values() if outcome.result is None]
    if reasons:
        say(f"{len(reasons)} of them cannot be embedded, such as one because: {reasons[0]}")
    if len(reasons) == len(items):
        raise ConfigurationError(f"{model} has embedded nothing, so that there is nothing to compare")
    return _images([(jobs[job], done[job].result) for job in jobs if job in done and done[job].result is not None])


def show(found: ModelComparison) -> None:
    rule, (old, new) = found.rule, found.models
    old_threshold, new_threshold = found.thresholds
    pairs = found.found
    rows: list[tuple[object, ...]] = [
        ("threshold", f"{old_threshold:g}", f"{new_threshold:g}" + (" (proposed)" if found.proposed else "")),
        ("pairs", len(pairs.old), len(pairs.new)),
        ("pairs of this model only", len(pairs.lost), len(pairs.won)),
        ("entities without matches", found.lists - pairs.with_pairs, found.lists - len(np.unique(pairs.new.left))),
    ]
    for name in ("ndcg", "precision", "recall"):
        qualities = [getattr(each, name) for each in (found.old_quality, found.new_quality)]
        if any(qualities):
            rows.append(("nDCG@10" if name == "ndcg" else name, *(each or "–" for each in qualities)))
    table_of(("", old, new), rows, f"{rule.matcher}: the lists of {found.lists} entities")
    click.echo(
        f"Without a threshold, two lists of one entity have {pairs.overlap:.0%} in common. {pairs.emptied} of the "
        f"{pairs.with_pairs} entities that have matches lose all of them."
    )
    if found.proposed is None:
        click.echo("No threshold is proposed: no pair of the sample reaches the active model's.")
    else:
        click.echo(f"The proposed threshold keeps as many pairs: `--threshold {rule.matcher}={found.proposed:g}`")
    _plot(found)


def _plot(found: ModelComparison) -> None:
    scores = found.scores
    table = Table("scores", *found.models, title=f"{found.rule.matcher}: scores without a threshold")
    most = max(*scores.old, *scores.new, 1)
    columns = ((scores.old, scores.old_threshold), (scores.new, scores.new_threshold))
    for place, (low, high) in enumerate(pairwise(scores.edges.tolist())):
        bars = [f"{'█' * -(-counts[place] * BAR // most):<{BAR}} {counts[place]}" for counts, _ in columns]
        marks = [" ← threshold" if place == marked else "" for _, marked in columns]
        table.add_row(f"{low:.3f} to {high:.3f}", *(bar + mark for bar, mark in zip(bars, marks, strict=True)))
    print_table(table)


def show_pairs(opened: Connected, found: ModelComparison) -> None:
    """The best pairs that one model has alone, with their pictures."""
    for title, pairs in (("lost", found.found.lost), ("won", found.found.won)):
        if len(pairs):
            _show_pairs(opened, found, f"{found.rule.matcher}: pairs {title}", pairs.take(slice(SHOWN)))


def _show_pairs(opened: Connected, found: ModelComparison, title: str, pairs: Pairs) -> None:
    ids = [as_uuids(items) for items in (pairs.left_image, pairs.right_image)]
    named: dict[UUID, str] = {}
    for source in found.rule.sources:
        for row in named_rows(opened.connection, "named_items", source=source, ids=[*ids[0], *ids[1]]):
            named[row["id"]] = f"{row['key']} {row['content'] or ''}".strip()
    rows = [
        (f"{similarity:.3f}", *(named.get(id, "–") for id in both))
        for similarity, *both in zip(pairs.similarity, *ids, strict=True)
    ]
    table_of(("similarity", "entity", "listed entity"), rows, title)


Item = Mapping[str, Any]
"""A row of `items_to_embed`."""


def _items(opened: Connected, matchings: Sequence[Matching], size: int) -> list[Item]:
    ids: dict[str, dict[UUID, None]] = {}
    for matching in matchings:
        rule = matching.rule
        for each in sampled(opened.connection, rule, None, size if rule.is_within else -(-size // 2)):
            ids.setdefault(each.source, {})[each.id] = None
    return [
        row
        for source, each in ids.items()
        for row in named_rows(opened.connection, "items_to_embed", source=source, ids=list(each))
    ]


def _job(item: Item) -> Job:
    """Names the item as a job does. It is in no queue."""
    return Job(uuid4(), str(item["source"]), str(item["kind"]), str(item["key"]), {}, 1)


def _images(embedded: Sequence[tuple[Item, Any]]) -> Images:
    """The images in the results of a handler of pictures or texts, in the order of entities and items."""
    rows: dict[str, list[tuple[UUID, UUID, NDArray[np.float32], frozenset[str]]]] = defaultdict(list)
    for item, result in embedded:
        analysis = result.analysis if isinstance(result, AnalysedImage) else None
        vectors = [analysis.embedding] if analysis else result.embeddings
        tokens = attribute_tokens(analysis.attributes) if analysis else frozenset()
        rows[item["source"]] += [(item["entity"], item["id"], vector.to_numpy(), tokens) for vector in vectors]
    return {
        source: image_set(as_ids(entities), as_ids(ids), np.stack(vectors), tokens)
        for source, (entities, ids, vectors, tokens) in ((of, zip(*each, strict=True)) for of, each in rows.items())
    }
