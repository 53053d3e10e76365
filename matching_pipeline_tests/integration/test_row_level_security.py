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
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.school import School, embedding

SUPABASE = """
create role anon; create role authenticated; create role service_role bypassrls;
create schema extensions; create extension vector schema extensions;
grant usage on schema extensions to anon, authenticated, service_role;
grant usage on schema public to anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to anon, authenticated, service_role;
"""
APP = """
alter table faces enable row level security;
create policy own on faces to authenticated
    using (user_id = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
"""
APPS_TABLES = (
    "listings",
    "listing_images",
    "products",
    "product_images",
    "profiles",
    "faces",
    "jobs",
    "projects",
    "matches",
)
WRITES = (
    "insert into job_queue (queue, entity_kind, entity_id) values ('matches_face', 'face', '{bobs_face}')",
    "insert into job_queue (entity_kind, entity_id) values ('complete_pack', '{project}') returning *",
    "update job_queue set status = 'pending'",
    "delete from job_queue",
    "insert into match_jobs (face_id) select id from faces",
    "insert into match_jobs (face_id) values ('{anns_face}') returning *",
    "insert into match_jobs (face_id) values ('{bobs_face}') returning *",
    "update match_jobs set status = 'pending'",
    "delete from match_jobs",
    "insert into embedding_queue (job_id) select id from jobs",
    "insert into embedding_queue (job_id) values ('{posting}') returning *",
    "update embedding_queue set processed_at = null, error_message = null",
    "delete from embedding_queue",
    "select enqueue_complete_pack('{project}')",
    "select enqueue_image('{project}', 'scale')",
    "select enqueue_product_images('{product}')",
    "select retry_jobs('generated_images')",
    "select get_next_job()",
    "insert into matching_pipeline.matches select * from matching_pipeline.matches",
    "update matching_pipeline.matches set similarity = 1",
    "delete from matching_pipeline.embeddings",
    "insert into matching_pipeline.jobs (queue, source, key) values ('matches_face', 'face', '{bobs_face}')",
    "update matching_pipeline.jobs set status = 'pending'",
    "delete from matching_pipeline.matches",
    "update matching_pipeline.match_settings set threshold = -1",
    "insert into matching_pipeline.embedding_models (name, modality, dimensions) values ('forged', 'image', 3)",
    "delete from matching_pipeline.migrations",
    "update matching_pipeline.sources set queues = '{{}}'",
    "select matching_pipeline.detach_source('face', true)",
    "select matching_pipeline.request_pictures('generated_images', 'studio_project', 'single', '{project}', null)",
    "select matching_pipeline.enqueue_jobs('matches_face', 'face', 'entity', array['{anns_face}'])",
    "select matching_pipeline.read_source('face', 'entity', array['{bobs_face}'])",
)
OPEN = {
    "own_entities": ["authenticated"],
    "own_sides": ["authenticated"],
    "own_row": ["authenticated"],
    "read_source": ["service_role"],
    "paused_until": ["authenticated", "service_role"],
    "request_pictures": ["service_role"],
    "enqueue_entity": ["service_role"],
    "find_similar": ["service_role"],
    "find_similar_images": ["service_role"],
}
"""The functions with their owner's rights that a role of the API may execute."""
SEEN = (
    *("public.job_queue", "public.match_jobs"),
    *("matching_pipeline.jobs", "matching_pipeline.matches", "matching_pipeline.queues"),
)
"""A signed-in user may read their own rows of these, and all queues."""
TRUNCATES = ("truncate matching_pipeline.jobs", "truncate matching_pipeline.matches")


@pytest.fixture(scope="module")
def supabase_url(new_database: Callable[..., str], server_url: str) -> Iterator[str]:
    url = new_database(name="supabase")
    with connect(url) as connection:
        connection.execute(SUPABASE)
        migrate(connection)
    with connect(url) as connection:
        make_example_tables(connection)
        connection.execute(APP)
        attach(connection, EXAMPLES)
        connection.execute("delete from matching_pipeline.jobs")
    yield url
    with connect(server_url % "postgres") as connection:
        connection.execute("drop database supabase with (force)")
        connection.execute("drop role anon, authenticated, service_role")


