"""Users and faces for a measurement: schools of uneven size, with look-alikes in them."""

from dataclasses import dataclass
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection
from matching_pipeline.matches.matching import matching_of
from matching_pipeline.sources.documents import load

_, FACE_RULE = load(examples.FOLDER).matchers
FACE = matching_of(FACE_RULE)
DIMENSIONS = 512
SCHOOLS = 50
GENDERS = ("female", "male")

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Upload:
    user: UUID
    vector: NDArray[np.float32]

    def insert(self, connection: Connection) -> UUID:
        face = uuid4()
        connection.execute(
            "insert into faces (id, user_id, embedding) values (%s, %s, %s)",
            (face, self.user, self.vector),
        )
        return face


class Faces:
    """Faces that score near 0, except look-alikes: about sixteen faces of a school, of both genders, are alike. A
    face scores 0.5 or more with about five of these."""

    def __init__(self, count: int, schools: int = SCHOOLS) -> None:
        self.random = np.random.default_rng(0)
        shares = self.random.lognormal(sigma=1.0, size=schools)
        self.schools = self.random.choice(schools, size=count, p=shares / shares.sum())
        self.genders = self.random.integers(2, size=count)
        self.ids = [uuid4() for _ in range(count)]
        self.vectors = np.empty((count, DIMENSIONS), np.float32)
        for school in range(schools):
            here = self.schools == school
            self.vectors[here] = self._school(int(here.sum()))

    def _school(self, size: int) -> Vectors:
        middles = self._directions(size // 16 + 1)
        return self._near(middles[self.random.integers(len(middles), size=size)], 0.3, 0.8)

    def _near(self, vectors: Vectors, least: float, most: float) -> Vectors:
        """A vector near each, whose squared cosine with it is between `least` and `most`."""
        share = self.random.uniform(least, most, size=(len(vectors), 1)).astype(np.float32)
        return (np.sqrt(share) * vectors + np.sqrt(1 - share) * self._directions(len(vectors))).astype(np.float32)

    def _directions(self, count: int) -> Vectors:
        drawn = self.random.standard_normal((count, DIMENSIONS), dtype=np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn

    def block_sizes(self) -> NDArray[np.intp]:
        """(schools, genders)"""
        sizes = np.zeros((SCHOOLS, len(GENDERS)), np.intp)
        np.add.at(sizes, (self.schools, self.genders), 1)
        return sizes

    def insert(self, connection: Connection) -> None:
        """With their mirror, as if workers had done all jobs but their matching."""
        users = [uuid4() for _ in self.ids]
        with connection.transaction(), connection.cursor() as cursor:
            with cursor.copy("copy profiles (id, school, gender) from stdin") as copy:
                for user, school, gender in zip(users, self.schools, self.genders, strict=True):
                    copy.write_row((user, f"school {school}", GENDERS[gender]))
            with cursor.copy("copy faces (id, user_id, embedding) from stdin (format binary)") as copy:
                copy.set_types(["uuid", "uuid", "vector"])
                for row in zip(self.ids, users, self.vectors, strict=True):
                    copy.write_row(row)
            mirror_faces(connection)

    def uploads(self, connection: Connection, count: int) -> list[Upload]:
        """New users, each about to upload a face very like one of the opposite gender in their school."""
        alike = self.random.choice(len(self.ids), size=count)
        vectors = self._near(self.vectors[alike], 0.8, 0.9)
        uploads = [Upload(uuid4(), vector) for vector in vectors]
        with connection.cursor() as cursor:
            cursor.executemany(
                "insert into profiles (id, school, gender) values (%s, %s, %s)",
                [
                    (upload.user, f"school {self.schools[face]}", GENDERS[1 - self.genders[face]])
                    for upload, face in zip(uploads, alike, strict=True)
                ],
            )
        return uploads


def mirror_faces(connection: Connection) -> None:
    """As workers would, of the faces that have no mirror yet."""
    statements = (
        "select set_config('matching_pipeline.skip_matching', 'on', true)",
        f"""insert into matching_pipeline.embedding_models (name, modality, dimensions, status)
        values ('face', 'vector', {DIMENSIONS}, 'active') on conflict do nothing""",
        """insert into matching_pipeline.entities (source, id, key, parent_key, user_key, properties, embedding)
        select 'face', faces.id, faces.id::text, user_id::text, user_id::text,
            jsonb_build_object('school', school, 'gender', gender), embedding
        from faces join profiles on profiles.id = user_id
        on conflict do nothing""",
    )
    with connection.transaction():
        for statement in statements:
            connection.execute(statement.encode())
