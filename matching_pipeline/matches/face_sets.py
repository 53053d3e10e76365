"""The faces of one block. A face is an entity and its only image."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import numpy as np

from matching_pipeline.db import arrays
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.db.reader import VECTOR, read_columns
from matching_pipeline.matches.kernel.images import ImageSet, image_set
from matching_pipeline.matches.match_table import COARSE_ERROR, FEW_SOUGHT

LEAST_LENGTH, GREATEST_LENGTH = 1e-15, 1e15
"""Vectors of other lengths are scaled: their squares vanish or overflow in float32."""


class Block(NamedTuple):
    """A face matches faces of the same school and the opposite gender."""

    school: str
    gender: str

    @property
    def opposite(self) -> "Block":
        return Block(self.school, "female" if self.gender == "male" else "male")


def load_faces(connection: Connection, block: Block, face_ids: Collection[UUID] | None = None) -> ImageSet:
    """All faces of the block, or those named. It leaves out embeddings of zeros, which have no direction."""
    if face_ids is None:
        return _read(connection, query("copy_block"), block._asdict())
    return _read(connection, query("copy_faces"), {**block._asdict(), "face_ids": list(face_ids)})


def load_candidates(connection: Connection, block: Block, sought: ImageSet, threshold: float) -> ImageSet:
    """The faces of the block that may reach the threshold with one of those sought: all that do, and some others."""
    if len(sought.image_ids) > FEW_SOUGHT:
        return load_faces(connection, block)
    directions = list(sought.unit(slice(None)).astype(np.float32))
    parameters = {**block._asdict(), "directions": directions, "least": threshold - COARSE_ERROR}
    return _read(connection, query("copy_faces_near"), parameters)


def _read(connection: Connection, statement: bytes, parameters: Mapping[str, Any]) -> ImageSet:
    ids, vectors = read_columns(connection, statement, parameters, {"id": arrays.UUID, "embedding": VECTOR}).values()
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    extreme = (lengths < LEAST_LENGTH) | (lengths > GREATEST_LENGTH)
    # by a power of two, which changes no direction
    vectors[extreme] = np.ldexp(vectors[extreme], -np.frexp(lengths[extreme])[1][:, None])
    with_direction = lengths > 0
    return image_set(ids[with_direction], ids[with_direction], vectors[with_direction])
