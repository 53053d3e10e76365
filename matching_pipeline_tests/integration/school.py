"""Users and faces whose embeddings are given, to test what follows from them."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import count
from typing import Any
from uuid import UUID

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.transactions import snapshot
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.matches.parity import expected_lists
from matching_pipeline.queues.worker import Summary, Worker

DIMENSIONS = 512

Row = tuple[UUID, UUID, float, int | None, int | None]
"""face a, face b, similarity, rank in the list of a, rank in the list of b"""


def embedding(*values: float, dimensions: int = DIMENSIONS) -> str:
    """The values, then zeros up to the dimensions of the column."""
    return str([*map(float, values), *[0.0] * (dimensions - len(values))])


class School:
    """Writes the app's rows. Ids count up, so the order of creation is the order of ids."""

    def __init__(self, connection: Connection, database_url: str, dimensions: int = DIMENSIONS) -> None:
        self.connection = connection
        self.database_url = database_url
        self.dimensions = dimensions
        self._ids = count(1)

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
        self.run("update job_queue set run_at = now() where status = 'pending'")
        return Worker(self.database_url, FaceHandler()).run()

    def pairs(self) -> set[frozenset[UUID]]:
        return {frozenset((a, b)) for a, b, *_ in self.rows()}

    def rows(self) -> list[Row]:
        return self.connection.execute(
            "select face_a_id, face_b_id, similarity, rank_for_a, rank_for_b from matches where kind = 'face' "
            "order by face_a_id, face_b_id"
        ).fetchall()

    def jobs(self) -> list[tuple[UUID, str]]:
        return self.connection.execute("select face_id, status from match_jobs order by created_at, id").fetchall()

    def queued(self) -> set[UUID]:
        """The faces of pending jobs."""
        return {face for face, status in self.jobs() if status == "pending"}

    def settle(self) -> None:
        """As if all jobs were completed and purged."""
        self.run("delete from job_queue")

    def expected_rows(self) -> list[Row]:
        """By the definition: a pair is one row as long as either face lists the other."""
        with snapshot(self.connection):
            lists = expected_lists(self.connection, "face", self.run("select id from faces"))
        ranks: dict[tuple[UUID, UUID], dict[UUID, int]] = defaultdict(dict)
        scores = {}
        for face, listed in lists.items():
            for rank, entry in enumerate(listed, start=1):
                pair = (min(face, entry.right), max(face, entry.right))
                ranks[pair][face] = rank
                scores[pair] = entry.similarity
        return sorted((a, b, scores[a, b], of.get(a), of.get(b)) for (a, b), of in ranks.items())
