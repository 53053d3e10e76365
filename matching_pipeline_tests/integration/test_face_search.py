"""`find_similar_faces_filtered`: the field's signature, filtered before it searches, and exact."""

import re
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matching_pipeline.db.connections import connect
from matching_pipeline_tests.integration.school import DIMENSIONS, School, embedding

Found = list[tuple[UUID, UUID, float]]
Face = tuple[UUID, UUID, str, str, str, tuple[int, ...]]
"""id, user, school, gender, profile type, vector"""

TOLERANCE = 1e-6
"""pgvector adds up in single precision."""
NAME = "find_similar_faces_filtered"


def search(
    school: School, vector: str, place: str | None = "UIT", gender: str | None = "male", *more: float
) -> Found:
    marks = ", %s" * len(more)
    return school.connection.execute(
        f"select face_id, profile_id, similarity from {NAME}(%s::vector, %s, %s{marks})".encode(),
        (vector, place, gender, *more),
    ).fetchall()


# What it is called with


def test_it_has_the_fields_signature_and_defaults(school: School) -> None:
    arguments, result = school.connection.execute(
        "select pg_get_function_arguments(oid), pg_get_function_result(oid) from pg_proc where proname = %s", (NAME,)
    ).fetchall()[0]
    assert arguments.split(", ") == [
        "query_embedding vector", "user_school text", "user_gender text",
        "match_threshold double precision DEFAULT 0.5", "match_count integer DEFAULT 20",
    ]  # fmt: skip
    assert result.startswith("TABLE(face_id uuid, profile_id uuid, similarity double precision")


def test_its_columns_are_face_profile_and_similarity_first(school: School) -> None:
    user = school.user("female")
    face = school.face(user, (1, 1))
    cursor = school.connection.execute(f"select * from {NAME}(%s::vector, 'UIT', 'male')".encode(), (embedding(1),))
    assert [column.name for column in cursor.description or ()][:3] == ["face_id", "profile_id", "similarity"]
    ((found, profile, similarity, *_),) = cursor.fetchall()
    assert (found, profile) == (face, user)
    assert similarity == pytest.approx(0.5**0.5)


def test_it_is_called_by_name_as_an_rpc_is(school: School) -> None:
    faces = [school.face_of("female", (1, place / 4)) for place in range(4)]
    found = school.run(
        f"select face_id from {NAME}(query_embedding => %s::vector(512), user_school => 'UIT', "
        "user_gender => 'male', match_threshold => 0.9, match_count => 2)",
        embedding(1),
    )
    assert found == faces[:2]


def test_by_default_it_returns_the_best_20_of_half_similarity_or_more(school: School) -> None:
    faces = [school.face_of("female", (1, place / 20)) for place in range(30)]
    at_the_line, below = school.face_of("female", (1, 1, 1, 1)), school.face_of("female", (1, 2))
    found = search(school, embedding(1))
    assert [face for face, *_ in found] == faces[:20]
    all_faces = [face for face, *_ in search(school, embedding(1), "UIT", "male", 0.5, 100)]
    assert at_the_line in all_faces
    assert below not in all_faces


@pytest.mark.parametrize(("count", "found"), [(0, 0), (-1, 0), (1, 1), (1000, 3)])
def test_it_returns_as_many_as_are_asked_for(school: School, count: int, found: int) -> None:
    for _ in range(3):
        school.face_of("female")
    assert len(search(school, embedding(1), "UIT", "male", 0.5, count)) == found


@pytest.mark.parametrize(("place", "gender"), [(None, "male"), ("UIT", None), ("UIT", "other"), ("NONE", "male")])
def test_a_search_without_a_block_finds_no_face(school: School, place: str | None, gender: str | None) -> None:
    school.face_of("female")
    school.face(school.user("female", None))
    school.face(school.user(None))
    school.face(school.user("other"))
    assert search(school, embedding(1), place, gender) == []


