"""Embedded items of a source as image sets. Of a source with vectors each entity is its own item."""

import json
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np
from psycopg.types.json import Jsonb

from matching_pipeline.db import arrays
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import VECTOR, ColumnsByName, read_columns, read_parts
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.match_table import Sides

PART_IMAGES = 100_000
"""Images in a part, where the caller does not give the setting MATCH_PART_IMAGES."""
FEW_SOUGHT = 20
"""For up to this number of images Postgres computes which others are near. To send one costs more than its score."""
COARSE_ERROR = 0.002
"""Bounds the error of a float32 inner product of two normalised vectors. The sum's error is n · 2⁻²⁴, below 0.001 for
the 16,000 dimensions that pgvector allows; a few units in the last place come on top."""

_FIELDS = {"entity_of_row": arrays.UUID, "image_ids": arrays.UUID, "embeddings": VECTOR}
"""The attributes come last, as text."""

LEAST_LENGTH, GREATEST_LENGTH = 1e-15, 1e15
"""Vectors of other lengths are scaled: their squares vanish or overflow in float32."""


Block = Mapping[str, str]
"""The properties that all entities of a block have, by name."""


def load_image_set(
    connection: Connection,
    source: str,
    model: str,
    entity_ids: Collection[UUID] | None = None,
    *,
    first: UUID | None = None,
    before: UUID | None = None,
) -> ImageSet:
    """The images of one source that the model has analysed: of all entities, of those named, or of those from `first`
    on and before `before`."""
    named = None if entity_ids is None else list(entity_ids)
    parameters = {"source": source, "model": model, "entity_ids": named, "first": first, "before": before}
    (part,) = read_parts(connection, query("copy_image_set"), parameters, _FIELDS)
    return _image_set(*part)


def stream_image_sets(connection: Connection, source: str, model: str, part_images: int) -> Iterator[ImageSet]:
    """The images of all entities in parts of `part_images` and the rest of the last entity, by ascending entity.

    The caller uses the session for nothing else until they end.
    """
    parameters = {"source": source, "model": model, "entity_ids": None, "first": None, "before": None}
    for part in read_parts(connection, query("copy_image_set"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def stream_left_near(
    connection: Connection, sides: Sides, model: str, sought: ImageSet, policy: Policy, part_images: int
) -> Iterator[ImageSet]:
    """In such parts, the images of left entities whose lists may take a pair with one of the images sought.

    None of these is left out. Some others are included, as Postgres does not compute exact scores.
    """
    parameters = {
        "matcher": sides.matcher,
        "source": sides.left,
        "model": model,
        "directions": list(sought.unit(slice(None)).astype(np.float32)),
        "weight": policy.attribute_weight,
        # the most that attributes and the rounding of the cosine add to a score
        "others": policy.attribute_weight + COARSE_ERROR,
        "threshold": policy.threshold,
        "limit": policy.limit,
    }
    for part in read_parts(connection, query("copy_left_near"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def load_block(connection: Connection, source: str, block: Block, ids: Collection[UUID] | None = None) -> ImageSet:
    """All entities of the block, or those named."""
    named = None if ids is None else list(ids)
    return _vector_set(connection, query("copy_block"), {"source": source, "block": Jsonb(block), "ids": named})


def load_candidates(
    connection: Connection, source: str, block: Block, sought: ImageSet, threshold: float
) -> ImageSet:
    """All entities of the block that reach the threshold with one of those sought, and some others."""
    if len(sought.image_ids) > FEW_SOUGHT:
        return load_block(connection, source, block)
    directions = list(sought.unit(slice(None)).astype(np.float32))
    parameters = {
        "source": source,
        "block": Jsonb(block),
        "directions": directions,
        "least": threshold - COARSE_ERROR,
    }
    return _vector_set(connection, query("copy_block_near"), parameters)


def _image_set(columns: ColumnsByName, attributes: list[bytes]) -> ImageSet:
    return image_set(**columns, tokens=[_tokens(text) for text in attributes])


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))


def _vector_set(connection: Connection, statement: bytes, parameters: Mapping[str, Any]) -> ImageSet:
    ids, vectors = read_columns(connection, statement, parameters, {"id": arrays.UUID, "embedding": VECTOR}).values()
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    extreme = (lengths < LEAST_LENGTH) | (lengths > GREATEST_LENGTH)
    # by a power of two, which changes no direction
    vectors[extreme] = np.ldexp(vectors[extreme], -np.frexp(lengths[extreme])[1][:, None])
    with_direction = lengths > 0
    return image_set(ids[with_direction], ids[with_direction], vectors[with_direction])
