"""Compares the lists of a matcher by two models, from a sample of entities that both have embedded."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.matches.evaluation import Listing, Ranks, labelled, quality_of, ranks_of
from matching_pipeline.matches.image_sets import load, only
from matching_pipeline.matches.kernel import comparison as kernel
from matching_pipeline.matches.kernel.columns import Ids, as_ids, as_uuids, concatenate
from matching_pipeline.matches.kernel.comparison import Comparison, Scores
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.pairs import Pairs
from matching_pipeline.matches.kernel.quality import Quality
from matching_pipeline.matches.matching import Matching
from matching_pipeline.matches.rule import Block, Rule
from matching_pipeline.matches.scoring import Scoring

SAMPLE = 1000
"""The lists of so many entities are compared."""
OTHERS = 10_000
"""They list entities of so many of the other side, at most."""

Images = Mapping[str, ImageSet]
"""By source."""
Lists = Mapping[str, Pairs]
"""By the source of the entities that keep them, without a threshold."""


@dataclass(frozen=True)
class Sampled:
    source: str
    id: UUID
    block: Block


@dataclass(frozen=True)
class ModelComparison:
    """The lists of one matcher with two models. The first of two values belongs to the active model."""

    rule: Rule
    models: tuple[str, str]
    lists: int
    thresholds: tuple[float, float]
    """those that `found` compares with"""
    proposed: float | None
    """the new model's threshold of equal quantile; None if no pair of the sample reaches the active one's"""
    found: Comparison
    scores: Scores
    old_quality: Quality
    new_quality: Quality


def compare(
    connection: Connection,
    matching: Matching,
    model: str,
    *,
    embedded: Images | None = None,
    threshold: float | None = None,
    sample: int = SAMPLE,
) -> ModelComparison | None:
    """Compares the active model with this one. None if they have embedded no entity in common.

    `embedded` are images of a model whose embeddings are not stored. Without `threshold` the new model's is the
    proposed one. The caller sees to it that nothing changes meanwhile.
    """
    rule = matching.rule
    active, other = (Scoring(connection, rule, matching.part_images, name) for name in (None, model))
    entities = sampled(connection, rule, None if embedded else model)
    old, new = _stored(connection, active, entities), embedded or _stored(connection, other, entities)
    if not set(rule.sources) <= new.keys():
        return None
    common = {source: set(as_uuids(np.intersect1d(old[source].entities, new[source].entities))) for source in old}
    entities = [each for each in entities if each.id in common[each.source]]
    owners = [each for source in rule.keepers for each in _of(source, entities)[:sample]]
    before, after = _lists(active, rule, old, entities, owners), _lists(other, rule, new, entities, owners)
    if not (before and after):
        return None
    old_pairs, new_pairs = _together(before), _together(after)
    proposed = kernel.equal_quantile(old_pairs.similarity, new_pairs.similarity, active.policy.threshold)
    usual = other.policy.threshold if proposed is None else proposed
    thresholds = active.policy.threshold, usual if threshold is None else threshold
    keeping = {(each.source, each.id) for each in owners}
    labels = {
        (source, owner, listed): grade
        for (source, owner, listed), grade in labelled(connection, rule.matcher)[0].items()
        if (source, owner) in keeping and listed in common[rule.other(source)]
    }
    return ModelComparison(
        *(rule, (active.model, model), len(owners), thresholds, proposed),
        kernel.compare(old_pairs, new_pairs, thresholds),
        kernel.distribution(old_pairs.similarity, new_pairs.similarity, thresholds),
        *(quality_of(labels, _ranks(each, at)) for each, at in zip((before, after), thresholds, strict=True)),
    )


def sampled(connection: Connection, rule: Rule, model: str | None, size: int = OTHERS) -> list[Sampled]:
    """At most `size` entities of each source that the active model and `model` have embedded.

    They are the same each time: labelled entities first, then whole blocks.
    """
    rows = named_rows(connection, "entities_to_compare", matcher=rule.matcher, model=model, size=size)
    found = ((row["source"], row["id"], rule.block_of(row["properties"])) for row in rows)
    return [Sampled(source, id, block) for source, id, block in found if block is not None]


def _stored(connection: Connection, scoring: Scoring, entities: Sequence[Sampled]) -> Images:
    return {
        source: load(connection, scoring.members(source), [each.id for each in _of(source, entities)])
        for source in scoring.sources
    }


def _of(source: str, entities: Sequence[Sampled]) -> list[Sampled]:
    return [each for each in entities if each.source == source]


def _lists(
    scoring: Scoring, rule: Rule, images: Images, entities: Sequence[Sampled], owners: Sequence[Sampled]
) -> Lists:
    policy = replace(scoring.policy, threshold=-1.0)
    lists: dict[str, list[Pairs]] = {source: [] for source in rule.keepers}
    members = _by_block(entities)
    for (source, block), ids in _by_block(owners).items():
        opposite = rule.other(source), rule.opposite_of(block)
        if opposite in members:
            here, others = only(images[source], ids), only(images[opposite[0]], members[opposite])
            lists[source].append(scoring.top(source, here, others, policy))
    return {source: concatenate(parts) for source, parts in lists.items() if parts}


def _together(lists: Lists) -> Pairs:
    """With another id for each owner: entities of two sources that have the same key have the same id."""
    parts = []
    for source, pairs in lists.items():
        owners, places = np.unique(pairs.left, return_inverse=True)
        ids = [UUID(bytes=hashlib.md5(source.encode() + owner.bytes).digest()) for owner in as_uuids(owners)]
        parts.append(replace(pairs, left=as_ids(ids)[places]))
    return concatenate(parts)


def _by_block(entities: Sequence[Sampled]) -> Mapping[tuple[str, Block], Ids]:
    ids: dict[tuple[str, Block], list[UUID]] = defaultdict(list)
    for each in entities:
        ids[each.source, each.block].append(each.id)
    return {of: as_ids(found) for of, found in ids.items()}


def _ranks(lists: Lists, threshold: float) -> Ranks:
    ranked: dict[Listing, int] = {}
    for source, pairs in lists.items():
        ranked |= ranks_of(source, pairs.take(pairs.similarity >= threshold))
    return ranked
