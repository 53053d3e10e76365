"""What a user of the app sees and can do, by roles, default rights and claims as Supabase and PostgREST set them."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.migrations import migrate
from matching_pipeline_tests.integration.school import School, embedding

SUPABASE = """
create role anon; create role authenticated; create role service_role bypassrls;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""
APP = """
create extension vector;
create table profiles (id uuid primary key, school text, gender text, profile_type text);
create table faces (id uuid primary key, user_id uuid references profiles, image_url text, embedding vector(512));
alter table faces enable row level security;
create policy own on faces to authenticated
    using (user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
"""
NOT_THE_PIPELINES = (
    "listings",
    "listing_images",
    "products",
    "product_images",
    "profiles",
    "faces",
    "jobs",
    "projects",
)
WRITES = (
    "insert into job_queue (queue, entity_kind, entity_id) values ('faces', 'face', gen_random_uuid())",
    "update job_queue set status = 'pending'",
    "delete from job_queue",
    "insert into match_jobs (face_id) select id from faces",
    "insert into match_jobs (face_id) values ('{anns_face}') returning *",
    "insert into match_jobs (face_id) values ('{bobs_face}') returning *",
    "update match_jobs set status = 'pending'",
    "delete from match_jobs",
    "insert into matches select * from matches",
    "update matches set similarity = 1",
    "delete from matches",
    "delete from image_ai",
    "update match_settings set threshold = -1",
    "insert into embedding_models (name, modality, dimensions) values ('forged', 'image', 3)",
    "delete from matching_pipeline_migrations",
)
TRUNCATES = ("truncate job_queue", "truncate matches", "truncate image_ai")


@pytest.fixture(scope="module")
def supabase_url(new_database: Callable[..., str], server_url: str) -> Iterator[str]:
    url = new_database(name="supabase")
    with connect(url) as connection:
        connection.execute(SUPABASE)
        connection.execute(APP)
        migrate(connection)
    yield url
    with connect(server_url % "postgres") as connection:
        connection.execute("drop database supabase with (force)")
        connection.execute("drop role anon, authenticated, service_role")


class Class(School):
    """Ann and Bob match, Eve and Bob too; each has a failed job. All of it is rolled back."""

    def __init__(self, connection: Connection, database_url: str) -> None:
        super().__init__(connection, database_url)
        self.ann, self.bob, self.eve = self.user("female"), self.user("male"), self.user("female")
        self.anns_face, self.bobs_face, self.eves_face = map(self.face, (self.ann, self.bob, self.eve))
        for face in (self.anns_face, self.eves_face):
            self.run(
                """insert into matches (kind, face_a_id, face_b_id, similarity, rank_for_a, model)
                values ('face', least(%s, %s), greatest(%s, %s), 1, 1, 'faces')""",
                *(face, self.bobs_face) * 2,
            )
        self.run("update job_queue set status = 'failed', completed_at = now(), error_message = 'private'")
        self.run(
            "insert into job_queue (queue, entity_kind, entity_id) values ('image_ai', 'product', %s)", self.anns_face
        )

    @contextmanager
    def request(self, role: str, claims: str | None = None) -> Iterator[None]:
        """As PostgREST serves one: a transaction with role and claims."""
        with self.connection.transaction(force_rollback=True):
            self.connection.execute(f"set local role {role}".encode())
            if claims is not None:
                self.run("select set_config('request.jwt.claims', %s, true)", claims)
            yield

    def signed_in(self, user: UUID) -> Any:
        return self.request("authenticated", json.dumps({"sub": str(user), "role": "authenticated"}))

    def visible(self) -> tuple[set[UUID], set[UUID], set[UUID]]:
        """Faces with jobs in the queue, faces with jobs in the view, faces in matches."""
        return (
            set(self.run("select entity_id from job_queue")),
            set(self.run("select face_id from match_jobs")),
            set(self.run("select unnest(array[face_a_id, face_b_id]) from matches")),
        )

    def everything(self) -> list[Any]:
        tables = ("job_queue", "matches", "image_ai", "match_settings", "embedding_models")
        return [sorted(self.run(f"select {table}::text from {table}")) for table in tables]

    def functions(self, returns_trigger: bool) -> list[tuple[str, list[str], bool, str]]:
        """Ours: signature, its arguments as 'name type', whether it has its owner's rights, its settings."""
        return self.connection.execute(
            """select oid::regprocedure::text, array(
                    select concat(proargnames[place], ' ', format_type(type, null))
                    from unnest(proargtypes) with ordinality as argument (type, place)
                ),
                prosecdef, coalesce(proconfig::text, '')
            from pg_proc where pronamespace = 'public'::regnamespace and (prorettype = 'trigger'::regtype) = %s
              and not exists (select from pg_depend where objid = pg_proc.oid and deptype = 'e') order by 1""",
            (returns_trigger,),
        ).fetchall()


