"""Vectors and attributes of all images, streamed out of Postgres by binary COPY."""

import json
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.face_sets import COARSE_ERROR
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.settings import Settings

# PostgreSQL's documentation, "COPY", Binary Format: a signature, flags and extension length; then a row as a
# field count and, for each field, its length and its bytes. pgvector sends a vector as its dimensions (int16),
# an unused int16 and big-endian float32s.
_HEADER_BYTES = 19
_OWNER = slice(6, 22)
_IMAGE = slice(26, 42)
_VECTOR_LENGTH = slice(42, 46)
_VECTOR_START = 46
_TRAILER = b"\xff\xff"


FEW_SOUGHT = 20
"""For so few images it is Postgres that looks: what it leaves out need not travel, which costs more than a score."""


def load_image_set(
    connection: Connection,
    source: str,
    model: str,
    owner_ids: Collection[UUID] | None = None,
    *,
    first: UUID | None = None,
    before: UUID | None = None,
) -> ImageSet:
    """The images of one source that the model has analysed, of all owners, of those named, or of those from `first`
    on and before `before`."""
    named = None if owner_ids is None else list(owner_ids)
    parameters = {"source": source, "model": model, "owner_ids": named, "first": first, "before": before}
    images = _Images()
    for row in _rows(connection, "copy_image_set", parameters):
        images.add(row)
    return images.image_set()


def stream_image_sets(connection: Connection, source: str, model: str) -> Iterator[ImageSet]:
    """The images of all owners in parts of MATCH_PART_IMAGES, so that memory is bounded; by ascending owner, and with
    a whole owner's more at most. Nothing else may use the session until they end."""
    parameters = {"source": source, "model": model, "owner_ids": None, "first": None, "before": None}
    return _parts(_rows(connection, "copy_image_set", parameters))


def stream_projects_near(connection: Connection, model: str, sought: ImageSet, policy: Policy) -> Iterator[ImageSet]:
    """Those of all projects' images that may score, with one of the images sought, what their list takes: all that
    do, and some that almost do. In parts likewise."""
    parameters = {
        "model": model,
        "directions": list(sought.unit(slice(None)).astype(np.float32)),
        "weight": policy.attribute_weight,
        # what their words may add to a score, and the rounding of their cosine
        "others": policy.attribute_weight + COARSE_ERROR,
        "threshold": policy.threshold,
        "limit": policy.limit,
    }
    return _parts(_rows(connection, "copy_projects_near", parameters))


def _parts(rows: Iterator[bytes]) -> Iterator[ImageSet]:
    part_images = Settings().match_part_images
    images = _Images()
    for row in rows:
        if len(images.tokens) >= part_images and images.owners[-16:] != row[_OWNER]:
            yield images.image_set()
            images = _Images()
        images.add(row)
    yield images.image_set()


def _rows(connection: Connection, name: str, parameters: Mapping[str, Any]) -> Iterator[bytes]:
    with connection.cursor() as cursor, cursor.copy(query(name), parameters) as copy:
        for number, data in enumerate(copy):
            row = bytes(data)[_HEADER_BYTES if number == 0 else 0 :]
            if row[:2] != _TRAILER:
                yield row


class _Images:
    """Rows as they come, each appended to its column."""

    def __init__(self) -> None:
        self.owners, self.image_ids, self.vectors = bytearray(), bytearray(), bytearray()
        self.tokens: list[frozenset[str]] = []

    def add(self, row: bytes) -> None:
        vector_end = _VECTOR_START + int.from_bytes(row[_VECTOR_LENGTH])
        self.owners += row[_OWNER]
        self.image_ids += row[_IMAGE]
        self.vectors += row[_VECTOR_START + 4 : vector_end]
        self.tokens.append(_tokens(row[vector_end + 4 :]))

    def image_set(self) -> ImageSet:
        embeddings = np.frombuffer(self.vectors, dtype=">f4").astype(np.float32)
        return image_set(
            np.frombuffer(self.owners, dtype="S16"),
            np.frombuffer(self.image_ids, dtype="S16"),
            embeddings.reshape(len(self.tokens), -1) if self.tokens else np.empty((0, 0), np.float32),
            self.tokens,
        )


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))
