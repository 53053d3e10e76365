"""Handlers whose embeddings are given, for any declarations; and lists by brute force, of the app's rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

from pgvector import Vector

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.handlers.registry import mirrored_sources
from matching_pipeline.matches.matching import attached
from matching_pipeline.models.registry import model_of
from matching_pipeline.queues.handler import Handler, Outcome
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.items import write_mirror
from matching_pipeline.sources.matcher import Matcher
from matching_pipeline.sources.reading import text_hash
from matching_pipeline_tests.integration.marketplace import GivenImages

Words = frozenset[str]


class GivenTexts(GivenImages):
    """As the handler of texts, but a text such as `given:1,0|0,1;` names the embeddings of its parts."""

    def write(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        model = model_of(connection, self.queue)
        for outcome, row in write_mirror(connection, self.queue, outcomes, is_text=True):
            text = str(row.content)
            if model and text == outcome.result.row.content and text.startswith("given:"):
                parts = text.removeprefix("given:").split(";")[0].split("|")
                first, *more = (Vector([float(value) for value in part.split(",")]) for part in parts)
                parameters = (model, outcome.job.source, row.item_key, first, more, text_hash(text))
                connection.execute(WRITE_TEXT.encode(), parameters)


WRITE_TEXT = """
insert into matching_pipeline.embeddings (source, item, model, dimensions, embedding, more, input_hash)
select source, matching_pipeline.key_id(key), model, vector_dims(embedding), embedding, more, input_hash
from (values (%s, %s, %s, %s::vector, %s::vector[], %s::bytea))
    as embedded (model, source, key, embedding, more, input_hash)
on conflict (source, item, model) do update set
    embedding = excluded.embedding, more = excluded.more, halves = excluded.halves, input_hash = excluded.input_hash
"""


def register_models(connection: Connection, dimensions: int) -> None:
    for modality in ("image", "text"):
        connection.execute(
            "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
            "values (%s, %s, %s, 'active')",
            (f"given {modality}", modality, dimensions),
        )


def handlers(connection: Connection, declarations: Declarations) -> list[Handler]:
    """The handlers of all queues, in the order in which jobs flow through them."""
    made: list[Handler] = [GivenImages(each.name) for each in declarations.images]
    made += [GivenTexts(each.name) for each in declarations.texts]
    for matcher in declarations.matchers:
        matching = attached(connection, matcher.name, part_images=3)
        made.append(MatchHandler(matcher.queue, matching, mirrored_sources(declarations, matching.rule.sources)))
    return made


def process(database_url: str, declarations: Declarations) -> None:
    with connect(database_url) as connection:
        for handler in handlers(connection, declarations):
            connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
            QueueWorker(database_url, handler).run()
        left = connection.execute(
            "select queue, source, kind, key, status, error_message from matching_pipeline.jobs "
            "where status <> 'completed' and queue = any (%s)",
            (list(declarations.queues),),
        ).fetchall()
    assert left == []


@dataclass(frozen=True)
class Thing:
    """An entity as the app's rows have it, with its items by key."""

    key: str
    items: Mapping[str, tuple[Sequence[float], Words]]
    facts: Mapping[str, Any] = field(default_factory=dict)


Row = tuple[str, str, float, str, str, int | None, int | None]
"""left and right key, similarity, left and right item, left and right rank"""


def brute_force(
    matcher: Matcher, left: Sequence[Thing], right: Sequence[Thing], may_match: Callable[[Thing, Thing], bool]
) -> list[Row]:
    """Every pair is scored, list by list."""
    scored: dict[tuple[str, str], tuple[float, str, str]] = {}
    for one in left:
        for other in right:
            if matcher.left == matcher.right and one.key >= other.key:
                continue
            if may_match(one, other):
                best = _best(one, other, matcher.attribute_weight)
                if best[0] >= matcher.threshold:
                    scored[one.key, other.key] = best
    within = matcher.left == matcher.right
    left_ranks = _ranks({pair: similarity for pair, (similarity, *_) in scored.items()}, matcher.top, within)
    turned = {(other, one): similarity for (one, other), (similarity, *_) in scored.items()}
    right_ranks = left_ranks if within else _ranks(turned, matcher.top, within) if matcher.both else {}
    rows = [
        (*pair, *proof, left_ranks.get(pair), right_ranks.get((pair[1], pair[0]))) for pair, proof in scored.items()
    ]
    return sorted((row for row in rows if row[-1] or row[-2]), key=lambda row: row[:2])


def _best(one: Thing, other: Thing, weight: float) -> tuple[float, str, str]:
    pairs = [(2.0, "", "")]
    for left, (vector, words) in sorted(one.items.items()):
        for right, (another, others) in sorted(other.items.items()):
            lengths = sqrt(sum(a * a for a in vector)) * sqrt(sum(b * b for b in another))
            cosine = sum(a * b for a, b in zip(vector, another, strict=True)) / lengths
            overlap = len(words & others) / sqrt(len(words) * len(others)) if words and others else 0.0
            pairs.append((-round((1 - weight) * cosine + weight * overlap, 9), left, right))
    similarity, left, right = min(pairs)
    return -similarity, left, right


def _ranks(scored: Mapping[tuple[str, str], float], top: int, within: bool) -> dict[tuple[str, str], int]:
    """By owner and listed entity, the place in the owner's list."""
    both = [*scored.items(), *(((other, one), score) for (one, other), score in scored.items() if within)]
    places: dict[str, int] = {}
    ranks = {}
    for (owner, listed), _ in sorted(both, key=lambda each: (each[0][0], -each[1], each[0][1])):
        places[owner] = places.get(owner, 0) + 1
        if places[owner] <= top:
            ranks[owner, listed] = places[owner]
    return ranks


def stored(connection: Connection, matcher: Matcher) -> list[Row]:
    """The rows of `matches`, with the keys of their items."""
    return connection.execute(
        """select left_key, right_key, similarity, coalesce(one.key, case when left_item = left_id then left_key end),
            coalesce(other.key, case when right_item = right_id then right_key end), left_rank, right_rank
        from matching_pipeline.matches
        left join matching_pipeline.items as one on one.source = %(left)s and one.id = left_item
        left join matching_pipeline.items as other on other.source = %(right)s and other.id = right_item
        where matcher = %(name)s order by left_key, right_key""",
        {"name": matcher.name, "left": matcher.left, "right": matcher.right},
    ).fetchall()


def same_rows(one: Iterable[Row], other: Iterable[Row]) -> bool:
    def rounded(row: Row) -> Row:
        return (*row[:2], round(row[2], 7), *row[3:])

    return [rounded(row) for row in one] == [rounded(row) for row in other]