@pytest.fixture
def school(supabase_url: str) -> Iterator[Class]:
    with connect(supabase_url) as connection, connection.transaction(force_rollback=True):
        yield Class(connection, supabase_url)


def denied() -> Any:
    return pytest.raises(psycopg.errors.InsufficientPrivilege)


def test_a_user_sees_jobs_and_matches_of_their_own_faces_only(school: Class) -> None:
    with school.signed_in(school.ann):
        assert school.visible() == ({school.anns_face}, {school.anns_face}, {school.anns_face, school.bobs_face})
        assert school.run("select queue_status('faces') ->> 'failed'") == ["1"]
    with school.signed_in(school.bob):
        assert school.visible()[2] == {school.anns_face, school.bobs_face, school.eves_face}
    # as PostgREST set it before version 9
    with school.request("authenticated", '{"role": "authenticated"}'):
        school.run("select set_config('request.jwt.claim.sub', %s, true)", str(school.ann))
        assert school.visible()[0] == {school.anns_face}


def test_where_the_app_shows_all_faces_a_users_jobs_still_hold_their_own_embedding_only(school: Class) -> None:
    school.run("create policy everybody on faces for select using (true)")
    school.run("update faces set embedding = %s where id = %s", embedding(0, 1), school.anns_face)
    with school.signed_in(school.ann):
        rows = school.connection.execute("select user_id, embedding::text from match_jobs").fetchall()
        assert [(user, vector[:5]) for user, vector in rows] == [(school.ann, "[0,1,")] * len(rows)


@pytest.mark.parametrize(
    "claims",
    [None, "", "nonsense", "{", "{}", "[]", '"x"', "null", '{"sub": null}', '{"sub": ""}', '{"sub": 5}',
     '{"sub": "auth0|1"}', '{"sub": "\\u0000"}', '{"sub": ["00000000-0000-0000-0000-000000000001"]}',
     json.dumps({"sub": str(UUID(int=404))})],
)  # fmt: skip
def test_claims_without_a_user_show_nothing_and_raise_nothing(school: Class, claims: str | None) -> None:
    with school.request("authenticated", claims):
        assert school.visible() == (set(), set(), set())


def test_what_is_not_signed_in_sees_nothing(school: Class) -> None:
    for relation in ("job_queue", "match_jobs", "matches", "image_ai", "matchable_faces", "embedding_models"):
        with denied(), school.request("anon", json.dumps({"sub": str(school.ann), "role": "anon"})):
            school.run(f"select from {relation}")


@pytest.mark.parametrize("statement", [*WRITES, *TRUNCATES])
def test_no_role_of_the_api_changes_anything(school: Class, statement: str) -> None:
    for request in (school.signed_in(school.ann), school.request("anon")):
        with denied(), request:
            school.run(statement.format(**vars(school)))


def test_an_app_that_grants_its_roles_everything_opens_no_row(school: Class) -> None:
    for things in ("tables", "routines"):
        school.run(f"grant all on all {things} in schema public to anon, authenticated")
    before = school.everything()
    claims = json.dumps({"sub": str(school.ann)})
    for role in ("authenticated", "anon"):
        for statement in WRITES:
            school.run(f"set local role {role}")
            school.run("select set_config('request.jwt.claims', %s, true)", claims)
            with suppress(psycopg.errors.InsufficientPrivilege), school.connection.transaction():
                assert school.run(statement.format(**vars(school))) == []
            school.run("reset role")
            assert school.everything() == before, statement
    with school.request("anon", "{}"):
        assert school.visible() == (set(), set(), set())
    migrate(school.connection)
    for statement in TRUNCATES:
        with denied(), school.signed_in(school.ann):
            school.run(statement)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_function_lets_a_request_change_or_see_what_is_not_its_users(school: Class, role: str) -> None:
    queued = school.run("select id from job_queue")
    others = {str(school.bob), str(school.eve), str(school.bobs_face), str(school.eves_face), "private"}
    jobs_and_faces = f"'{{{school.bobs_face},{queued[0]},{queued[1]}}}'"
    by_type = {
        "text": "'faces'", "text[]": "'{}'", "uuid": f"'{queued[0]}'", "uuid[]": jobs_and_faces, "integer": "1",
        "interval": "'0'", "boolean": "true", "double precision": "-1", "vector": f"'{embedding(1)}'",
    }  # fmt: skip
    by_name = dict.fromkeys(["user_school", "block_school"], "'UIT'")
    by_name |= dict.fromkeys(["user_gender", "block_gender"], "'male'")
    before, calls = school.everything(), school.functions(returns_trigger=False)
    assert len(calls) > 20
    for signature, arguments, *_ in calls:
        named = [argument.split(" ", 1) for argument in arguments]
        given = ", ".join(f"{by_name.get(name, by_type.get(type, 'null'))}::{type}" for name, type in named)
        school.run(f"set local role {role}")
        school.run("select set_config('request.jwt.claims', %s, true)", json.dumps({"sub": str(school.ann)}))
        try:
            with school.connection.transaction():
                answer = str(
                    school.connection.execute(
                        f"select * from {signature.partition('(')[0]}({given})".encode()
                    ).fetchall()
                )
        except psycopg.Error as error:
            answer = str(error)
        assert not [secret for secret in others if secret in answer], signature
        school.run("reset role")
        assert school.everything() == before, signature
    assert school.run("select 1 from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()") == []


