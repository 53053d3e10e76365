"""The role of `sql/role.sql`: what it does as itself, and what it cannot do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from uuid import uuid4

import dagster as dg
import psycopg
import pytest

from matching_pipeline.components.instance import create_instance_tables, instance_url
from matching_pipeline.components.maintenance import cleanup
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.files import ROOT
from matching_pipeline.db.migrations import migrate
from matching_pipeline.handlers import registry
from matching_pipeline.matches.audit import audit, repair
from matching_pipeline.matches.feed import announcements
from matching_pipeline.matches.parity import sampled_parity
from matching_pipeline.models import activation
from matching_pipeline.providers.factory import WorkingModel
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import WorkerPolicy, request_worker
from matching_pipeline.settings import Settings
from matching_pipeline.sources.attach import attach, make_example_tables
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.command import end_processes, run_command
from matching_pipeline_tests.fixtures.pictures import picture
from matching_pipeline_tests.integration.marketplace import PROJECT, PROJECT_RULE
from matching_pipeline_tests.integration.school import FACE, FACE_RULE, School

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
SECURE_APPS_TABLES = ";".join(f"alter table public.{table} enable row level security" for table in APPS_TABLES)
FORBIDDEN = (
    *(f"select from public.{table}" for table in APPS_TABLES),
    *(f"delete from public.{table}" for table in APPS_TABLES),
    *(f"truncate public.{table} cascade" for table in APPS_TABLES),
    "select from public.faces for update",
    "insert into listings (type) values ('project')",
    "update listings set type = 'wanted'",
    "update faces set embedding = null",
    "update projects set status = 'COMPLETED'",
    "alter table faces add column forged text",
    "alter table matching_pipeline.jobs disable row level security",
    "drop table matching_pipeline.matches",
    "drop function matching_pipeline.enqueue_jobs(text, text, text, text[], boolean)",
    "create table forged ()",
    "create table matching_pipeline.forged ()",
    "create schema forged",
    "create or replace function matching_pipeline.skips_matching() returns boolean language sql as 'select true'",
    "create trigger forged after delete on faces execute function matching_pipeline.matches_lost()",
    "truncate matching_pipeline.jobs",
    "update matching_pipeline.match_settings set threshold = -1",
    "update matching_pipeline.embedding_models set modality = 'text'",
    "delete from matching_pipeline.embedding_models",
    "delete from matching_pipeline.migrations",
    'update matching_pipeline.sources set reads = \'{"entity": "select * from secrets"}\'',
    "insert into matching_pipeline.sources (name, declaration, reads) values ('forged', '{}', '{}')",
    'update matching_pipeline.publications set statements = \'{"lost": "drop table secrets"}\'',
    "insert into matching_pipeline.publications (matcher, statements) values ('face', '{}')",
    "select matching_pipeline.attach_publication('face')",
    "insert into matching_pipeline.queues (name, work) values ('forged', 'image')",
    "select matching_pipeline.attach_source('{}', '{}', '{}')",
    "select matching_pipeline.detach_source('face', true)",
    "select matching_pipeline.lock_entity_row('face', gen_random_uuid()::text, true)",
    "select matching_pipeline.write_status('studio_project', gen_random_uuid()::text, 'completed')",
    "select matching_pipeline.own_row('face', gen_random_uuid()::text)",
    "select * from secrets",
    "drop table dagster.runs",
    "create table dagster.forged ()",
)


def grant_role(connection: Connection) -> None:
    connection.execute((ROOT / "sql/role.sql").read_bytes())
    connection.execute("alter role matching_pipeline login")


def as_role(database_url: str) -> str:
    return f"{database_url}&user=matching_pipeline"


@pytest.fixture
def no_role_is_left(connection: Connection) -> Iterator[None]:
    """Roles are the whole server's."""
    yield
    connection.execute("drop owned by matching_pipeline; drop role matching_pipeline")


@pytest.fixture
def role_url(connection: Connection, no_role_is_left: None, database_url: str) -> str:
    """Logs in as the role."""
    grant_role(connection)
    return as_role(database_url)


@pytest.fixture
def dagster_tables(connection: Connection, database_url: str) -> None:
    connection.execute("create schema dagster")
    create_instance_tables(instance_url(database_url))


def command(folder: Path, url: str, *arguments: str) -> "CompletedProcess[str]":
    return run_command(folder, *arguments, DATABASE_URL=url)


def fill(connection: Connection, folder: Path, database_url: str) -> None:
    """A project and a product that match, two users who match, two postings, and two product pictures to make."""
    app, school = App(connection), School(connection, database_url)
    (folder / "lamp.png").write_bytes(picture("orange"))
    app.listing_image(app.listing(), (folder / "lamp.png").as_uri())
    app.product_image(app.product(), (folder / "lamp.png").as_uri())
    school.face_of("male"), school.face_of("female")
    connection.execute("insert into public.jobs (title) values ('Baker'), ('Welder')")
    url = (folder / "lamp.png").as_uri()
    connection.execute("insert into projects (source_image_url) values (%s), (%s)", (url, url))
    connection.execute("select enqueue_image(id, 'white_background') from projects")


