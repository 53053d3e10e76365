"""Changes of faces and profiles queue jobs, or remove pairs and jobs, in the app's own transaction."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.queues import client
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline.sources.declarations import Declarations, Matches
from matching_pipeline.sources.matcher import Matcher
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.notices import payloads
from matching_pipeline_tests.integration.school import FACE_RULE, School, embedding

LOOSE_TABLES = """
create type gender as enum ('male', 'female', 'diverse');
create type profile_type as enum ('user', 'celebrity');
create table profiles (school varchar(80), id uuid primary key, gender gender, profile_type profile_type, name text);
create table faces (
    image_url varchar(500), embedding vector(128), user_id uuid, created_at timestamptz default now(), id uuid unique
);
"""


def faces(rule: Matcher) -> Declarations:
    """The face-match app alone."""
    return Declarations(sources=(EXAMPLES.source("face"),), matches=(Matches(matchers=(rule,), expose="public"),))


FACES = faces(FACE_RULE)
VIEWED_FACES = faces(FACE_RULE.model_copy(update={"publish": None}))
"""The matches are in a view, not in a table of the app."""


@pytest.fixture
def pair(school: School) -> tuple[UUID, UUID]:
    """Two matched faces, his and hers. The queue is empty."""
    faces = school.face_of("male"), school.face_of("female")
    school.process()
    school.settle()
    assert school.pairs() == {frozenset(faces)}
    return faces


@pytest.fixture(scope="session")
def loose_faces_template(new_database: Callable[..., str]) -> str:
    url = new_database(name="loose_faces")
    with connect(url) as connection:
        migrate(connection)
    with connect(url) as connection:
        connection.execute(LOOSE_TABLES.encode())
        attach(connection, VIEWED_FACES)
        connection.execute("delete from matching_pipeline.jobs")
    return "loose_faces"


@pytest.fixture
def loose(new_database: Callable[..., str], loose_faces_template: str) -> Iterator[School]:
    """In tables of the app without foreign keys, with enumerations, varchar and other dimensions."""
    database_url = new_database(loose_faces_template)
    with connect(database_url) as connection:
        yield School(connection, database_url, dimensions=128)


def user_of(school: School, face: UUID) -> UUID:
    (user,) = school.run("select user_id from faces where id = %s", face)
    return user  # type: ignore[no-any-return]


def test_a_face_with_an_embedding_is_queued_and_one_without_is_not(school: School) -> None:
    user = school.user()
    school.face(user, None)
    face = school.face(user)
    assert school.jobs() == [(face, "pending")]


def test_a_face_whose_user_does_not_count_is_queued_and_leaves_nothing(school: School) -> None:
    """A trigger does not look at the profile."""
    face = school.face(school.user(profile_type="celebrity"))
    assert school.jobs() == [(face, "pending")]
    assert school.process().completed == 1
    assert school.run("select key from matching_pipeline.entities") == []
    assert school.jobs() == []


def test_an_embedding_that_arrives_later_queues_its_face(school: School) -> None:
    face = school.face(school.user(), None)
    school.run("update faces set embedding = %s", embedding(1))
    assert school.jobs() == [(face, "pending")]


def test_a_job_is_queued_in_the_apps_own_transaction(school: School, database_url: str) -> None:
    user = school.user()
    with connect(database_url) as app, app.transaction(force_rollback=True):
        app.execute("insert into faces (user_id, embedding) values (%s, %s)", (user, embedding(1)))
        assert app.execute("select count(*) from match_jobs").fetchone() == (1,)
        assert school.jobs() == []
    assert school.jobs() == []


@pytest.mark.parametrize(
    "change",
    [
        "update faces set embedding = embedding",
        "update faces set image_url = 'new', user_id = user_id, id = id",
        "update faces set embedding = null where false",
        "update profiles set school = school, gender = gender, profile_type = profile_type, id = id",
        "update profiles set name = 'new'",
    ],
)
@pytest.mark.usefixtures("pair")
def test_an_update_that_changes_no_input_queues_nothing(school: School, change: str) -> None:
    school.run("alter table profiles add column name text")
    school.run(change)
    assert school.jobs() == []
    assert len(school.pairs()) == 1


def test_another_embedding_or_another_user_queues_the_face(school: School, pair: tuple[UUID, UUID]) -> None:
    him, her = pair
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), him)
    assert school.jobs() == [(him, "pending")]
    school.run("update faces set user_id = %s where id = %s", school.user(), her)
    assert school.queued() == {him, her}


@pytest.mark.parametrize(
    "change",
    [
        "school = 'HUST'", "school = null", "gender = 'male'", "gender = 'other'", "gender = null",
        "profile_type = 'celebrity'",
    ],
)  # fmt: skip
def test_a_profile_that_changes_is_queued_and_the_pairs_of_its_faces_follow(
    school: School, pair: tuple[UUID, UUID], change: str
) -> None:
    him, her = pair
    user = user_of(school, her)
    another = school.face(user)
    school.face(user, None)
    school.settle()
    school.run(f"update profiles set {change} where id = %s", user)
    assert school.all_queued() == {("parent", user)}
    school.process()
    assert school.rows() == school.expected_rows() == []
    school.run("update profiles set school = 'UIT', gender = 'female', profile_type = 'user' where id = %s", user)
    school.process()
    assert school.pairs() == {frozenset((him, her)), frozenset((him, another))}
    assert school.rows() == school.expected_rows()


def test_an_upsert_queues_new_and_changed_faces(school: School, pair: tuple[UUID, UUID]) -> None:
    him, her = pair
    user, new, same = school.user(), uuid4(), school.face_of("female", (0, 1))
    school.settle()
    school.run(
        """insert into faces (id, user_id, embedding) values (%s, %s, %s), (%s, %s, %s), (%s, %s, %s)
        on conflict (id) do update set embedding = excluded.embedding""",
        *(new, user, embedding(1), her, user, embedding(1, 1), same, user, embedding(0, 1)),
    )
    assert school.queued() == {new, her}
    assert him not in school.queued()


def test_an_upsert_of_profiles_queues_the_changed_ones(school: School, pair: tuple[UUID, UUID]) -> None:
    him, her = pair
    school.run(
        """insert into profiles (id, school, gender) values (%s, 'UIT', 'male'), (%s, 'HUST', 'female')
        on conflict (id) do update set school = excluded.school""",
        *(user_of(school, him), user_of(school, her)),
    )
    assert school.all_queued() == {("parent", user_of(school, her))}


def test_a_bulk_insert_queues_every_face_and_announces_the_queue_once(school: School, database_url: str) -> None:
    user = school.user()
    with connect(database_url) as listener:
        client.listen(listener)
        school.run(
            "insert into faces (user_id, embedding) select %s, %s::vector from generate_series(1, 2000)",
            *(user, embedding(1)),
        )
        heard = payloads(listener)
    assert len(school.queued()) == 2000
    assert heard == ["matches_face"]


def test_a_face_with_a_new_key_is_matched_under_it(school: School, pair: tuple[UUID, UUID]) -> None:
    him, her = pair
    new = uuid4()
    school.run("update faces set id = %s where id = %s", new, her)
    assert school.pairs() == set()
    assert school.queued() == {new, him}
    school.process()
    assert school.pairs() == {frozenset((him, new))}


@pytest.mark.usefixtures("pair")
def test_all_faces_may_get_new_keys_at_once(school: School) -> None:
    school.run("update faces set id = gen_random_uuid()")
    assert school.queued() == set(school.run("select id from faces"))
    school.process()
    assert school.pairs() == {frozenset(school.run("select id from faces"))}
    assert school.rows() == school.expected_rows()


def test_a_profile_with_a_new_key_keeps_its_faces_matched(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("update profiles set id = gen_random_uuid() where gender = 'female'")
    school.process()
    assert school.pairs() == {frozenset(pair)}


@pytest.mark.parametrize("removal", ["delete from faces where id = %s", "delete from profiles where id = %s"])
def test_a_deleted_face_or_user_is_forgotten_and_the_partner_queued(
    school: School, pair: tuple[UUID, UUID], removal: str
) -> None:
    him, her = pair
    waiting = school.face(user_of(school, her))
    gone = her if "faces" in removal else user_of(school, her)
    school.run(removal, gone)
    assert school.pairs() == set()
    # a worker may have read the row of the face that waits
    assert school.queued() == {him, waiting}
    school.process()
    assert school.pairs() == ({frozenset((him, waiting))} if "faces" in removal else set())
    assert {face for face, _ in school.jobs()} == ({him, waiting} if "faces" in removal else {him})


@pytest.mark.parametrize("table", ["faces", "profiles"])
@pytest.mark.usefixtures("pair")
def test_truncated_tables_leave_no_pair_and_no_job(school: School, table: str) -> None:
    school.face_of("male")
    school.run(f"truncate {table} cascade")
    assert (school.rows(), school.jobs()) == ([], [])
    assert school.mirror() == (set(), set())
    assert "table" in school.run("select kind from matching_pipeline.jobs")
    school.process()
    assert school.run("select kind from matching_pipeline.jobs where status <> 'completed'") == []


def test_truncated_matches_are_computed_again(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("truncate matching_pipeline.matches")
    assert school.queued() == set(pair)


def test_an_embedding_set_to_null_removes_its_pairs(school: School, pair: tuple[UUID, UUID]) -> None:
    him, her = pair
    school.run("update faces set embedding = null where id = %s", her)
    assert school.pairs() == set()
    assert him in school.queued()
    school.process()
    assert school.rows() == []
    assert {status for _, status in school.jobs()} == {"completed"}


@pytest.mark.parametrize("removal", ["delete from profiles where gender = 'female'", "truncate profiles"])
def test_without_foreign_keys_faces_without_their_user_lose_their_pairs(loose: School, removal: str) -> None:
    loose.face_of("male")
    loose.face_of("female")
    loose.process()
    assert len(loose.pairs()) == 1
    loose.run(removal)
    loose.process()
    assert loose.rows() == []


def test_without_foreign_keys_a_face_may_come_before_its_user(loose: School) -> None:
    him, user = loose.face_of("male"), uuid4()
    her = loose.face(user)
    loose.process()
    loose.run("insert into profiles (id, school, gender, profile_type) values (%s, 'UIT', 'female', 'user')", user)
    assert loose.all_queued() == {("parent", user)}
    loose.process()
    assert loose.pairs() == {frozenset((him, her))}
    assert not [face for face, status in loose.jobs() if status == "failed"]


def test_enumerations_varchar_and_other_dimensions_serve_as_well(loose: School) -> None:
    him = loose.face_of("male", (1, 0.2))
    her, other = loose.face_of("female", (1, 0)), loose.face_of("diverse", (1, 0))
    loose.process()
    assert loose.pairs() == {frozenset((him, her))}
    assert loose.run("select dimensions from matching_pipeline.embedding_models where name = 'face'") == [128]
    loose.run("update profiles set profile_type = 'celebrity' where gender = 'female'")
    loose.process()
    assert loose.pairs() == set()
    assert other not in {face for pair in loose.pairs() for face in pair}


@pytest.mark.parametrize("type", ["vector", "vector(3)", "halfvec(3)", "real[]"])
def test_vectors_of_other_types_serve_as_well(new_database: Callable[..., str], type: str) -> None:
    database_url = new_database()
    with connect(database_url) as connection:
        migrate(connection)
        make_example_tables(connection)
        connection.execute(f"alter table faces alter column embedding type {type} using null".encode())
        attach(connection, FACES)
    with connect(database_url) as connection:
        school = School(connection, database_url, dimensions=3)
        him, her = school.face_of("male", None), school.face_of("female", None)
        given = "{1,0.5,0}" if type == "real[]" else "[1,0.5,0]"
        school.run("update faces set embedding = %s", given)
        school.process()
        assert school.pairs() == {frozenset((him, her))}


@pytest.mark.parametrize("type", ["jsonb", "boolean"])
def test_an_embedding_column_of_another_type_is_refused(new_database: Callable[..., str], type: str) -> None:
    statement: Any = f"create table faces (id uuid primary key, user_id uuid, image_url text, embedding {type})"
    with connect(new_database()) as connection:
        migrate(connection)
        connection.execute(statement)
        connection.execute("create table profiles (id uuid primary key, school text, gender text, profile_type text)")
        with pytest.raises(ConfigurationError, match=f"cannot cast type {type} to vector"):
            attach(connection, FACES)
