"""Pairs in a table of the app's own: what is written, and what the app keeps."""

import json
from typing import Any
from uuid import UUID

import psycopg
import pytest

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.sources.attach import attach, detach
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.publication import COLUMNS, is_exact, matched_pair, publishing, state, stored
from matching_pipeline_tests.integration.school import School, embedding


@pytest.fixture
def pair(school: School) -> tuple[UUID, UUID]:
    return matched_pair(school)


def test_a_pair_that_changes_keeps_what_the_app_wrote_into_its_row(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("alter table matches add column liked boolean not null default false")
    before = school.connection.execute("update matches set liked = true returning id, created_at, liked").fetchall()
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), pair[0])
    school.process()
    assert school.run("select round(similarity::numeric, 4)::float from matches") == [0.7071]
    assert school.connection.execute("select id, created_at, liked from matches").fetchall() == before
    school.run("delete from faces where id = %s", pair[0])
    assert school.rows() == []


def test_a_row_that_is_as_it_was_is_not_written(school: School, pair: tuple[UUID, UUID]) -> None:
    before = school.run("select xmin::text from matches")
    school.run("update matching_pipeline.matches set computed_at = computed_at")
    assert school.run("select xmin::text from matches") == before


def test_the_statements_do_not_depend_on_the_plan_that_reads_the_columns(school: School) -> None:
    def ways() -> set[str]:
        statements = (
            "select matching_pipeline.publication_statements(declaration)::text from matching_pipeline.matchers"
        )
        return set(school.run(f"{statements} where name = 'face'"))

    known = ways()
    for hidden in ("enable_nestloop", "enable_hashjoin"):
        school.run(f"set {hidden} = off")
        known |= ways()
        school.run(f"reset {hidden}")
    assert len(known) == 1


def test_rows_of_pairs_that_are_gone_stay_where_it_is_declared(school: School, pair: tuple[UUID, UUID]) -> None:
    attach(school.connection, publishing(removed="keep"))
    school.publish()
    school.run("update faces set embedding = %s where id = %s", embedding(0, 1), pair[0])
    school.process()
    assert stored(school) == set()
    assert school.pairs() == {frozenset(pair)}
    school.run("truncate matching_pipeline.matches")
    school.publish()
    assert school.pairs() == {frozenset(pair)}
    # and is written again when the pair comes back
    school.run("update faces set embedding = %s where id = %s", embedding(1, 1), pair[0])
    school.process()
    assert is_exact(school)


def test_a_row_that_the_app_inserted_is_taken_over_and_others_of_its_own_stay(school: School) -> None:
    ann, bob, eve = school.face_of("female"), school.face_of("male"), school.face_of("female", (0, 1))
    insert = (
        "insert into matches (face_a_id, face_b_id) values (%s, %s) on conflict (face_a_id, face_b_id) do nothing"
    )
    school.run(insert, ann, bob)
    school.run(insert, bob, eve)
    (own,) = school.run("select id from matches where face_a_id = %s", ann)
    school.process()
    assert school.run("select similarity from matches where id = %s", own) == [1]
    school.run(insert, ann, bob)
    assert school.pairs() == {frozenset((ann, bob)), frozenset((bob, eve))}