def test_zeros_are_found_by_no_search_and_find_no_face(school: School) -> None:
    her = school.face_of("female")
    school.face_of("female", (0,))
    school.face_of("female", None)
    assert [face for face, *_ in search(school, embedding(1), "UIT", "male", -1.0)] == [her]
    assert search(school, embedding(0), "UIT", "male", -1.0) == []


def test_the_opposite_face_has_a_similarity_of_minus_one(school: School) -> None:
    school.face_of("female", (-1,))
    assert search(school, embedding(1)) == []
    assert [similarity for *_, similarity in search(school, embedding(1), "UIT", "male", -1.0)] == [-1.0]


def test_ties_break_by_id_at_the_cut_too(school: School) -> None:
    users = [school.user("female") for _ in range(30)]
    school.run("create index on faces using hnsw (embedding vector_cosine_ops)")
    # not in the order of ids
    for user in reversed(users):
        school.run("insert into faces (id, user_id, embedding) values (%s, %s, %s)", user, user, embedding(1, 1))
    assert [face for face, *_ in search(school, embedding(1))] == users[:20]


# It is exact

integers = st.integers(-3, 3)
vectors = st.tuples(integers, integers, integers)
faces = st.tuples(st.sampled_from(["UIT", "UIT", "HUST"]), st.sampled_from(["male", "female", "female", "other"]),
                  st.sampled_from(["user", "user", "user", "celebrity"]), vectors)  # fmt: skip


def oracle(all_faces: list[Face], query: tuple[int, ...], place: str, gender: str) -> dict[UUID, tuple[UUID, float]]:
    """Every candidate's user and cosine, by numpy."""
    wanted = {"male": "female", "female": "male"}.get(gender)
    candidates = [
        (face, user, np.array(vector, dtype=np.float64))
        for face, user, school, theirs, profile_type, vector in all_faces
        if school == place and theirs == wanted and profile_type == "user" and any(vector)
    ]
    one = np.array(query, dtype=np.float64)
    return {
        face: (user, float(one @ vector / (np.linalg.norm(one) * np.linalg.norm(vector))))
        for face, user, vector in candidates
        if any(query)
    }


def assert_exact(found: Found, cosines: dict[UUID, tuple[UUID, float]], threshold: float, count: int) -> None:
    order = [(-similarity, face) for face, _, similarity in found]
    assert order == sorted(order)
    assert len({face for face, *_ in found}) == len(found) <= count
    for face, user, similarity in found:
        expected_user, cosine = cosines[face]
        assert user == expected_user
        assert similarity == pytest.approx(cosine, abs=TOLERANCE)
        assert similarity >= threshold
    # no face is left out that is better than the last one, or than the threshold where there was room
    floor = max(threshold, found[-1][2]) if count and len(found) == count else threshold
    missed = {face for face, (_, cosine) in cosines.items() if cosine > floor + TOLERANCE} - {f for f, *_ in found}
    assert not missed or count == 0


@pytest.fixture(scope="module")
def shared(new_database: Callable[..., str], migrated_template: str) -> Iterator[School]:
    """One database for all examples; the triggers are off, as these tests match nothing."""
    database_url = new_database(migrated_template)
    with connect(database_url) as connection:
        connection.execute("create index on faces using hnsw (embedding vector_cosine_ops)")
        connection.execute("set session_replication_role = replica")
        yield School(connection, database_url)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(faces, max_size=40),
    query=vectors,
    place=st.sampled_from(["UIT", "HUST"]),
    gender=st.sampled_from(["male", "female", "other"]),
    threshold=st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.0]),
    count=st.integers(0, 25),
)
def test_it_finds_what_numpy_finds(
    shared: School,
    rows: list[tuple[str, str, str, tuple[int, ...]]],
    query: tuple[int, ...],
    place: str,
    gender: str,
    threshold: float,
    count: int,
) -> None:
    shared.run("truncate profiles cascade")
    all_faces: list[Face] = []
    for school, theirs, profile_type, vector in rows:
        user = shared.user(theirs, school, profile_type)
        all_faces.append((shared.face(user, vector), user, school, theirs, profile_type, vector))
    found = search(shared, embedding(*query), place, gender, threshold, count)
    assert_exact(found, oracle(all_faces, query, place, gender), threshold, count)


