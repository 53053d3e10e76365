"""Vectors and attributes of all images, streamed out of Postgres by binary COPY."""

import json
from collections.abc import Collection
from functools import lru_cache
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matching.images import ImageSet, attribute_tokens, image_set

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
    rows: list[tuple[UUID, UUID]] = []
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
            rows.append((UUID(bytes=row[_OWNER]), UUID(bytes=row[_IMAGE])))
            vectors += row[_VECTOR_START + 4 : vector_end]
            tokens.append(_tokens(row[vector_end + 4 :]))
    embeddings = np.frombuffer(vectors, dtype=">f4").astype(np.float32)
    return image_set(rows, embeddings.reshape(len(rows), -1) if rows else np.empty((0, 0), np.float32), tokens)


@lru_cache(maxsize=100_000)
def _tokens(attributes: bytes) -> frozenset[str]:
    return attribute_tokens(json.loads(attributes))
