"""Images of projects and products out of `image_ai`, with their vectors and attributes."""

import json
from collections.abc import Collection, Iterator
from functools import lru_cache
from uuid import UUID

import numpy as np

from matching_pipeline.db import arrays
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import VECTOR, ColumnsByName, read_parts
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.match_table import COARSE_ERROR

PART_IMAGES = 100_000
"""Images in a part, where the caller does not give the setting MATCH_PART_IMAGES."""

_FIELDS = {"entity_of_row": arrays.UUID, "image_ids": arrays.UUID, "embeddings": VECTOR}
"""The attributes come last, as text."""


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
    """The images of all entities in parts of `part_images` and what is left of the last entity, by ascending entity.

    The caller uses the session for nothing else until they end.
    """
    parameters = {"source": source, "model": model, "entity_ids": None, "first": None, "before": None}
    for part in read_parts(connection, query("copy_image_set"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def stream_projects_near(
    connection: Connection, model: str, sought: ImageSet, policy: Policy, part_images: int
) -> Iterator[ImageSet]:
    """In parts likewise, those of all projects' images that may score with one of the images sought what their list
    takes. They are all that do, and some that almost do."""
    parameters = {
        "model": model,
        "directions": list(sought.unit(slice(None)).astype(np.float32)),
        "weight": policy.attribute_weight,
        # the most that attributes and the rounding of the cosine add to a score
        "others": policy.attribute_weight + COARSE_ERROR,
        "threshold": policy.threshold,
        "limit": policy.limit,
    }
    for part in read_parts(connection, query("copy_projects_near"), parameters, _FIELDS, part_images):
        yield _image_set(*part)


def _image_set(columns: ColumnsByName, attributes: list[bytes]) -> ImageSet:
    return image_set(**columns, tokens=[_tokens(text) for text in attributes])


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))