class Class(School):
    """Ann and Bob match, Eve and Bob too; each has a failed job. There are a project, a product and a posting.

    All of it is rolled back."""

    def __init__(self, connection: Connection, database_url: str) -> None:
        super().__init__(connection, database_url)
        self.ann, self.bob, self.eve = self.user("female"), self.user("male"), self.user("female")
        (self.project,) = self.run("insert into projects (source_image_url) values ('file:///given') returning id")
        (self.product,) = self.run("insert into products default values returning id")
        self.run("insert into product_images (product_id, src) values (%s, 'file:///given')", self.product)
        (self.posting,) = self.run("insert into public.jobs (title) values ('Baker') returning id")
        self.settle()
        self.anns_face, self.bobs_face, self.eves_face = map(self.face, (self.ann, self.bob, self.eve))
        for one, other in ((self.anns_face, self.bobs_face), (self.bobs_face, self.eves_face)):
            self.run(
                """insert into matching_pipeline.matches (matcher, left_id, right_id, left_key, right_key, left_item,
                    right_item, similarity, left_rank, model)
                values ('face', %s, %s, %s, %s, %s, %s, 1, 1, 'face')""",
                *(one, other, str(one), str(other), one, other),
            )
        self.run(
            "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'private'"
        )
        # of a product that has the key of a face
        self.run(
            "insert into matching_pipeline.jobs (queue, source, kind, key) "
            "values ('image_ai', 'product', 'item', %s)",
            str(self.anns_face),
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
            set(self.run("select unnest(array[left_id, right_id]) from matching_pipeline.matches")),
        )

    def everything(self) -> list[Any]:
        return [sorted(self.run(f"select {table}::text from matching_pipeline.{table}")) for table in self.tables()]

    def tables(self) -> list[str]:
        return self.run(
            "select relname from pg_class where relnamespace = 'matching_pipeline'::regnamespace and relkind = 'r'"
        )

    def functions(self, returns_trigger: bool) -> list[tuple[str, list[str], bool, str]]:
        """Ours: signature, its arguments as 'name type', whether it has its owner's rights, its settings."""
        return self.connection.execute(
            """select format('%%I.%%I(%%s)', nspname, proname, oidvectortypes(proargtypes)), array(
                    select concat(proargnames[place], ' ', format_type(type, null))
                    from unnest(proargtypes) with ordinality as argument (type, place)
                ),
                prosecdef, coalesce(proconfig::text, '')
            from pg_proc join pg_namespace on pg_namespace.oid = pronamespace
            where nspname in ('public', 'matching_pipeline') and (prorettype = 'trigger'::regtype) = %s order by 1""",
            (returns_trigger,),
        ).fetchall()


@pytest.fixture
def school(supabase_url: str) -> Iterator[Class]:
    with connect(supabase_url) as connection, connection.transaction(force_rollback=True):
        yield Class(connection, supabase_url)


def denied() -> Any:
    return pytest.raises(psycopg.errors.InsufficientPrivilege)


def test_a_pending_job_shows_the_user_and_the_embedding_of_its_face_to_its_user_only(school: Class) -> None:
    school.run("update matching_pipeline.jobs set status = 'pending', completed_at = null")
    seen = "select face_id, user_id, embedding::text from match_jobs"
    own = (school.anns_face, school.ann, embedding(1).replace(" ", "").replace(".0", ""))
    with school.signed_in(school.ann):
        assert school.connection.execute(seen).fetchall() == [own]
        assert school.run("select matching_pipeline.own_row('face', %s)", str(school.bobs_face)) == []
    # a role that a policy of the app's lets see all jobs still sees the user and the embedding of its own faces only
    school.run("create policy moderators on matching_pipeline.jobs for select to authenticated using (true)")
    with school.signed_in(school.ann):
        assert dict(school.connection.execute("select face_id, user_id from match_jobs").fetchall()) == {
            school.anns_face: school.ann, school.bobs_face: None, school.eves_face: None,
        }  # fmt: skip
    with school.request("authenticated"):
        assert set(school.run("select user_id from match_jobs")) == {None}
    with school.request("service_role"):
        assert own in school.connection.execute(seen).fetchall()


def test_a_row_that_cannot_be_read_hides_no_job(school: Class) -> None:
    school.run("alter table faces rename column embedding to vector")
    with school.signed_in(school.ann):
        rows = school.connection.execute("select face_id, user_id, status, error_message from match_jobs").fetchall()
        assert rows == [(school.anns_face, None, "failed", "private")]


