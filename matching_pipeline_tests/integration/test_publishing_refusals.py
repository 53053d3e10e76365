"""Pairs that a table of the app refuses, locks or has already."""

from uuid import UUID

import pytest

from matching_pipeline.db.connections import connect
from matching_pipeline.queues import client
from matching_pipeline_tests.integration.publication import is_exact, matched_pair, state, stored
from matching_pipeline_tests.integration.school import School, embedding


@pytest.fixture
def pair(school: School) -> tuple[UUID, UUID]:
    return matched_pair(school)


REFUSALS = {
    "a foreign key": (
        "create table likes (match_id uuid constraint likes_match_id_fkey references matches); "
        "insert into likes select id from matches",
        "alter table likes drop constraint likes_match_id_fkey, "
        "add constraint likes_match_id_fkey foreign key (match_id) references matches on delete cascade",
        "likes_match_id_fkey",
    ),
    "a foreign key that is checked at the end": (
        "create table likes (match_id uuid constraint likes_match_id_fkey references matches "
        "deferrable initially deferred); "
        "insert into likes select id from matches",
        "truncate likes",
        "likes_match_id_fkey",
    ),
    "a missing right of one row": (
        "create function refuse() returns trigger language plpgsql as "
        "$$ begin raise insufficient_privilege using message = 'not this one'; end $$; "
        "create trigger refuse before delete on matches for each row execute function refuse()",
        "drop trigger refuse on matches",
        "SQLSTATE 42501 in PL/pgSQL function refuse() line 1 at RAISE",
    ),
    "a trigger": (
        "create function refuse() returns trigger language plpgsql as $$ begin raise 'not %%', old.id; end $$; "
        "create trigger refuse before delete on matches for each row execute function refuse()",
        "drop trigger refuse on matches",
        "SQLSTATE P0001 in PL/pgSQL function refuse() line 1 at RAISE",
    ),
}


@pytest.mark.parametrize("refusal", sorted(REFUSALS))
@pytest.mark.parametrize(
    "removal", ["delete from faces where id = %s", "update faces set embedding = '[0,1]' where id = %s"]
)
def test_a_refused_removal_fails_nothing_and_is_made_up_for(
    school: School, pair: tuple[UUID, UUID], refusal: str, removal: str
) -> None:
    breaks, mends, reason = REFUSALS[refusal]
    school.run(breaks)
    school.run(removal.replace("[0,1]", embedding(0, 1)), pair[0])
    school.process()
    assert stored(school) == set()
    assert school.pairs() == {frozenset(pair)}
    assert school.publish().counts["completed"] == 0
    unpublished, is_compared, (told,) = state(school)
    assert (unpublished, is_compared, reason in told) == (1, True, True), told
    # others are published all the same
    eve, joe = school.face_of("female", (0, 0, 1)), school.face_of("male", (0, 0, 1))
    school.process()
    assert frozenset((eve, joe)) in school.pairs()
    school.run(mends)
    assert school.publish().counts["completed"] == 1
    assert state(school) == (0, True, [])
    assert is_exact(school)


@pytest.mark.parametrize(
    ("breaks", "mends", "reason"),
    [
        (
            "alter table matches add constraint likely check (similarity < 0.9) not valid",
            "alter table matches drop constraint likely",
            'violates check constraint "likely"',
        ),
        (
            "alter table matches add column asked text; alter table matches alter asked set not null",
            "alter table matches drop column asked",
            "asked",
        ),
    ],
)
def test_a_refused_row_waits_alone(school: School, breaks: str, mends: str, reason: str) -> None:
    school.run(breaks)
    ann, bob = school.face_of("female"), school.face_of("male")
    eve, joe = school.face_of("female", (0, 1, 1)), school.face_of("male", (0, 1))
    assert school.process().counts["failed"] == 0
    school.publish()
    assert frozenset((ann, bob)) in stored(school) - school.pairs()
    _, is_compared, (told,) = state(school)
    assert (is_compared, reason in told) == (True, True), told
    assert (frozenset((eve, joe)) in school.pairs()) == ("likely" in breaks)
    school.run(mends)
    school.publish()
    assert state(school) == (0, True, [])
    assert is_exact(school)


@pytest.mark.parametrize(
    ("breaks", "mends", "reason"),
    [
        (
            "alter table matches rename face_a_id to one",
            "alter table matches rename one to face_a_id",
            "has no column face_a_id",
        ),
        (
            "alter table matches rename to pairs",
            "alter table pairs rename to matches",
            "there is no table public.matches",
        ),
        (
            "drop table matches",
            "create table matches (like copied including all)",
            "there is no table public.matches",
        ),
        (
            "drop policy matches_of_own_faces on matches; alter table matches alter face_a_id type integer using 1",
            "alter table matches alter face_a_id type uuid using null",
            "takes no left",
        ),
    ],
)
def test_a_table_that_does_not_fit_stops_only_publishing(
    school: School, pair: tuple[UUID, UUID], breaks: str, mends: str, reason: str
) -> None:
    school.run("create table copied (like matches including all)")
    school.run(breaks)
    eve = school.face_of("female")
    assert school.process().counts["failed"] == 0
    school.run("delete from faces where id = %s", pair[0])
    assert school.publish().counts["completed"] == 0
    assert client.hasten_publishing(school.connection) == 1
    assert stored(school) == {frozenset((pair[1], eve))}
    unpublished, is_compared, reasons = state(school)
    assert (unpublished, is_compared) == (1, False)
    assert any(reason in told for told in reasons), reasons
    school.run(mends)
    assert school.publish().counts["completed"] == 1
    assert state(school) == (0, True, [])
    assert is_exact(school)


def test_a_lock_of_the_apps_holds_up_neither_side(school: School, pair: tuple[UUID, UUID]) -> None:
    with connect(school.database_url) as app, app.transaction():
        app.execute("select from matches for update")
        school.run("update faces set embedding = %s where id = %s", embedding(1, 1), pair[0])
        assert school.process().counts["completed"] == 1
        assert stored(school) == {frozenset(pair)}
        assert not is_exact(school)
        school.run("delete from faces where id = %s", pair[0])
        assert stored(school) == set()
        assert school.pairs() == {frozenset(pair)}
        school.publish()
        assert school.pairs() == {frozenset(pair)}
    school.publish()
    assert state(school) == (0, True, [])
    assert is_exact(school)


def test_a_pair_that_the_app_inserts_meanwhile_is_taken_over(school: School) -> None:
    ann, bob = school.face_of("female"), school.face_of("male")
    with connect(school.database_url) as app, app.transaction():
        app.execute("insert into matches (face_a_id, face_b_id) values (%s, %s)", (ann, bob))
        assert school.process().counts["completed"] == 2
        assert stored(school) == {frozenset((ann, bob))}
    school.publish()
    assert is_exact(school)