def test_every_function_with_its_owners_rights_is_closed_and_looks_names_up_safely(school: Class) -> None:
    for signature, _, owners_rights, settings in school.functions(True) + school.functions(False):
        if owners_rights:
            assert settings == '{"search_path=public, extensions, pg_temp"}', signature
        for role in ("anon", "authenticated"):
            may = school.run("select has_function_privilege(%s, %s, 'execute')", role, signature)
            assert not owners_rights or may == [signature == "signed_in_faces()"], signature


def test_every_table_and_view_of_the_pipeline_is_closed(school: Class) -> None:
    relations = school.connection.execute(
        """select relname, relkind, relrowsecurity, coalesce(reloptions::text, '') from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and relname <> all (%s)""",
        (list(NOT_THE_PIPELINES),),
    ).fetchall()
    for name, kind, secured, options in relations:
        assert secured if kind == "r" else "security_invoker=true" in options, name
        for role in ("anon", "authenticated"):
            rights = "select,insert,update,delete,truncate,references,trigger"
            held = [each for each in rights.split(",")
                    if school.run("select has_table_privilege(%s, %s, %s)", role, name, each) == [True]]  # fmt: skip
            seen = role == "authenticated" and name in ("job_queue", "match_jobs", "matches")
            assert held == (["select"] if seen else []), name


def test_tables_of_the_same_name_in_a_session_of_its_own_deceive_no_function(school: Class) -> None:
    with school.signed_in(school.ann):
        forge = "create temporary table forged as select %s::uuid as id, %s::uuid as user_id"
        school.run(forge, school.eves_face, school.ann)
        school.run("alter table forged rename to faces")
        school.run("create temporary table job_queue (like public.job_queue including all)")
        school.run(
            "insert into public.faces (id, user_id, embedding) values (%s, %s, %s)", uuid4(), school.ann, embedding(1)
        )
        assert school.run("select 1 from pg_temp.job_queue") == []
        assert len(school.run("select 1 from public.job_queue")) == 2
        assert school.eves_face not in school.run("select entity_id from public.job_queue")


def test_a_condition_of_the_users_own_sees_no_row_of_others(school: Class) -> None:
    heard: list[str | None] = []
    school.connection.add_notice_handler(lambda notice: heard.append(notice.message_primary))
    with school.signed_in(school.ann):
        school.run(
            "create function pg_temp.tell(id uuid) returns boolean language plpgsql cost 0.0001 "
            "as $$ begin raise notice 'tells %%', id; return true; end $$"
        )
        for relation, column in (("job_queue", "entity_id"), ("match_jobs", "face_id"), ("matches", "face_b_id")):
            school.run(f"select from {relation} where pg_temp.tell({column})")
    assert {told for told in heard if told} <= {f"tells {face}" for face in (school.anns_face, school.bobs_face)}


def test_the_service_role_inserts_jobs_and_sees_all(school: Class) -> None:
    with school.request("service_role"):
        assert school.run("insert into match_jobs (face_id) values (%s) returning status", school.bobs_face) == [
            "pending"
        ]
        assert school.visible()[1] == {school.anns_face, school.bobs_face, school.eves_face}


def test_a_users_view_of_a_long_queue_calls_no_function_a_row(school: Class) -> None:
    school.run("insert into job_queue (queue, entity_kind, entity_id) "
               "select 'faces', 'face', gen_random_uuid() from generate_series(1, 100000)")  # fmt: skip
    school.run("analyze job_queue")
    school.run("set local track_functions = 'all'")
    with school.signed_in(school.ann):
        assert school.run("select count(*) from match_jobs") == [1]
        calls = "select pg_stat_get_xact_function_calls(%s::regprocedure)"
        assert school.run(calls, "signed_in_faces()") == school.run(calls, "signed_in_user()") == [1]
        plan = "\n".join(school.run("explain select count(*) from match_jobs"))
        assert "job_queue_entity_id_idx" in plan
