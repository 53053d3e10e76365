"""The law for faces: an empty queue and a rebuild both leave the lists as they are defined."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import matches
from matching_pipeline.matches import matching
from matching_pipeline.matches.writing import Figures
from matching_pipeline.sources import expansion
from matching_pipeline_tests.integration.law import Law, Vector, at, hold_law, limits, places, upheavals, vectors
from matching_pipeline_tests.integration.school import FACE, FACE_RULE, FaceHandler, Row, School, embedding

embeddings = st.one_of(vectors, st.none(), st.just((0.0,)))
genders = st.sampled_from(["male", "female", "female", "male", "other", None])
schools = st.sampled_from(["UIT", "UIT", "HUST", None])
profile_types = st.sampled_from(["user", "user", "celebrity"])


class SmallBatches(FaceHandler):
    batch_size = 2


class FaceLaw(Law):
    matcher = FACE_RULE
    sources = ("face",)

    @initialize(
        limit=limits, women=st.lists(vectors, min_size=1, max_size=5), men=st.lists(vectors, min_size=2, max_size=4)
    )
    def open_school(self, limit: int, women: list[Vector], men: list[Vector]) -> None:
        self.connection.execute("truncate profiles cascade")
        self.connection.execute("truncate matching_pipeline.jobs")
        self.connection.execute(
            "update matching_pipeline.match_settings set top = %s, threshold = 0.5 where matcher = 'face'",
            (limit,),
        )
        self.app = School(self.connection, self.database_url)
        for gender, given in (("female", women), ("male", men)):
            for vector in given:
                self.app.face_of(gender, vector)
        self.process()

    def handlers(self) -> Sequence[FaceHandler]:
        return [SmallBatches(self.matcher.queue, FACE)]

    def rebuild_lists(self, connection: Connection) -> Figures:
        return FACE.rebuild(connection)

    def rows(self) -> Sequence[Row]:
        self.publish()
        return self.app.rows()

    def expected_rows(self) -> Sequence[Row]:
        return self.app.expected_rows()

    def mirror(self) -> tuple[set[Any], set[Any]]:
        return self.app.mirror()

    @rule(gender=genders, school=schools, given=st.lists(vectors, max_size=2))
    def sign_up(self, gender: str | None, school: str | None, given: list[Vector]) -> None:
        user = self.app.user(gender, school)
        for vector in given:
            self.app.face(user, vector)

    @rule(vector=embeddings, place=places)
    def add_a_face(self, vector: Vector | None, place: int) -> None:
        if users := self.ids("profiles"):
            self.app.face(at(place, users), vector)

    @rule(vector=embeddings, place=places)
    def change_an_embedding(self, vector: Vector | None, place: int) -> None:
        if faces := self.ids("faces"):
            given = None if vector is None else embedding(*vector)
            self.change("update faces set embedding = %s where id = %s", given, at(place, faces))

    def change_a_listed_entity(self, vector: Vector, place: int) -> None:
        if rows := self.rows():
            self.change(
                "update faces set embedding = %s where id = %s", embedding(*vector), at(place, at(place, rows)[:2])
            )

    @rule(place=places, gender=genders, school=schools, profile_type=profile_types)
    def change_a_profile(self, place: int, gender: str | None, school: str | None, profile_type: str) -> None:
        if users := self.ids("profiles"):
            self.change(
                "update profiles set gender = %s, school = %s, profile_type = %s where id = %s",
                *(gender, school, profile_type, at(place, users)),
            )

    @rule(place=places)
    def give_a_face_to_another_user(self, place: int) -> None:
        if (faces := self.ids("faces")) and (users := self.ids("profiles")):
            self.change("update faces set user_id = %s where id = %s", at(place, users), at(place // 7, faces))

    @rule(place=places, table=st.sampled_from(["faces", "faces", "profiles"]))
    def delete(self, place: int, table: str) -> None:
        if ids := self.ids(table):
            self.change(f"delete from {table} where id = %s", at(place, ids))

    @rule(place=places, table=st.sampled_from(["faces", "profiles"]))
    def change_a_key(self, place: int, table: str) -> None:
        if ids := self.ids(table):
            self.change(f"update {table} set id = %s where id = %s", self.app.new_id(), at(place, ids))

    @rule(vector=embeddings, place=places, deletes=st.booleans())
    def change_a_face_unseen(self, vector: Vector | None, place: int, deletes: bool) -> None:
        if faces := self.ids("faces"):
            given = None if vector is None else embedding(*vector)
            if deletes:
                self.change_unseen("delete from faces where id = %s", at(place, faces))
            else:
                self.change_unseen("update faces set embedding = %s where id = %s", given, at(place, faces))

    @rule(
        upheaval=upheavals(
            "face",
            {"threshold": [0, 0.5, 0.9], "top": [1, 2, 4]},
            ["faces", "profiles", "matching_pipeline.matches"],
        )
    )
    def change_all(self, upheaval: str) -> None:
        self.change(upheaval)


@pytest.fixture(scope="module")
def module_database_url(new_database: Callable[..., str], migrated_template: str) -> str:
    return new_database(migrated_template)


@pytest.mark.parametrize("crowd", [2, matches.CROWD], ids=["school by school", "one by one"])
def test_face_pairs_are_as_defined_after_any_sequence_of_events(
    module_database_url: str, monkeypatch: pytest.MonkeyPatch, crowd: int
) -> None:
    monkeypatch.setattr(matches, "CROWD", crowd)
    monkeypatch.setattr(matching, "LISTS_AT_ONCE", 1)
    monkeypatch.setattr(matching, "SHARD_ENTITIES", 2)
    monkeypatch.setattr(expansion, "KEYS_AT_ONCE", 2)
    hold_law(FaceLaw, module_database_url, examples=16)
