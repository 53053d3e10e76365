"""The quality of a matcher's lists with a model, from the labels that people give to pairs (`match_labels`)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.matches.image_sets import PART_IMAGES
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.quality import Judged, Quality, quality
from matching_pipeline.matches.matching import all_attached
from matching_pipeline.matches.rule import Rule
from matching_pipeline.matches.scoring import Scoring

Listing = tuple[str, UUID, UUID]
"""The source and the id of an entity that keeps a list, and an entity of the other side."""
Labels = Mapping[Listing, float]
"""Grades."""
Ranks = Mapping[Listing, int]
"""Places in the lists; a listing that is missing or 0 is in none."""


@dataclass(frozen=True)
class Evaluation:
    matcher: str
    model: str
    status: str
    quality: Quality


def evaluate(connection: Connection, part_images: int = PART_IMAGES) -> Iterator[Evaluation]:
    """Evaluates, for each matcher with labels, the stored lists of the active model, and those of a shadow."""
    with snapshot(connection):
        for matching in all_attached(connection, part_images):
            rule = matching.rule
            for row in named_rows(connection, "models_of_matcher", matcher=rule.matcher):
                is_shadow = row["status"] == "shadow"
                labels, ranked = labelled(connection, rule.matcher, row["name"] if is_shadow else None)
                if is_shadow:
                    ranked = _computed(Scoring(connection, rule, part_images, row["name"]), rule, labels)
                if labels:
                    yield Evaluation(rule.matcher, row["name"], row["status"], quality_of(labels, ranked))


def stored_quality(connection: Connection, matcher: str) -> Quality:
    """The quality of the lists in `matches`."""
    return quality_of(*labelled(connection, matcher))


def labels_apart(connection: Connection) -> int:
    """The labels that count for no model: their matcher or one of their entities is gone or not embedded."""
    ((count,),) = connection.execute(query("labels_apart")).fetchall()
    return int(count)


def labelled(connection: Connection, matcher: str, model: str | None = None) -> tuple[Labels, Ranks]:
    """The labels of pairs that this model or the active one has embedded, and the stored ranks of these pairs."""
    rows = connection.execute(query("labelled_listings"), {"matcher": matcher, "model": model}).fetchall()
    labels = {(source, owner, listed): grade for source, owner, listed, grade, _ in rows}
    return labels, {(source, owner, listed): rank for source, owner, listed, _, rank in rows}


def _computed(scoring: Scoring, rule: Rule, labels: Labels) -> Ranks:
    ranked: dict[Listing, int] = {}
    for source in rule.keepers:
        owners = {owner for of, owner, _ in labels if of == source}
        for members, here in scoring.in_blocks(source, owners):
            ranked |= ranks_of(source, scoring.best(source, here, scoring.opposite(members)))
    return ranked


def ranks_of(source: str, lists: Pairs) -> Ranks:
    """The ranks in the lists of entities of the source."""
    listings = zip(as_uuids(lists.left), as_uuids(lists.right), lists.ranks.tolist(), strict=True)
    return {(source, owner, listed): rank for owner, listed, rank in listings}


def quality_of(labels: Labels, ranked: Ranks) -> Quality:
    owners = {owner: number for number, owner in enumerate(dict.fromkeys((of, owner) for of, owner, _ in labels))}
    judged = Judged(
        np.array([owners[source, owner] for source, owner, _ in labels], dtype=np.intp),
        np.array(list(labels.values()), dtype=np.float64),
        np.array([ranked.get(listing, 0) for listing in labels], dtype=np.intp),
    )
    return quality(judged)
