"""Users and faces whose embeddings are given, to test what follows from them."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.handlers.publishing import PublishingHandler
from matching_pipeline.matches.matching import Matching, matching_of
from matching_pipeline.matches.parity import expected_lists
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.reading import read_all
from matching_pipeline.sources.vectors import mirror_vectors
from matching_pipeline_tests.conftest import EXAMPLES

DIMENSIONS = 512
_, FACE_RULE = EXAMPLES.matchers
FACE = matching_of(FACE_RULE)

Row = tuple[UUID, UUID, float, int | None, int | None]
"""face a, face b, similarity, rank in the list of a, rank in the list of b"""


def embedding(*values: float, dimensions: int = DIMENSIONS) -> str:
    """The values, then zeros up to the dimensions of the column."""
    return str([*map(float, values), *[0.0] * (dimensions - len(values))])


class FaceHandler(MatchHandler):
    def __init__(self, queue: str = FACE_RULE.queue, matching: Matching = FACE) -> None:
        super().__init__(queue, matching, ["face"])


class School:
    """Writes the app's rows. Ids count up, so the order of creation is the order of ids."""

    def __init__(
        self, connection: Connection, database_url: str, dimensions: int = DIMENSIONS, first_id: int = 1
    ) -> None:
        self.connection = connection
        self.database_url = database_url
        self.dimensions = dimensions
        self._ids = count(first_id)

    def run(self, statement: str, *parameters: Any) -> list[Any]:
        cursor = self.connection.execute(statement.encode(), parameters)
        return [row[0] for row in cursor] if cursor.description else []

    def new_id(self) -> UUID:
        return UUID(int=next(self._ids))

    def user(self, gender: str | None = "female", school: str | None = "UIT", profile_type: str = "user") -> UUID:
        id = self.new_id()
        self.run(
            "insert into profiles (id, school, gender, profile_type) values (%s, %s, %s, %s)",
            *(id, school, gender, profile_type),
        )
        return id

    def face(self, user: UUID, vector: Sequence[float] | None = (1.0,)) -> UUID:
        id = self.new_id()
        given = None if vector is None else embedding(*vector, dimensions=self.dimensions)
        self.run("insert into faces (id, user_id, embedding) values (%s, %s, %s)", id, user, given)
        return id

    def face_of(self, gender: str, vector: Sequence[float] | None = (1.0,), school: str = "UIT") -> UUID:
        """A new user's only face."""
        return self.face(self.user(gender, school), vector)

    def process(self) -> Summary:
        self.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        return QueueWorker(self.database_url, FaceHandler()).run()

    def publish(self) -> Summary:
        """Writes the pairs that the app's table of matches could not take before."""
        self.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        return QueueWorker(self.database_url, PublishingHandler("publishing")).run()

    def pairs(self) -> set[frozenset[UUID]]:
        return {frozenset((a, b)) for a, b, *_ in self.rows()}

    def rows(self) -> list[Row]:
        return self.connection.execute(
            "select face_a_id, face_b_id, similarity, rank_for_a, rank_for_b from matches "
            "where face_a_id is not null order by face_a_id, face_b_id"
        ).fetchall()

    def jobs(self) -> list[tuple[UUID, str]]:
        return self.connection.execute("select face_id, status from match_jobs order by created_at, id").fetchall()

    def queued(self) -> set[UUID]:
        """The faces of pending jobs."""
        return {face for face, status in self.jobs() if status == "pending"}

    def all_queued(self) -> set[tuple[str, UUID]]:
        """What the pending jobs name, and of which kind that is."""
        rows = self.connection.execute("select kind, key from matching_pipeline.jobs where status = 'pending'")
        return {(kind, UUID(key)) for kind, key in rows}

    def settle(self) -> None:
        """As if the faces of all jobs were mirrored, and all jobs completed and purged."""
        keys = self.run("select distinct key from matching_pipeline.jobs where source = 'face' and kind = 'entity'")
        with self.connection.transaction():
            mirror_vectors(
                self.connection, "matches_face", "face", keys, read_all(self.connection, "face", "entity", keys)
            )
        self.run("delete from matching_pipeline.jobs")

    def mirror(self) -> tuple[set[Any], set[Any]]:
        """The faces of the mirror, and the faces that it should have."""
        mirrored = self.connection.execute(
            """select entities.key, user_key, properties ->> 'school', properties ->> 'gender', embedding::text
            from matching_pipeline.entities where source = 'face'"""
        ).fetchall()
        there = self.connection.execute(
            """select faces.id::text, user_id::text, school, gender, embedding::text
            from faces join profiles on profiles.id = user_id
            where profile_type = 'user' and vector_norm(embedding) > 0"""
        ).fetchall()
        return set(mirrored), set(there)

    def expected_rows(self) -> list[Row]:
        """By the definition, of the mirror: a pair is one row as long as either face lists the other."""
        with snapshot(self.connection):
            faces = self.run("select id from matching_pipeline.entities where source = 'face'")
            lists = expected_lists(self.connection, FACE_RULE, "face", faces)
        ranks: dict[tuple[UUID, UUID], dict[UUID, int]] = defaultdict(dict)
        scores = {}
        for face, listed in lists.items():
            for rank, entry in enumerate(listed, start=1):
                pair = (min(face, entry.right), max(face, entry.right))
                ranks[pair][face] = rank
                scores[pair] = entry.similarity
        return sorted((a, b, scores[a, b], of.get(a), of.get(b)) for (a, b), of in ranks.items())