# It filters before it searches

SCHOOLS, USERS = 100, 10_000


@pytest.fixture(scope="module")
def crowd(new_database: Callable[..., str], migrated_template: str) -> Iterator[School]:
    """Many schools, and an approximate index of the app's own."""
    database_url = new_database(migrated_template)
    with connect(database_url) as connection:
        school = School(connection, database_url)
        connection.execute("set session_replication_role = replica")
        connection.execute(
            f"""insert into profiles (school, gender)
            select 'school ' || number % {SCHOOLS}, (array['male', 'female'])[1 + number / {SCHOOLS} % 2]
            from generate_series(1, {USERS}) as number""".encode()
        )
        connection.execute(
            """with directions as materialized (
                select number, direction::vector from unnest(%s::text[]) with ordinality as given (direction, number)
            ),
            users as (select id, 1 + row_number() over () %% 50 as number from profiles)
            insert into faces (user_id, embedding) select id, direction from users join directions using (number)""",
            ([str(direction) for direction in np.random.default_rng(0).random((50, DIMENSIONS)).tolist()],),
        )
        connection.execute("create index approximate on faces using hnsw (embedding vector_cosine_ops)")
        connection.execute("vacuum analyze profiles, faces")
        yield school


def plan_of_a_call(school: School) -> str:
    """With literal arguments the function is a part of the caller's plan."""
    return explained(school, f"select * from {NAME}('{[1.0] * DIMENSIONS}', 'school 7', 'male')")


def plan_by_itself(school: School) -> str:
    """As it is planned for callers with other arguments, such as PostgREST."""
    body, names = school.connection.execute(
        "select prosrc, proargnames[:pronargs] from pg_proc where proname = %s", (NAME,)
    ).fetchall()[0]
    for place, name in enumerate(names, start=1):
        body = re.sub(rf"\b{name}\b", f"${place}", body)
    school.run("set plan_cache_mode = force_generic_plan")
    school.run(f"prepare search (vector, text, text, double precision, integer) as {body}")
    try:
        return explained(school, f"execute search ('{[1.0] * DIMENSIONS}', 'school 7', 'male', 0.5, 20)")
    finally:
        school.run("deallocate search")


def explained(school: School, statement: str) -> str:
    return "\n".join(school.run(f"explain {statement}"))


planned = pytest.mark.parametrize("planned", [plan_of_a_call, plan_by_itself])


@planned
def test_it_filters_by_index_and_searches_the_block_only(crowd: School, planned: Callable[[School], str]) -> None:
    chosen = planned(crowd)
    assert "idx_profiles_school_gender" in chosen
    assert "faces_user_id_idx" in chosen
    assert "Seq Scan" not in chosen


@planned
@pytest.mark.parametrize("discouraged", ["seqscan", "sort", "nestloop", "hashjoin", "bitmapscan"])
def test_it_never_takes_an_approximate_index(
    crowd: School, planned: Callable[[School], str], discouraged: str
) -> None:
    crowd.run(f"set enable_{discouraged} = off")
    try:
        chosen = planned(crowd)
    finally:
        crowd.run("reset all")
    assert "candidates" in chosen
    assert "approximate" not in chosen


def test_the_approximate_index_serves_a_query_that_fits_it(crowd: School) -> None:
    nearest = f"select id from faces order by embedding <=> '{[1.0] * DIMENSIONS}' limit 5"
    assert "approximate" in explained(crowd, nearest)


def test_its_cost_follows_the_block_and_not_the_table(crowd: School) -> None:
    def seconds(statement: str) -> float:
        best = float("inf")
        for _ in range(5):
            began = time.monotonic()
            crowd.run(statement)
            best = min(best, time.monotonic() - began)
        return best

    query = "(select embedding from faces limit 1)"
    block = seconds(f"select face_id from {NAME}({query}, 'school 7', 'male', -1)")
    table = seconds(f"select id from faces order by (embedding <=> {query}) + 0 limit 20")
    assert block < table / 3