def test_what_no_trigger_sees_is_compared_once_a_day(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("truncate matches")
    school.run("update matching_pipeline.publications set compared_at = now() - interval '2 days'")
    assert school.run("select matching_pipeline.enqueue_due_publications() order by 1 desc") == ["project", "face"]
    school.publish()
    assert is_exact(school)
    assert school.run("select matching_pipeline.enqueue_due_publications()") == []


def test_pairs_from_before_are_published_in_parts(school: School) -> None:
    attach(school.connection, EXAMPLES.model_copy(update={"matches": (_unpublished(),)}))
    assert school.run("select 1 from pg_trigger where tgname like 'matches_publish%%'") == []
    school.run(
        """insert into matching_pipeline.matches (matcher, left_id, right_id, left_key, right_key, left_item,
            right_item, similarity, left_rank, model)
        select 'face', one, other, one::text, other::text, one, other, 0.5, 1, 'face'
        from (select gen_random_uuid() as one, gen_random_uuid() as other from generate_series(1, 5000)) as pairs"""
    )
    assert school.rows() == []
    attach(school.connection, EXAMPLES)
    assert state(school) == (0, False, [])
    school.publish()
    assert len(school.rows()) == 5000
    assert is_exact(school)


def test_detaching_leaves_the_table_and_its_rows_to_the_app(school: School, pair: tuple[UUID, UUID]) -> None:
    detach(school.connection, "face", forget=True)
    assert school.pairs() == {frozenset(pair)}
    assert stored(school) == set()
    assert school.run("select matcher from matching_pipeline.publications") == ["project"]


def test_a_matcher_that_publishes_no_longer_leaves_the_table_as_it_is(
    school: School, pair: tuple[UUID, UUID]
) -> None:
    attach(school.connection, EXAMPLES.model_copy(update={"matches": (_unpublished(),)}))
    school.run("delete from faces")
    school.process()
    assert school.pairs() == {frozenset(pair)}


def _unpublished() -> Any:
    matches = EXAMPLES.matches[0]
    matchers = tuple(each.model_copy(update={"publish": None}) for each in matches.matchers)
    return matches.model_copy(update={"matchers": matchers, "expose": None})


def test_quoted_names_and_keys_of_other_types_are_published(school: School) -> None:
    school.run('create schema "Face App"')
    school.run(
        """create table "Face App"."Match" (
            "matchId" bigint generated always as identity primary key, kind varchar(20) not null,
            "faceA" text, "faceB" varchar(60), score real, percent numeric(5, 2), "madeAt" timestamptz(0),
            unique (kind, "faceA", "faceB"))"""
    )
    names = {"left": "faceA", "right": "faceB", "matcher": "kind", "similarity": "score", "computed_at": "madeAt"}
    attach(school.connection, publishing(names, table='"Face App"."Match"'))
    ann, bob = school.face_of("female"), school.face_of("male", (1, 1))
    school.process()
    rows = 'select kind, "faceA", "faceB", score from "Face App"."Match"'
    assert school.connection.execute(rows).fetchall() == [
        ("face", str(ann), str(bob), pytest.approx(0.7071, abs=1e-4))
    ]
    before = school.run('select xmin::text from "Face App"."Match"')
    school.run("update matching_pipeline.publications set compared_at = '-infinity'")
    school.run("select matching_pipeline.enqueue_due_publications()")
    school.publish()
    assert school.run('select xmin::text from "Face App"."Match"') == before


TWICE = "alter table matches add column twice float8 generated always as (similarity * 2) stored"


MISFITS: list[tuple[str, dict[str, str] | None, str, str]] = [
    ("", None, "public.pairs", "there is no table public.pairs"),
    ("create view pairs as select 1 as a", None, "public.pairs", "public.pairs is a view"),
    ("", {**COLUMNS, "left": "FaceA"}, "public.matches", 'public.matches has no column "FaceA"'),
    (
        "",
        {**COLUMNS, "similarity": "created_at"},
        "public.matches",
        "created_at of public.matches is a timestamp with time zone, which takes no similarity",
    ),
    (
        "alter table matches add column app text not null",
        None,
        "public.matches",
        "app of public.matches must not be null",
    ),
    (TWICE, {**COLUMNS, "similarity": "twice"}, "public.matches", "twice of public.matches is generated"),
]


@pytest.mark.parametrize(("setup", "columns", "table", "problem"), MISFITS)
def test_a_table_that_does_not_fit_is_told_at_attaching(
    school: School, setup: str, columns: dict[str, str] | None, table: str, problem: str
) -> None:
    if setup:
        school.run(setup)
    before = school.run("select declaration::text from matching_pipeline.matchers order by name")
    with pytest.raises(ConfigurationError) as told:
        attach(school.connection, publishing(columns, table=table))
    assert f"matcher face: publish: {problem}" in str(told.value)
    assert school.run("select declaration::text from matching_pipeline.matchers order by name") == before


def test_a_foreign_key_that_keeps_the_app_from_deleting_is_told_at_attaching(
    school: School, pair: tuple[UUID, UUID]
) -> None:
    warnings: list[str | None] = []
    school.connection.add_notice_handler(lambda notice: warnings.append(notice.message_primary))
    attach(school.connection, publishing())
    assert warnings == []
    school.run("alter table matches add constraint refusing foreign key (face_a_id) references faces")
    attach(school.connection, publishing())
    assert warnings == [
        "matcher face: publish: refusing of public.matches refers to public.faces: while a row there has pairs, "
        "your app cannot delete it: give the constraint on delete cascade"
    ]
    (left,) = school.run("select face_a_id from matches")
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        school.run("delete from faces where id = %s", left)


def test_triggers_of_the_app_find_their_own_tables(school: School) -> None:
    school.run("create table heard (pair uuid)")
    school.run(
        "create function tell() returns trigger language plpgsql "
        "as $$ begin insert into heard values (new.id); return null; end $$"
    )
    school.run("create trigger tell after insert on matches for each row execute function tell()")
    school.face_of("female"), school.face_of("male")
    school.process()
    assert school.run("select pair from heard") == school.run("select id from matches")


def test_triggers_of_the_app_see_what_policies_show(school: School) -> None:
    school.run("create table heard (setting text)")
    school.run(
        "create function tell() returns trigger language plpgsql "
        "as $$ begin insert into heard values (current_setting('row_security')); return null; end $$"
    )
    school.run("create trigger tell after insert or update or delete on matches for each row execute function tell()")
    ann, _ = school.face_of("female"), school.face_of("male")
    school.process()
    school.run("update matches set similarity = 0; delete from heard")
    school.run("update matching_pipeline.publications set compared_at = '-infinity'")
    school.run("select matching_pipeline.enqueue_due_publications()")
    school.publish()
    assert is_exact(school)
    school.run("delete from faces where id = %s", ann)
    assert set(school.run("select setting from heard")) == {"on"}


def test_a_user_who_is_deleted_takes_the_rows_along(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("delete from profiles")
    assert school.rows() == []


def test_a_late_check_that_a_trigger_of_the_app_causes_fails_no_job(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run("create table graves (id uuid primary key)")
    school.run(
        "create table losses (id uuid constraint losses_id_fkey references graves deferrable initially deferred)"
    )
    school.run(
        "create function lose() returns trigger language plpgsql "
        "as $$ begin insert into losses values (old.id); return null; end $$"
    )
    school.run("create trigger lose after delete on matches for each row execute function lose()")
    school.run("update faces set embedding = %s where id = %s", embedding(0, 1), pair[0])
    assert school.process().counts["failed"] == 0
    assert stored(school) == set()
    school.publish()
    unpublished, is_compared, (told,) = state(school)
    assert (unpublished, is_compared, "losses_id_fkey" in told) == (1, True, True), told
    school.run("insert into graves select id from matches")
    school.publish()
    assert state(school) == (0, True, [])
    assert is_exact(school)


def test_a_trigger_of_the_app_on_the_table_may_lose_a_pair(school: School, pair: tuple[UUID, UUID]) -> None:
    school.run(
        "create function lose() returns trigger language plpgsql "
        "as $$ begin delete from faces where id = old.face_a_id; return new; end $$"
    )
    school.run("alter table matches add column blocked boolean")
    school.run("create trigger lose before update of blocked on matches for each row execute function lose()")
    school.run("update matches set blocked = true")
    assert stored(school) == set()
    assert school.pairs() == {frozenset(pair)}
    school.publish()
    assert state(school) == (0, True, [])
    assert school.pairs() == set()


def test_a_user_sees_the_matches_of_their_own_faces(school: School, pair: tuple[UUID, UUID]) -> None:
    role = "reader_" + str(pair[0].int) + "_" + school.connection.info.dbname
    school.run(f'create role "{role}"; grant select on matches, faces to "{role}"')
    (ann,) = school.run("select user_id from faces where id = %s", pair[0])
    with school.connection.transaction(force_rollback=True):
        school.run(f'set local role "{role}"')
        assert school.run("select 1 from matches") == []
        school.run("select set_config('request.jwt.claims', %s, true)", json.dumps({"sub": str(ann)}))
        assert len(school.run("select 1 from matches")) == 1
    school.run(f'drop owned by "{role}"; drop role "{role}"')
