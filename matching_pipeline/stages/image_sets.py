"""Vectors and attributes of all images, streamed out of Postgres by binary COPY."""

import json
from collections.abc import Collection
from functools import lru_cache
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matching.attributes import attribute_tokens
from matching_pipeline.matching.images import ImageSet, image_set

# PostgreSQL's documentation, "COPY", Binary Format: a signature, flags and extension length; then a row as a
# field count and, for each field, its length and its bytes. pgvector sends a vector as its dimensions (int16),
# an unused int16 and big-endian float32s.
_HEADER_BYTES = 19
_OWNER = slice(6, 22)
_IMAGE = slice(26, 42)
_VECTOR_LENGTH = slice(42, 46)
_VECTOR_START = 46
_TRAILER = b"\xff\xff"


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
    owners, image_ids = bytearray(), bytearray()
    vectors = bytearray()
    tokens: list[frozenset[str]] = []
    parameters = {
        "source": source,
        "model": model,
        "owner_ids": None if owner_ids is None else list(owner_ids),
        "first": first,
        "before": before,
    }
    with connection.cursor() as cursor, cursor.copy(query("copy_image_set"), parameters) as copy:
        for number, data in enumerate(copy):
            row = bytes(data)[_HEADER_BYTES if number == 0 else 0 :]
            if row[:2] == _TRAILER:
                continue
            vector_end = _VECTOR_START + int.from_bytes(row[_VECTOR_LENGTH])
            owners += row[_OWNER]
            image_ids += row[_IMAGE]
            vectors += row[_VECTOR_START + 4 : vector_end]
            tokens.append(_tokens(row[vector_end + 4 :]))
    embeddings = np.frombuffer(vectors, dtype=">f4").astype(np.float32)
    return image_set(
        np.frombuffer(owners, dtype="S16"),
        np.frombuffer(image_ids, dtype="S16"),
        embeddings.reshape(len(tokens), -1) if tokens else np.empty((0, 0), np.float32),
        tokens,
    )


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))
