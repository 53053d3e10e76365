"""Bad input: the database refuses some of it, a job fails at once for some, and some matches no face."""

from typing import Any
from uuid import UUID

import psycopg
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import matches
from matching_pipeline.matches.matching import Matching
from matching_pipeline.matches.rebuilds import Part
from matching_pipeline.matches.writing import Figures
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.sources.attach import attach
from matching_pipeline.sources.declarations import Declarations, Matches
from matching_pipeline.sources.reading import read_all
from matching_pipeline.sources.vectors import mirror_vectors
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.school import DIMENSIONS, FACE, FACE_RULE, FaceHandler, School, embedding

BAD_VECTORS = {
    "not a number": embedding(1, float("nan")),
    "infinite": embedding(1, float("inf")),
    "minus infinite": embedding(float("-inf")),
    "too short": str([1.0] * (DIMENSIONS - 1)),
    "too long": str([1.0] * (DIMENSIONS + 1)),
    "empty": "[]",
}
bad_vector = pytest.mark.parametrize("vector", BAD_VECTORS.values(), ids=BAD_VECTORS)
SEARCH = "select face_id from find_similar_faces_filtered(%s::vector, 'UIT', 'male', 0.0)"
ALWAYS_REFUSES = """
create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no %', new; end $$;
create trigger refuse before insert or update on matching_pipeline.matches for each row execute function refuse();
"""


def failures(school: School) -> list[tuple[UUID, int, str]]:
    return school.connection.execute(
        "select face_id, attempts, error_message from match_jobs where status = 'failed'"
    ).fetchall()


@bad_vector
def test_a_bad_vector_is_refused_with_its_whole_statement(school: School, vector: str) -> None:
    him = school.face_of("male")
    user = school.user()
    school.settle()
    with pytest.raises(psycopg.errors.DataException):
        school.run(
            "insert into faces (user_id, embedding) values (%s, %s), (%s, %s)",
            *(user, embedding(1), user, vector),
        )
    with pytest.raises(psycopg.errors.DataException):
        school.run("update faces set embedding = %s where id = %s", vector, him)
    assert (len(school.run("select id from faces")), school.jobs()) == (1, [])


@bad_vector
def test_a_search_by_a_bad_vector_is_an_error(school: School, vector: str) -> None:
    school.face_of("female")
    with pytest.raises(psycopg.errors.DataException):
        school.run(SEARCH, vector)


@pytest.mark.parametrize("vector", ["not a number", "infinite", "minus infinite", "empty"])
def test_a_job_with_a_bad_vector_is_refused(school: School, vector: str) -> None:
    face = school.face_of("female")
    school.settle()
    insert = "insert into match_jobs (face_id, user_id, embedding) select id, user_id, %s from faces"
    with pytest.raises(psycopg.errors.DataException):
        school.run(insert, BAD_VECTORS[vector])
    assert school.jobs() == []
    assert face not in school.queued()


def test_the_vector_of_a_job_is_the_one_of_its_face(school: School) -> None:
    him, her = school.face_of("male"), school.face_of("female", (1, 0.1))
    school.settle()
    school.run(
        "insert into match_jobs (face_id, user_id, embedding) select id, user_id, %s from faces", embedding(0, 1)
    )
    assert school.queued() == {him, her}
    school.process()
    ((*faces, similarity, _, _),) = school.rows()
    assert faces == [him, her]
    assert similarity == pytest.approx(1 / 1.01**0.5)


def test_a_vector_of_zeros_fails_at_once_with_the_reason_and_harms_no_other_face(school: School) -> None:
    him, her, zeros = school.face_of("male"), school.face_of("female"), school.face_of("female", (0,))
    school.process()
    assert school.pairs() == {frozenset((him, her))}
    ((face, attempts, reason),) = failures(school)
    assert (face, attempts) == (zeros, 1)
    assert "zeros" in reason
    assert school.run(SEARCH, embedding(1)) == [her]


def test_a_search_by_a_vector_of_zeros_finds_no_face(school: School) -> None:
    school.face_of("female")
    school.face_of("female", (0,))
    for threshold in (-1.0, 0.0, 0.5):
        assert school.run(SEARCH.replace("0.0", "%s"), embedding(0), threshold) == []


def test_a_matched_face_whose_new_vector_is_zeros_loses_its_pairs_and_fails_once(school: School) -> None:
    him, her = school.face_of("male"), school.face_of("female")
    school.process()
    school.run("update faces set embedding = %s where id = %s", embedding(0), her)
    school.process()
    assert school.rows() == []
    assert [(face, attempts) for face, attempts, _ in failures(school)] == [(her, 1)]
    assert him in {face for face, status in school.jobs() if status == "completed"}