def test_a_user_sees_jobs_and_matches_of_their_own_faces_only(school: Class) -> None:
    with school.signed_in(school.ann):
        assert school.visible() == ({school.anns_face}, {school.anns_face}, {school.anns_face, school.bobs_face})
        assert school.run("select queue_status('matches_face') ->> 'failed'") == ["1"]
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
    for relation in (
        "job_queue",
        "match_jobs",
        "matching_pipeline.matches",
        "image_ai",
        "matching_pipeline.embedding_models",
    ):
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
    with denied(), school.request("anon", "{}"):
        school.visible()
    migrate(school.connection)
    for statement in TRUNCATES:
        with denied(), school.signed_in(school.ann):
            school.run(statement)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_no_function_lets_a_request_change_or_see_what_is_not_its_users(school: Class, role: str) -> None:
    queued = school.run("select id from job_queue")
    others = {str(school.bob), str(school.eve), str(school.eves_face), "private"}
    jobs_and_faces = f"'{{{school.bobs_face},{queued[0]},{queued[1]}}}'"
    by_type = {
        "text": f"'{school.eves_face}'", "text[]": jobs_and_faces, "uuid": f"'{queued[0]}'", "uuid[]": jobs_and_faces,
        "integer": "1", "bigint": "1", "interval": "'0'", "boolean": "true", "double precision": "-1",
        "jsonb": "'{}'", "extensions.vector": f"'{embedding(1)}'",
    }  # fmt: skip
    by_name = {
        "user_school": "'UIT'", "user_gender": "'male'", "source_name": "'face'", "queue_name": "'matches_face'",
        "main_queue": "'matches_face'", "matcher_name": "'face'", "job_kind": "'entity'", "of_schema": "'public'",
    }  # fmt: skip
    before, calls = school.everything(), school.functions(returns_trigger=False)
    assert len(calls) > 60
    for signature, arguments, *_ in calls:
        if "key_id" in signature:
            continue  # it answers with what it was given
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
        if signature.startswith("matching_pipeline."):
            assert "search_path=matching_pipeline, extensions, pg_temp" in settings or not owners_rights, signature
            may = [
                role
                for role in ("anon", "authenticated", "service_role")
                if school.run("select has_function_privilege(%s, %s, 'execute')", role, signature) == [True]
            ]
            assert not owners_rights or may == OPEN.get(signature.partition("(")[0].partition(".")[2], []), signature
        else:
            assert not owners_rights, signature


def test_every_table_and_view_of_the_pipeline_is_closed(school: Class) -> None:
    relations = school.connection.execute(
        """select format('%%s.%%s', relnamespace::regnamespace, relname), relkind, relrowsecurity,
            coalesce(reloptions::text, '')
        from pg_class
        where relkind in ('r', 'v') and (
            relnamespace = 'matching_pipeline'::regnamespace
            or (relnamespace = 'public'::regnamespace and relname <> all (%s))
        )""",
        (list(APPS_TABLES),),
    ).fetchall()
    assert len(relations) > 25
    for name, kind, secured, options in relations:
        assert secured if kind == "r" else "security_invoker=true" in options, name
        for role in ("anon", "authenticated"):
            rights = "select,insert,update,delete,truncate,references,trigger"
            held = [each for each in rights.split(",")
                    if school.run("select has_table_privilege(%s, %s, %s)", role, name, each) == [True]]  # fmt: skip
            seen = role == "authenticated" and name in SEEN
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
        for relation, column in (
            ("job_queue", "entity_id"),
            ("match_jobs", "face_id"),
            ("matching_pipeline.matches", "right_id"),
        ):
            school.run(f"select from {relation} where pg_temp.tell({column})")
    # the columns that a matcher does not fill have NULL, which tells nothing
    assert {told for told in heard if told} <= {
        f"tells {face}" for face in (school.anns_face, school.bobs_face, "<NULL>")
    }


def test_the_service_role_inserts_jobs_and_sees_all(school: Class) -> None:
    with school.request("service_role"):
        assert school.run("insert into match_jobs (face_id) values (%s) returning status", school.bobs_face) == [
            "pending"
        ]
        assert school.visible()[1] == {school.anns_face, school.bobs_face, school.eves_face}


def test_a_users_view_of_a_long_queue_calls_no_function_a_row(school: Class) -> None:
    school.run("insert into matching_pipeline.jobs (queue, source, key) "
               "select 'matches_face', 'face', gen_random_uuid() from generate_series(1, 100000)")  # fmt: skip
    school.run("analyze matching_pipeline.jobs")
    school.run("set local track_functions = 'all'")
    with school.signed_in(school.ann):
        assert school.run("select count(*) from match_jobs") == [1]
        calls = "select pg_stat_get_xact_function_calls(%s::regprocedure)"
        assert school.run(calls, "matching_pipeline.own_entities()") == [2]
        assert school.run(calls, "matching_pipeline.shown_row(text, text)") == [None]
        plan = "\n".join(school.run("explain select count(*) from match_jobs"))
        assert "jobs_key_idx" in plan


def test_a_users_view_of_many_matches_is_served_by_indexes(school: Class) -> None:
    school.run(
        """insert into matching_pipeline.matches (matcher, left_id, right_id, left_key, right_key, left_item,
            right_item, similarity, left_rank, model)
        select 'face', one, other, one::text, other::text, one, other, 1, 1, 'face'
        from (select gen_random_uuid() as one, gen_random_uuid() as other from generate_series(1, 20000)) as pairs"""
    )
    school.run("analyze matching_pipeline.matches")
    with school.signed_in(school.ann):
        plan = "\n".join(school.run("explain select * from matching_pipeline.matches"))
    assert "Seq Scan" not in plan
    assert "matches_left_right_key" in plan
    assert "matches_right_id_idx" in plan
