"""The faces of one block, streamed out of Postgres by binary COPY."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matches.kernel.columns import Ids
from matching_pipeline.matches.kernel.images import ImageSet

# PostgreSQL's documentation, "COPY", Binary Format, as in `image_sets`: all rows are of one length here.
_HEADER_BYTES = 19
_TRAILER_BYTES = 2

LEAST_LENGTH, GREATEST_LENGTH = 1e-15, 1e15
"""Of an embedding that is taken as it is: the squares of others vanish or overflow in float32."""
FEW_SEEKERS = 20
COARSE_ERROR = 0.002
"""Above that of a float32 inner product of two normalised vectors: n · 2⁻²⁴ for the summation, below 0.001 for the
16,000 dimensions that pgvector allows, and a few units in the last place."""


class Block(NamedTuple):
    """Where a face stands: it matches faces of the same school and the opposite gender."""

    school: str
    gender: str

    @property
    def opposite(self) -> "Block":
        return Block(self.school, "female" if self.gender == "male" else "male")


def load_faces(connection: Connection, block: Block, face_ids: Collection[UUID] | None = None) -> ImageSet:
    """The block's faces, all or those named, each its own owner; one whose embedding has no direction is left out."""
    if face_ids is None:
        return _copied(connection, "copy_block", block._asdict())
    return _copied(connection, "copy_faces", {**block._asdict(), "face_ids": list(face_ids)})


def load_candidates(connection: Connection, block: Block, seekers: ImageSet, threshold: float) -> ImageSet:
    """Those of the block's faces that may reach the threshold with one of the seekers: all who do, and some who
    almost do.

    For few seekers Postgres looks: a face that it leaves out need not travel, which costs more than its score.
    """
    if len(seekers.image_ids) > FEW_SEEKERS:
        return load_faces(connection, block)
    directions = seekers.unit(slice(None))
    parameters = {
        **block._asdict(),
        "directions": list(directions.astype(np.float32)),
        "least": threshold - COARSE_ERROR,
    }
    return _copied(connection, "copy_faces_near", parameters)


def _copied(connection: Connection, name: str, parameters: Mapping[str, Any]) -> ImageSet:
    with connection.cursor() as cursor, cursor.copy(query(name), parameters) as copy:
        data = b"".join(copy)[_HEADER_BYTES:-_TRAILER_BYTES]
    if not data:
        return _face_set(np.empty(0, "S16"), np.empty((0, 0), np.float32))
    dimensions = int.from_bytes(data[26:28])
    row = np.dtype(
        [("head", "V6"), ("id", "V16"), ("vector_head", "V8"), ("vector", ">f4", (dimensions,))], align=False
    )
    rows = np.frombuffer(data, dtype=row)
    vectors = rows["vector"].astype(np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    extreme = (lengths < LEAST_LENGTH) | (lengths > GREATEST_LENGTH)
    # by a power of two, which changes no direction
    vectors[extreme] = np.ldexp(vectors[extreme], -np.frexp(lengths[extreme])[1][:, None])
    with_direction = lengths > 0
    return _face_set(rows["id"][with_direction].view("S16"), vectors[with_direction])


def _face_set(ids: Ids, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> ImageSet:
    return ImageSet(
        entities=ids,
        starts=np.arange(len(ids), dtype=np.intp),
        image_ids=ids,
        embeddings=vectors,
        tokens=[frozenset()] * len(ids),
    )
