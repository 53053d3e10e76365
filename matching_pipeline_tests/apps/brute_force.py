"""What must be there, computed from the app's own rows in the simplest way."""

import hashlib
from collections import defaultdict
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
        """select entities.key, items.content, encode(items.content_hash, 'hex'), embeddings.embedding
        from matching_pipeline.items
        join matching_pipeline.entities on entities.source = items.source and entities.id = items.entity
        join matching_pipeline.embeddings on embeddings.source = items.source and embeddings.item = items.id
        where items.source = %s""",
        (source.name,),
        binary=True,
    ).fetchall()
    if source.vector:
        assert {key for key, *_ in rows} == {entity.key for entity in entities}
        given = {entity.key: np.fromstring(entity.contents[0].strip("[]"), sep=",") for entity in entities}
        return {(source.name, entity.contents[0]): given[entity.key] for entity in entities}
    if source.text:
        hashes = {(entity.key, hashlib.sha256(entity.contents[0].encode()).hexdigest()) for entity in entities}
        assert {(key, content_hash) for key, _, content_hash, _ in rows} == hashes
        return {}
    written = {(entity.key, url) for entity in entities for url in entity.contents}
    assert {(key, url) for key, url, *_ in rows} == written
    return {(source.name, url): vector.to_numpy().astype(np.float64) for _, url, _, vector in rows}


def _require_lists(connection: Connection, matcher: Matcher, expected: list[Entity], vectors: Vectors) -> None:
    stored: dict[str, list[tuple[int, str, float]]] = defaultdict(list)
    rows = connection.execute(
        "select left_key, right_key, similarity, left_rank, right_rank "
        "from matching_pipeline.matches where matcher = %s",
        (matcher.name,),
    )
    for left, right, similarity, left_rank, right_rank in rows:
        if left_rank is not None:
            stored[left].append((left_rank, right, similarity))
        if right_rank is not None:
            stored[right].append((right_rank, left, similarity))
    found = 0
    for lefts, rights in _candidates(matcher, expected):
        scores = _scores(matcher, lefts, rights, vectors)
        place = {right.key: column for column, right in enumerate(rights)}
        for row, left in enumerate(lefts):
            kept = sorted(stored.pop(left.key, []))
            best = -np.sort(-scores[row][scores[row] >= matcher.threshold])[: matcher.top]
            assert [rank for rank, *_ in kept] == list(range(1, len(best) + 1)), left.key
            # equal scores may stand in any order
            np.testing.assert_allclose([similarity for *_, similarity in kept], best, atol=1e-6)
            np.testing.assert_allclose([scores[row][place[right]] for _, right, _ in kept], best, atol=1e-6)
            found += len(best)
    assert not stored
    assert found, f"{matcher.name} is tried with no match"


def _candidates(matcher: Matcher, expected: list[Entity]) -> list[tuple[list[Entity], list[Entity]]]:
    """Entities, and all that each of them may match."""
    if matcher.left != matcher.right:
        return [
            (
                [entity for entity in expected if entity.source == matcher.left],
                [entity for entity in expected if entity.source == matcher.right],
            )
        ]
    ((name, values),) = matcher.opposite.items()
    blocks: dict[tuple[str, ...], dict[str, list[Entity]]] = defaultdict(lambda: {value: [] for value in values})
    for entity in expected:
        if entity.properties[name] in values:
            blocks[tuple(entity.properties[same] for same in matcher.same)][entity.properties[name]].append(entity)
    pairs = [tuple(block.values()) for block in blocks.values()]
    return [(left, right) for left, right in pairs] + [(right, left) for left, right in pairs]


def _scores(matcher: Matcher, lefts: list[Entity], rights: list[Entity], vectors: Vectors) -> Any:
    """The best cosine of each two entities' contents."""
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
    return scores