def test_a_vector_that_became_zeros_since_it_was_read_is_not_mirrored(school: School) -> None:
    """The face has another job, which fails."""
    faces = [str(school.face_of(gender)) for gender in ("male", "female")]
    known = read_all(school.connection, "face", "entity", faces)
    school.run("update faces set embedding = %s where id = %s", embedding(0), faces[1])
    with school.connection.transaction():
        comparable = mirror_vectors(school.connection, "matches_face", "face", faces, known)
    assert comparable == faces[:1]
    assert school.run("select entity_key from matching_pipeline.embedded_items where source = 'face'") == faces[:1]


@pytest.mark.parametrize("length", [1e-42, 1e-30, 1e30])
def test_a_very_short_or_long_vector_takes_no_other_face_out_of_a_list(school: School, length: float) -> None:
    him = school.face_of("male", (1,))
    others = [school.face_of("female", (1, place / 25)) for place in range(25)]
    school.face_of("female", (length, length))
    school.process()
    listed = [b for a, b, _, rank, _ in sorted(school.rows(), key=lambda row: row[3] or 99) if a == him and rank]
    assert listed == others[:20]


@pytest.mark.parametrize("length", [1e-42, 1e-30, 1e30])
@pytest.mark.parametrize("first", ["male", "female"])
def test_a_very_short_or_long_vector_matches_by_its_direction(school: School, length: float, first: str) -> None:
    for gender in ("male", "female") if first == "male" else ("female", "male"):
        vectors = [(1.0,)] if gender == "male" else [(length, length), (length, 3 * length), (1.0, 0.1)]
        for vector in vectors:
            school.face_of(gender, vector)
            school.process()
    assert [round(similarity, 3) for _, _, similarity, *_ in school.rows()] == [0.707, 0.995]
    assert school.rows() == school.expected_rows()


@pytest.mark.parametrize("length", [1e-42, 1e-30, 1e30])
def test_a_search_finds_a_very_short_or_long_vector_by_its_direction(school: School, length: float) -> None:
    short_or_long, her = school.face_of("female", (length, length)), school.face_of("female", (1, 0.1))
    school.face_of("female", (length, 3 * length))
    assert school.run(SEARCH.replace("0.0", "0.5"), embedding(1)) == [her, short_or_long]


@pytest.mark.parametrize(
    ("gender", "place"),
    [(None, "UIT"), ("female", None), (None, None), ("other", "UIT"), ("Female", "UIT"), ("", "UIT"), ("f", "UIT")],
)
def test_a_user_without_school_or_known_gender_matches_no_face_without_failure(
    school: School, gender: str | None, place: str | None
) -> None:
    school.face_of("male")
    odd = school.face(school.user(gender, place))
    school.process()
    assert school.rows() == []
    assert (odd, "completed") in school.jobs()
    assert failures(school) == []
    assert (FACE.rebuild(school.connection).added, school.rows()) == (0, [])
    arguments = (embedding(1), place, gender)
    assert school.run("select face_id from find_similar_faces_filtered(%s::vector, %s, %s)", *arguments) == []


def test_two_users_without_a_school_are_not_of_the_same_school(school: School) -> None:
    for gender in ("male", "female"):
        school.face(school.user(gender, None))
    school.process()
    assert school.rows() == []


def test_a_face_whose_user_has_no_profile_fails_at_once(school: School) -> None:
    him, her = school.face_of("male"), school.face_of("female")
    school.process()
    school.run("alter table faces drop constraint faces_user_id_fkey")
    school.run("delete from profiles where gender = 'female'")
    school.process()
    ((face, attempts, reason),) = failures(school)
    assert (face, attempts) == (her, 1)
    assert reason.lower().startswith("profile not found")
    assert school.rows() == []
    assert him not in {face for face, *_ in failures(school)}


def test_a_user_with_500_faces_never_matches_their_own(school: School) -> None:
    user = school.user("female")
    school.run(
        "insert into faces (user_id, embedding) select %s, %s::vector from generate_series(1, 500)",
        *(user, embedding(1)),
    )
    hers = sorted(school.run("select id from faces"))
    him = school.face_of("male")
    school.process()
    assert school.pairs() == {frozenset((him, face)) for face in hers}
    assert school.rows() == school.expected_rows()
    found = school.run("select face_id from find_similar_faces_filtered(%s::vector, 'UIT', 'male')", embedding(1))
    assert found == hers[:20]
    school.run("update profiles set gender = 'male' where id = %s", user)
    school.process()
    assert school.rows() == []


