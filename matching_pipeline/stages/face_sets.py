"""The faces of one block, streamed out of Postgres by binary COPY."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, overload
from uuid import UUID

import numpy as np

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.matching.images import ImageSet

# PostgreSQL's documentation, "COPY", Binary Format, as in `image_sets`: all rows are of one length here.
_HEADER_BYTES = 19
_TRAILER_BYTES = 2


class Block(NamedTuple):
    """Where a face stands: it matches faces of the same school and the opposite gender."""

    school: str
    gender: str

    @property
    def opposite(self) -> "Block":
        return Block(self.school, "female" if self.gender == "male" else "male")


class Ids(Sequence[UUID]):
    """Ids as they came, made into UUIDs when looked at: of a large block few are."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // 16

    @overload
    def __getitem__(self, index: int) -> UUID: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[UUID]: ...
    def __getitem__(self, index: int | slice) -> UUID | Sequence[UUID]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        start = 16 * (index % len(self))
        return UUID(bytes=self._data[start : start + 16])


def load_faces(connection: Connection, block: Block, face_ids: Collection[UUID] | None = None) -> ImageSet:
    """The block's faces, all or those named, each its own owner; one whose embedding is all zeros is left out."""
    parameters = {**block._asdict(), "face_ids": None if face_ids is None else list(face_ids)}
    with connection.cursor() as cursor, cursor.copy(query("copy_faces"), parameters) as copy:
        data = b"".join(copy)[_HEADER_BYTES:-_TRAILER_BYTES]
    if not data:
        return _face_set(Ids(b""), np.empty((0, 0), np.float32))
    dimensions = int.from_bytes(data[26:28])
    row = np.dtype(
        [("head", "V6"), ("id", "V16"), ("vector_head", "V8"), ("vector", ">f4", (dimensions,))], align=False
    )
    rows = np.frombuffer(data, dtype=row)
    vectors = rows["vector"].astype(np.float32)
    with_direction = vectors.any(axis=1)
    return _face_set(Ids(rows["id"][with_direction].tobytes()), vectors[with_direction])


def _face_set(ids: Ids, vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> ImageSet:
    return ImageSet(
        owners=ids,
        starts=np.arange(len(ids), dtype=np.intp),
        image_ids=ids,
        embeddings=vectors,
        tokens=[frozenset()] * len(ids),
    )