def held_rights(connection: Connection) -> list[str]:
    """The app's tables on which the role has some right."""
    return [
        table
        for (table,) in connection.execute(
            """select relname from pg_class
            where relname = any (%s) and relnamespace = 'public'::regnamespace and (
                has_table_privilege('matching_pipeline', oid, 'delete, truncate, trigger')
                or has_any_column_privilege('matching_pipeline', oid, 'select, insert, update, references')
            )""",
            (list(APPS_TABLES),),
        )
    ]


def kinds(connection: Connection) -> list[Any]:
    return connection.execute(
        "select case when face_a_id is null then 'project' else 'face' end, similarity from matches order by 1"
    ).fetchall()


@pytest.mark.parametrize("secured", ["never", "before", "after"])
def test_without_a_right_on_the_apps_tables_it_processes_rebuilds_listens_and_cleans_up(
    connection: Connection, no_role_is_left: None, database_url: str, tmp_path: Path, secured: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if secured == "before":
        connection.execute(SECURE_APPS_TABLES.encode())
    grant_role(connection)
    if secured == "after":
        connection.execute(SECURE_APPS_TABLES.encode())
    assert held_rights(connection) == []
    fill(connection, tmp_path, database_url)
    url = as_role(database_url)
    settings = Settings(database_url=url, image_file_roots=(tmp_path,), data_dir=tmp_path)
    with connect(url) as own, connect(url) as listener:
        assert isinstance(request_worker(own, registry.queues(EXAMPLES), WorkerPolicy("1", 3600, 2)), tuple)
        feed = announcements(listener, timeout=3)
        for queue in registry.in_use(own, EXAMPLES):
            # the app's tables took all pairs at once
            done = {} if queue == "publishing" else {"completed": 2}
            assert +registry.process_due(settings, url, EXAMPLES, queue).counts == done
        assert connection.execute("select distinct status from projects").fetchall() == [("COMPLETED",)]
        assert kinds(connection) == [("face", 1.0), ("project", 1.0)]
        assert {(told.matcher, len(told.best)) for told in feed} == {("face", 1), ("project", 1)}
        assert PROJECT.rebuild(own).unchanged == FACE.rebuild(own).unchanged == 1
        connection.execute("delete from matching_pipeline.matches")
        assert PROJECT.rebuild(own).added == FACE.rebuild(own).added == 1
        assert sampled_parity(own, PROJECT_RULE, 5, seed=1).equal == 1
        connection.execute("update matching_pipeline.matches set similarity = 0.9")
        assert len(list(repair(own, EXAMPLES, audit(own, EXAMPLES)))) == 2
        assert audit(own, EXAMPLES).faults == []
        assert client.status(own, FACE_RULE.queue)["failed"] == 0
        activation.add(own, WorkingModel("other", 3), "image")
        activation.activate(own, "other", activation.Options(force=True, accept_loss=True))
        activation.activate(own, "local-visual-2")
        activation.retire(own, "other")

        connection.execute("update matching_pipeline.sources set compared_at = now() - interval '1 week'")
        connection.execute(
            "update matching_pipeline.jobs set completed_at = now() - interval '1 year' where status = 'completed'"
        )
        for name, value in (("DATABASE_URL", url), ("IMAGE_FILE_ROOTS", str(tmp_path))):
            monkeypatch.setenv(name, value)
        assert cleanup.execute_in_process(resources={"pipeline": Pipeline(definitions_dir=None)}).success
    assert connection.execute("select count(*) from image_ai").fetchone() == (2,)
    assert connection.execute("select from job_queue where status = 'completed'").fetchall() == []


def test_what_the_app_deletes_goes_and_what_fails_can_be_retried(
    connection: Connection, role_url: str, database_url: str, tmp_path: Path
) -> None:
    fill(connection, tmp_path, database_url)
    connection.execute("update product_images set src = 'file:///nowhere'")
    settings = Settings(database_url=role_url, image_file_roots=(tmp_path,))
    assert +registry.process_due(settings, role_url, EXAMPLES, "image_ai").counts == {"completed": 1, "failed": 1}
    assert "nowhere" in command(tmp_path, role_url, "status").stdout
    assert "1 jobs are pending again" in command(tmp_path, role_url, "retry", "image_ai", "--all").stderr
    assert +registry.process_due(settings, role_url, EXAMPLES, FACE_RULE.queue).counts == {"completed": 2}
    assert "1 unchanged" in command(tmp_path, role_url, "rebuild").stderr
    connection.execute("delete from profiles")
    assert connection.execute("select from match_jobs").fetchall() == kinds(connection) == []


@pytest.mark.parametrize("secured", [False, True])
def test_it_can_do_nothing_else(
    connection: Connection, dagster_tables: None, role_url: str, secured: bool, database_url: str, tmp_path: Path
) -> None:
    fill(connection, tmp_path, database_url)
    connection.execute("create table secrets ()")
    if secured:
        connection.execute(SECURE_APPS_TABLES.encode())
    with connect(role_url) as own:
        for statement in FORBIDDEN:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute(statement.encode())


def test_the_file_can_be_run_again_and_after_migrating_again(connection: Connection, role_url: str) -> None:
    state = b"""
        select oid::regclass::text, relacl::text, array(select polname from pg_policy where polrelid = pg_class.oid)
        from pg_class where relnamespace in ('public'::regnamespace, 'matching_pipeline'::regnamespace)
        union all
        select oid::regprocedure::text, proacl::text, '{}'
        from pg_proc where pronamespace = 'matching_pipeline'::regnamespace
        order by 1
    """
    before = connection.execute(state).fetchall()
    grant_role(connection)
    migrate(connection)
    attach(connection, EXAMPLES)
    assert connection.execute(state).fetchall() == before
    grant_role(connection)
    assert connection.execute(state).fetchall() == before


@pytest.fixture
def ended_folder(tmp_path: Path) -> Iterator[Path]:
    """No process works in it after the test."""
    yield tmp_path
    end_processes(tmp_path)


def test_migrate_says_whose_right_it_lacks_and_dev_works_with_what_is_there(
    connection: Connection, dagster_tables: None, role_url: str, database_url: str, ended_folder: Path
) -> None:
    refused = command(ended_folder, role_url, "migrate")
    assert refused.returncode == 1
    assert refused.stderr == (
        "matching-pipeline: DATABASE_URL: its role matching_pipeline does not own the pipeline's tables: "
        "migrate as postgres\n"
    )
    school = School(connection, database_url)
    school.face_of("male"), school.face_of("female")
    done = command(ended_folder, role_url, "dev", "--until-idle", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert len(school.pairs()) == 1
    assert connection.execute("select count(*) > 0 from dagster.runs where status = 'SUCCESS'").fetchone() == (True,)
    connection.execute("delete from matching_pipeline.migrations where name = '0003_matches'")
    lacking = command(ended_folder, role_url, "dev", "--until-idle")
    assert (lacking.returncode, "lacks the migrations 0003_matches" in lacking.stderr) == (1, True)


@pytest.mark.parametrize("way", ["user=matching_pipeline", "options=-c%20role%3Dmatching_pipeline"])
def test_dagster_keeps_and_deletes_its_runs_with_the_roles_rights(
    dagster_tables: None, role_url: str, database_url: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{database_url}&{way}"
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    environment = {
        "DAGSTER_HOME": str(tmp_path), "DAGSTER_POSTGRES_URL": instance_url(url), "DATABASE_URL": url,
        "KEEP_DAGSTER_RUNS_DAYS": "0",
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.get() as instance:
        runs = [
            cleanup.execute_in_process(instance=instance, resources={"pipeline": Pipeline(definitions_dir=None)})
            for _ in range(2)
        ]
        assert all(run.success for run in runs)
        assert [run.run_id for run in instance.get_runs()] == [runs[1].run_id]
        assert instance.all_logs(runs[1].run_id)
        instance.add_dynamic_partitions("day", ["today"])
        instance.run_storage.set_cursor_values({"key": "value"})
        assert instance.get_dynamic_partitions("day") == ["today"]


@pytest.fixture
def owner_url(new_database: Callable[..., str]) -> Iterator[str]:
    """An owner with no more rights than a cloud gives, and pgvector in a schema that only some roles search."""
    url, owner = new_database(), f"owner_{uuid4().hex}"
    with connect(url) as connection:
        connection.execute(
            f"""create role {owner} login createrole;
            create schema extensions authorization {owner}; create extension vector schema extensions;
            grant all on schema public to {owner};
            alter role {owner} set search_path = "$user", public, extensions""".encode()
        )
        connection.execute(f"alter database {connection.info.dbname} owner to {owner}".encode())
        yield f"{url}&user={owner}"
        connection.execute("drop owned by matching_pipeline; drop role matching_pipeline")


def test_an_owner_without_superpowers_makes_it(owner_url: str) -> None:
    url = as_role(owner_url.partition("&")[0])
    with connect(owner_url) as connection:
        connection.execute("create schema dagster")
        make_example_tables(connection)
        for _ in range(2):
            migrate(connection)
            attach(connection, EXAMPLES)
            grant_role(connection)
        connection.execute("delete from matching_pipeline.jobs")
        school = School(connection, url)
        school.face_of("male"), school.face(school.user("female"), (1, 1))
        assert school.process().completed == 2
        assert len(school.pairs()) == 1