def test_two_identical_embeddings_are_two_faces(school: School) -> None:
    him, her, twin = school.face_of("male"), school.face_of("female"), school.face_of("female")
    school.process()
    assert school.rows() == [(him, her, 1.0, 1, 1), (him, twin, 1.0, 2, 1)]
    found = school.connection.execute(
        "select face_id, similarity from find_similar_faces_filtered(%s::vector, 'UIT', 'male')", (embedding(1),)
    ).fetchall()
    assert found == [(her, 1.0), (twin, 1.0)]


def test_twenty_ties_at_the_cut_break_by_id(school: School) -> None:
    him = school.face_of("male", (1,))
    best = [school.face_of("female", (1, 0.1)) for _ in range(10)]
    ties = [school.face_of("female", (1, 0.5)) for _ in range(20)]
    school.process()
    kept = {b: rank for a, b, _, rank, _ in school.rows() if a == him and rank is not None}
    assert kept == {face: rank for rank, face in enumerate([*best, *ties[:10]], start=1)}
    assert school.rows() == school.expected_rows()
    found = school.run("select face_id from find_similar_faces_filtered(%s::vector, 'UIT', 'male')", embedding(1))
    assert found == [*best, *ties[:10]]
    school.run("delete from faces where id = %s", ties[0])
    school.process()
    assert school.rows() == school.expected_rows()


def test_the_reason_of_a_refusal_quotes_no_row(school: School) -> None:
    school.face_of("male"), school.face_of("female")
    school.connection.execute(ALWAYS_REFUSES.encode())
    school.process()
    reasons = school.run("select distinct error_message from matching_pipeline.jobs where error_message is not null")
    assert reasons == ["the database refuses it: SQLSTATE P0001"]


def test_an_error_of_the_handler_quotes_no_row(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    """It becomes a failure of the queue in `workers` and in Dagster."""

    def refuse(*arguments: object) -> None:
        school.connection.execute("do $$ begin raise exception 'no %', (select embedding from faces limit 1); end $$")

    school.face_of("male")
    monkeypatch.setattr(matches, "vector_failures", refuse)
    with pytest.raises(psycopg.errors.RaiseException) as caught:
        school.process()
    assert str(caught.value) == "SQLSTATE P0001"
    assert caught.value.diag.message_primary is None


def attach_with(school: School, **changed: Any) -> None:
    """Declares the source of faces in another way."""
    source = EXAMPLES.source("face").model_copy(update=changed)
    attach(school.connection, Declarations(sources=(source,), matches=(Matches(matchers=(FACE_RULE,)),)))
    school.process()


def test_an_expression_that_fails_for_a_face_fails_its_job_and_quotes_nothing(school: School) -> None:
    attach_with(school, properties={"school": "(p.school)::integer", "gender": "p.gender"})
    him, her = (school.face_of(gender, school="1") for gender in ("male", "female"))
    bad = school.face_of("female", school="the secret school")
    school.process()
    assert school.pairs() == {frozenset((him, her))}
    assert failures(school) == [(bad, 1, "an expression of the source face fails for this row: SQLSTATE 22P02")]


def test_a_function_that_raises_for_a_face_fails_its_job_and_quotes_nothing(school: School) -> None:
    school.connection.execute(
        "create function checked(text) returns text language plpgsql as "
        "$$ begin if $1 = 'bad' then raise exception 'school %', $1; end if; return $1; end $$"
    )
    attach_with(school, properties={"school": "checked(p.school)", "gender": "p.gender"})
    him, her = school.face_of("male"), school.face_of("female")
    school.process()
    school.run("update profiles set school = 'bad' where gender = 'female'")
    school.process()
    assert failures(school) == [(her, 1, "an expression of the source face fails for this row: SQLSTATE P0001")]
    # its list stays until its row can be read
    assert school.pairs() == {frozenset((him, her))}


def test_vectors_of_other_dimensions_fail_while_there_are_others(school: School) -> None:
    school.run("alter table faces alter column embedding type vector")
    him, her = school.face_of("male"), school.face_of("female")
    school.process()
    longer = "[" + ",".join(["1"] * (DIMENSIONS + 1)) + "]"
    school.run("update faces set embedding = %s where id = %s", longer, him)
    school.process()
    reason = f"the embedding has {DIMENSIONS + 1} dimensions, the others of the source face have {DIMENSIONS}"
    assert failures(school) == [(him, 1, reason)]
    assert school.rows() == []
    school.run("update faces set embedding = %s where id = %s", longer, her)
    school.process()
    assert {face for face, *_ in failures(school)} == {him, her}
    school.run("update match_jobs set status = 'pending' where status = 'failed'")
    school.process()
    assert school.pairs() == {frozenset((him, her))}
    assert failures(school) == []


def test_after_a_database_error_a_face_that_has_pairs_waits_its_back_off_too(school: School) -> None:
    him = school.face_of("male")
    school.face_of("female")
    school.process()
    school.settle()
    school.connection.execute(ALWAYS_REFUSES.encode())
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), him)
    summary = QueueWorker(school.database_url, FaceHandler()).run()
    jobs = school.connection.execute(
        "select status, attempts - snoozes, run_at > now() + interval '50 seconds' from job_queue "
        "where entity_id = %s",
        (him,),
    ).fetchall()
    assert jobs == [("pending", 1, True)]
    assert summary.counts.total() <= 2


