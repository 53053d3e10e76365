"""The law for faces: after the queue is drained, incremental maintenance and a rebuild give the same rows."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.drain import Drain
from matching_pipeline.stages.faces import FaceStage, rebuild
from matching_pipeline_tests.integration.school import School, embedding

Vector = tuple[float, ...]

# few directions, so that ties, equal faces and scores at the threshold are common
vectors = st.sampled_from([(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.2, 0.1), (0.9, 0.2, 0.3)])
genders = st.sampled_from(["male", "female", "female", "male", "other", None])
schools = st.sampled_from(["UIT", "UIT", "HUST", None])
profile_types = st.sampled_from(["user", "user", "celebrity"])
pick = st.randoms(use_true_random=False)


class SmallBatches(FaceStage):
    """So that changes arrive between the batches of one drain's work."""

    batch_size = 3


class FaceLaw(RuleBasedStateMachine):
    connection: Connection
    database_url: str

    @initialize(limit=st.integers(1, 3), women=st.lists(vectors, max_size=5), men=st.lists(vectors, max_size=4))
    def open_school(self, limit: int, women: list[Vector], men: list[Vector]) -> None:
        self.connection.execute("truncate profiles cascade")
        self.connection.execute("truncate job_queue")
        self.connection.execute(
            "update match_settings set match_limit = %s, threshold = 0.5 where kind = 'face'", (limit,)
        )
        self.school = School(self.connection, self.database_url)
        for gender, given in (("female", women), ("male", men)):
            for vector in given:
                self.school.face_of(gender, vector)
        self.drain_holds_the_law(drains=1)

    @rule(gender=genders, school=schools, given=st.lists(vectors, max_size=2))
    def sign_up(self, gender: str | None, school: str | None, given: list[Vector]) -> None:
        user = self.school.user(gender, school)
        for vector in given:
            self.school.face(user, vector)

    @rule(vector=st.one_of(vectors, st.none(), st.just((0.0,))), chance=pick)
    def add_a_face(self, vector: Vector | None, chance: random.Random) -> None:
        if users := self._ids("profiles"):
            self.school.face(chance.choice(users), vector)

    @rule(vector=st.one_of(vectors, st.none(), st.just((0.0,))), chance=pick)
    def change_an_embedding(self, vector: Vector | None, chance: random.Random) -> None:
        if faces := self._ids("faces"):
            given = None if vector is None else embedding(*vector)
            self.school.run("update faces set embedding = %s where id = %s", given, chance.choice(faces))

    @rule(chance=pick, gender=genders, school=schools, profile_type=profile_types)
    def change_a_profile(
        self, chance: random.Random, gender: str | None, school: str | None, profile_type: str
    ) -> None:
        if users := self._ids("profiles"):
            self.school.run(
                "update profiles set gender = %s, school = %s, profile_type = %s where id = %s",
                *(gender, school, profile_type, chance.choice(users)),
            )

    @rule(chance=pick)
    def give_a_face_to_somebody_else(self, chance: random.Random) -> None:
        if (faces := self._ids("faces")) and (users := self._ids("profiles")):
            self.school.run("update faces set user_id = %s where id = %s", chance.choice(users), chance.choice(faces))

    @rule(chance=pick, table=st.sampled_from(["faces", "faces", "profiles", "matches"]))
    def delete(self, chance: random.Random, table: str) -> None:
        if ids := self._ids(table):
            self.school.run(f"delete from {table} where id = %s", chance.choice(ids))

    @rule(chance=pick, table=st.sampled_from(["faces", "profiles"]))
    def change_a_key(self, chance: random.Random, table: str) -> None:
        if ids := self._ids(table):
            self.school.run(f"update {table} set id = %s where id = %s", self.school.new_id(), chance.choice(ids))

    @rule(table=st.sampled_from(["faces", "profiles", "matches"]))
    def truncate(self, table: str) -> None:
        self.school.run(f"truncate {table} cascade")

    @rule(threshold=st.sampled_from([0.0, 0.5, 0.9]), limit=st.integers(1, 4))
    def change_settings(self, threshold: float, limit: int) -> None:
        self.school.run(
            "update match_settings set threshold = %s, match_limit = %s where kind = 'face'", threshold, limit
        )

    @rule()
    def rebuild(self) -> None:
        rebuild(self.connection)

    @rule(drains=st.integers(1, 2))
    def drain_holds_the_law(self, drains: int) -> None:
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(Drain(self.database_url, SmallBatches()).run) for _ in range(drains)]:
                done.result()
        # whoever gave way to the other gave its items back for a few seconds
        self.school.drain()
        drained = self.school.rows()
        assert drained == self.school.expected_rows()
        figures = rebuild(self.connection)
        assert (figures.added, figures.changed, figures.removed) == (0, 0, 0)
        assert self.school.rows() == drained

    def teardown(self) -> None:
        if hasattr(self, "school"):
            self.drain_holds_the_law(drains=1)

    def _ids(self, table: str) -> list[UUID]:
        # ids of matches are random, and a run must be the same when it is repeated
        order = "face_a_id, face_b_id" if table == "matches" else "id"
        return self.school.run(f"select id from {table} order by {order}")


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


def test_drained_and_rebuilt_face_pairs_are_those_that_the_definition_gives(module_database_url: str) -> None:
    with connect(module_database_url) as connection:

        class Machine(FaceLaw):
            pass

        Machine.connection = connection
        Machine.database_url = module_database_url
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=40,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
