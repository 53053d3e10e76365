"""Keeps the mirror of entities whose vectors the app makes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.errors import PermanentFailure
from matching_pipeline.sources import mirror
from matching_pipeline.sources.items import parent_failure
from matching_pipeline.sources.reading import SourceRow


def vector_failures(connection: Connection, source: str, rows: Sequence[SourceRow]) -> dict[str, PermanentFailure]:
    """Why entities cannot be compared, by their keys. No reason names a key: an erasure does not reach every copy."""
    return _failures(connection, source, rows, _dimensions(connection, source))


def mirror_vectors(
    connection: Connection, queue: str, source: str, keys: Sequence[str], known: Sequence[SourceRow]
) -> list[str]:
    """Brings the entities of these keys up to date, with their vectors, in the caller's transaction.

    Returns the keys of the entities that can be compared. Our triggers enqueue nothing: those of the app gave each
    matcher a job of its own.
    """
    connection.execute(query("skip_matching"))
    lengths = [row.embedding.dimensions() for row in known if row.applies]
    dimensions = _dimensions(connection, source)
    if lengths and dimensions is None:
        dimensions = lengths[0]
        connection.execute(query("register_vector_model"), {"source": source, "dimensions": dimensions})
    applying = mirror.refresh(connection, queue, source, "entity", keys, known)
    # a row that got a bad vector since it was read has another job, which fails
    failures = _failures(connection, source, applying, dimensions)
    return [row.entity_key for row in applying if row.entity_key not in failures]


def _dimensions(connection: Connection, source: str) -> int | None:
    """None if no vector is there."""
    row = connection.execute(query("vector_dimensions"), {"source": source}).fetchone()
    return row[0] if row else None


def _failures(
    connection: Connection, source: str, rows: Sequence[SourceRow], dimensions: int | None
) -> dict[str, PermanentFailure]:
    failures: dict[str, PermanentFailure] = {}
    if not all(row.has_parent for row in rows):
        orphaned = parent_failure(connection, source)
        failures |= {row.entity_key: orphaned for row in rows if not row.has_parent}
    vectors = {row.entity_key: row.embedding.to_numpy() for row in rows if row.has_parent and row.applies}
    for key, vector in vectors.items():
        dimensions = dimensions or len(vector)
        if failure := _failure(source, vector, dimensions):
            failures[key] = failure
    return failures


def _failure(source: str, vector: Any, dimensions: int) -> PermanentFailure | None:
    if math.sqrt(float(np.dot(vector.astype(np.float64), vector.astype(np.float64)))) == 0:
        return PermanentFailure("the embedding is all zeros: it has no direction to compare")
    if len(vector) != dimensions:
        return PermanentFailure(
            f"the embedding has {len(vector)} dimensions, the others of the source {source} have {dimensions}"
        )
    return None