def test_a_passing_database_error_leaves_the_stored_pairs(school: School) -> None:
    him, her = school.face_of("male"), school.face_of("female")
    school.process()
    school.connection.execute(ALWAYS_REFUSES.encode())
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), him)
    QueueWorker(school.database_url, FaceHandler()).run()
    assert school.pairs() == {frozenset((him, her))}


def test_a_crowd_of_one_school_is_matched_as_a_whole_and_its_jobs_complete(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matches, "CROWD", 8)
    monkeypatch.setattr(FaceHandler, "batch_size", 2)
    for number in range(12):
        school.face_of("female" if number % 2 else "male", (1.0, number / 10))
    zeros, elsewhere = school.face_of("male", (0.0,)), school.face_of("male", school="HUST")
    assert school.process().counts["failed"] == 1
    assert school.rows() == school.expected_rows()
    states = dict(school.jobs())
    assert (states.pop(zeros), states.pop(elsewhere)) == ("failed", "completed")
    assert set(states.values()) == {"completed"}
    attempts = school.run("select max(attempts) from match_jobs where status = 'completed'")
    assert attempts == [1]


def test_new_schools_are_matched_as_wholes_and_single_faces_are_not(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FaceHandler, "batch_size", 2)
    monkeypatch.setattr(matches, "CROWD", 8)
    monkeypatch.setattr(matches, "SMALL_CROWD", 2)
    monkeypatch.setattr(matches, "CROWD_SHARE", 1 / 2)
    rebuilt: list[str] = []
    rebuild_part = Matching.rebuild_part

    def look(matching: Matching, session: Connection, part: Part) -> Figures:
        rebuilt.append((part.same or {})["school"])
        return rebuild_part(matching, session, part)

    monkeypatch.setattr(Matching, "rebuild_part", look)
    for number in range(12):
        school.face_of("female" if number % 2 else "male", (1.0, number / 10))
    school.process()
    assert rebuilt == ["UIT"]
    for place, faces in (("UIT", 4), ("HUST", 6), ("UEH", 1)):
        for number in range(faces):
            school.face_of("female" if number % 2 else "male", school=place)
    school.process()
    assert rebuilt == ["UIT", "HUST"]
    assert school.rows() == school.expected_rows()


def test_a_crowd_of_many_schools_is_looked_at_once(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matches, "CROWD", 8)
    monkeypatch.setattr(FaceHandler, "batch_size", 2)
    looks = []
    match_crowd = FaceHandler._match_crowd

    def look(handler: FaceHandler, session: Connection) -> int:
        looks.append(session)
        return match_crowd(handler, session)

    monkeypatch.setattr(FaceHandler, "_match_crowd", look)
    for number in range(24):
        school.face_of("female" if number % 2 else "male", school=f"school {number // 2 % 6}")
    assert school.process().completed == 24
    assert len(looks) == 1
    assert school.rows() == school.expected_rows()


def test_a_face_that_stays_behind_a_crowd_loses_its_pairs(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    him, other = school.face_of("male"), school.face_of("female", (1.0, 1.5))
    crowd = [school.face_of("female", (1.0, number / 30)) for number in range(12)]
    school.process()
    assert len(school.rows()) == 13
    monkeypatch.setattr(matches, "CROWD", 8)
    monkeypatch.setattr(FaceHandler, "batch_size", 2)
    school.run(
        "update profiles set school = 'HUST' from faces where user_id = profiles.id and faces.id = any (%s)", crowd
    )
    school.process()
    assert [(a, b) for a, b, *_ in school.rows()] == [(him, other)]
    assert school.rows() == school.expected_rows()
