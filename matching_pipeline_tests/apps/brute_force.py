"""What must be there, computed from the app's own rows in the simplest way."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.declarations import Declarations
from matching_pipeline.sources.matcher import Matcher
from matching_pipeline.sources.source import Source
from matching_pipeline_tests.apps.app import Entity

Vectors = dict[tuple[str, str], Any]
"""of each content of a source"""


def require_right(connection: Connection, declarations: Declarations, expected: list[Entity]) -> None:
    """Raises AssertionError where mirror, embeddings or matches are not as the app's rows say."""
    failed = connection.execute(
        "select source, key, error_message from matching_pipeline.jobs where status = 'failed'"
    )
    assert failed.fetchall() == []
    vectors: Vectors = {}
    for source in declarations.sources:
        entities = [entity for entity in expected if entity.source == source.name]
        assert entities, f"{source.name} is tried with no entity"
        vectors |= _contents(connection, source, entities)
    for matcher in declarations.matchers:
        _require_lists(connection, matcher, expected, vectors)


def _contents(connection: Connection, source: Source, entities: list[Entity]) -> Vectors:
    """The vectors, after a look whether each content is embedded, and no other."""
    rows = connection.execute(
        """select entity_key, items.content, encode(items.content_hash, 'hex'), embedding
        from matching_pipeline.embedded_items as embedded
        left join matching_pipeline.items on items.source = embedded.source and items.id = item
        where embedded.source = %s""",
        (source.name,),
        binary=True,
    ).fetchall()
    if source.vector:
        assert {key for key, *_ in rows} == {entity.key for entity in entities}
        given = {entity.key: np.fromstring(entity.contents[0].strip("[]"), sep=",") for entity in entities}
        return {(source.name, entity.contents[0]): given[entity.key] for entity in entities}
    places: dict[str, str] = {}
    """what the mirror holds of a content, by the content"""
    if source.text:
        places = {
            content: hashlib.sha256(content.encode()).hexdigest()
            for entity in entities
            for content in entity.contents
        }
    mirrored = {(key, content_hash if source.text else url): vector for key, url, content_hash, vector in rows}
    assert mirrored.keys() == {
        (entity.key, places.get(each, each)) for entity in entities for each in entity.contents
    }
    vectors = {place: vector.to_numpy().astype(np.float64) for (_, place), vector in mirrored.items()}
    return {(source.name, each): vectors[places.get(each, each)] for entity in entities for each in entity.contents}


def _require_lists(connection: Connection, matcher: Matcher, expected: list[Entity], vectors: Vectors) -> None:
    stored: dict[tuple[str, str], list[tuple[int, str, float]]] = defaultdict(list)
    rows = connection.execute(
        "select left_key, right_key, similarity, left_rank, right_rank "
        "from matching_pipeline.matches where matcher = %s",
        (matcher.name,),
    )
    for left, right, similarity, left_rank, right_rank in rows:
        if left_rank is not None:
            stored[matcher.left, left].append((left_rank, right, similarity))
        if right_rank is not None:
            stored[matcher.right, right].append((right_rank, left, similarity))
    found = 0
    for lefts, rights in _candidates(matcher, expected):
        scores = _scores(lefts, rights, vectors)
        place = {right.key: column for column, right in enumerate(rights)}
        told: list[tuple[float, float, float]] = []
        """of each pair: the stored score, that of the two entities, and that of this place in the list"""
        for row, left in enumerate(lefts):
            kept = sorted(stored.pop((left.source, left.key), []))
            best = -np.sort(-scores[row][scores[row] >= matcher.threshold])[: matcher.top]
            assert [rank for rank, *_ in kept] == list(range(1, len(best) + 1)), left.key
            told += [(score, scores[row, place[right]], best[rank - 1]) for rank, right, score in kept]
        if told:
            # equal scores may be in any order
            similarities, scored, best_scores = np.array(told).T
            np.testing.assert_allclose(similarities, best_scores, atol=1e-6)
            np.testing.assert_allclose(scored, best_scores, atol=1e-6)
        found += len(told)
    assert not stored
    assert found, f"{matcher.name} is tried with no match"


def _candidates(matcher: Matcher, expected: list[Entity]) -> Iterator[tuple[list[Entity], list[Entity]]]:
    """Entities, and all that each of them may match, but for itself."""
    blocks: dict[tuple[str | None, ...], list[Entity]] = defaultdict(list)
    for entity in expected:
        values = [entity.properties.get(name) for name in (*matcher.same, *matcher.opposite)]
        if entity.source in (matcher.left, matcher.right) and None not in values:
            blocks[entity.source, *values].append(entity)
    opposite = {value: other for pair in matcher.opposite.values() for value, other in (pair, pair[::-1])}
    for (source, *values), block in blocks.items():
        if source in matcher.keepers:
            other = matcher.right if source == matcher.left else matcher.left
            same, opposed = values[: len(matcher.same)], values[len(matcher.same) :]
            yield block, blocks.get((other, *same, *(opposite.get(str(value)) for value in opposed)), [])


def _scores(lefts: list[Entity], rights: list[Entity], vectors: Vectors) -> Any:
    """The best cosine of the contents of each two entities, and of an entity with itself none."""
    sides = [
        [
            (place, vectors[entity.source, content])
            for place, entity in enumerate(entities)
            for content in entity.contents
        ]
        for entities in (lefts, rights)
    ]
    scores = np.full((len(lefts), len(rights)), -2.0)
    if not sides[0] or not sides[1]:
        return scores
    (left_places, left), (right_places, right) = (
        (np.array([place for place, _ in side]), np.array([v / np.linalg.norm(v) for _, v in side])) for side in sides
    )
    cosines = left @ right.T
    np.maximum.at(scores, (left_places[:, None], right_places[None, :]), cosines)
    if lefts is rights:
        np.fill_diagonal(scores, -2.0)
    return scores
