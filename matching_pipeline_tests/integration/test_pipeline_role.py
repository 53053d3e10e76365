"""The role of `sql/role.sql`: what it does as itself, and what it cannot do."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
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
from matching_pipeline.matches import faces, projects
from matching_pipeline.matches.audit import audit, repair
from matching_pipeline.matches.feed import announcements
from matching_pipeline.matches.parity import sampled_parity
from matching_pipeline.models import activation
from matching_pipeline.providers.factory import WorkingModel
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import Policy, request_worker
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import picture
from matching_pipeline_tests.integration.school import School, embedding

COMMAND = Path(sys.executable).with_name("matching-pipeline")
APPS_TABLES = ("listings", "listing_images", "products", "product_images", "profiles", "faces", "jobs", "projects")
SECURE_APPS_TABLES = ";".join(f"alter table {table} enable row level security" for table in APPS_TABLES)
FORBIDDEN = (
    *(f"delete from {table}" for table in APPS_TABLES),
    *(f"truncate {table} cascade" for table in APPS_TABLES),
    "insert into listings (type) values ('project')",
    "update listings set type = 'wanted'",
    "update faces set embedding = null",
    "update profiles set id = id",
    "alter table faces add column forged text",
    "alter table job_queue disable row level security",
    "drop table matches",
    "drop function enqueue_jobs(text, text, uuid[])",
    "create table forged ()",
    "create schema forged",
    "create or replace function enqueue_missing() returns integer language sql as 'select 1'",
    "create trigger forged after delete on faces for each statement execute function faces_changed()",
    "truncate job_queue",
    "update match_settings set threshold = -1",
    "update embedding_models set dimensions = 1",
    "delete from embedding_models",
    "delete from matching_pipeline_migrations",
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


def command(folder: Path, url: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


def fill(connection: Connection, folder: Path, database_url: str) -> None:
    """A project and a product that match, two users who match, two postings, and two product pictures to make."""
    app, school = App(connection), School(connection, database_url)
    (folder / "lamp.png").write_bytes(picture("orange"))
    app.listing_image(app.listing(), (folder / "lamp.png").as_uri())
    app.product_image(app.product(), (folder / "lamp.png").as_uri())
    school.face_of("male"), school.face_of("female")
    connection.execute("insert into jobs (title) values ('Baker'), ('Welder')")
    url = (folder / "lamp.png").as_uri()
    connection.execute("insert into projects (source_image_url) values (%s), (%s)", (url, url))
    connection.execute("select enqueue_image(id, 'white_background') from projects")


def kinds(connection: Connection) -> list[Any]:
    return connection.execute("select kind, similarity from matches order by kind").fetchall()


@pytest.mark.parametrize("secured", ["never", "before", "after"])
def test_it_processes_rebuilds_listens_and_cleans_up(
    connection: Connection, no_role_is_left: None, database_url: str, tmp_path: Path, secured: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if secured == "before":
        connection.execute(SECURE_APPS_TABLES.encode())
    grant_role(connection)
    if secured == "after":
        connection.execute(SECURE_APPS_TABLES.encode())
    fill(connection, tmp_path, database_url)
    url = as_role(database_url)
    settings = Settings(database_url=url, image_file_roots=(tmp_path,), data_dir=tmp_path)
    with connect(url) as own, connect(url) as listener:
        assert isinstance(request_worker(own, registry.QUEUES, Policy("1", 3600, 2)), tuple)
        feed = announcements(listener, timeout=3)
        for queue in registry.in_use(own):
            assert +registry.process_due(settings, url, queue).counts == {"completed": 2}
        assert kinds(connection) == [("face", 1.0), ("project", 1.0)]
        assert {(told.kind, len(told.pairs)) for told in feed} == {("face", 1), ("project", 1)}
        assert projects.rebuild(own).unchanged == faces.rebuild(own).unchanged == 1
        connection.execute("delete from matches")
        assert projects.rebuild(own).added == faces.rebuild(own).added == 1
        assert sampled_parity(own, "project", 5, seed=1).equal == 1
        connection.execute("update matches set similarity = 0.9")
        assert len(list(repair(own, audit(own)))) == 2
        assert audit(own).faults == []
        assert client.status(own, registry.FACES)["failed"] == 0
        activation.add(own, WorkingModel("other", 3), "image")
        activation.activate(own, "other", force=True)
        activation.activate(own, "local-visual-1")
        activation.retire(own, "other")

        connection.execute("update job_queue set completed_at = now() - interval '1 year' where status = 'completed'")
        for name, value in (("DATABASE_URL", url), ("IMAGE_FILE_ROOTS", str(tmp_path))):
            monkeypatch.setenv(name, value)
        assert cleanup.execute_in_process(resources={"pipeline": Pipeline()}).success
    assert connection.execute("select count(*) from image_ai").fetchone() == (2,)
    assert connection.execute("select from job_queue where status = 'completed'").fetchall() == []


def test_what_the_app_deletes_goes_and_what_fails_can_be_retried(
    connection: Connection, role_url: str, database_url: str, tmp_path: Path
) -> None:
    fill(connection, tmp_path, database_url)
    connection.execute("update product_images set src = 'file:///nowhere'")
    settings = Settings(database_url=role_url, image_file_roots=(tmp_path,))
    assert +registry.process_due(settings, role_url, registry.IMAGE_AI).counts == {"completed": 1, "failed": 1}
    assert "nowhere" in command(tmp_path, role_url, "status").stdout
    assert "1 jobs are pending again" in command(tmp_path, role_url, "retry", "image_ai", "--all").stderr
    assert "1 added" in command(tmp_path, role_url, "rebuild").stderr
    connection.execute("delete from profiles")
    assert connection.execute("select count(*) from job_queue where queue = 'faces'").fetchone() == (0,)


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
        assert own.execute("select count(*) from faces").fetchone() == (2,)
        if secured:
            # it may lock a row, for which it holds the right to update its id
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                own.execute("update faces set id = gen_random_uuid()")


def test_the_file_can_be_run_again_and_after_migrating_again(connection: Connection, role_url: str) -> None:
    state = b"""select relname, relacl::text, array(select polname from pg_policy where polrelid = pg_class.oid)
        from pg_class where relnamespace = 'public'::regnamespace order by relname"""
    before = connection.execute(state).fetchall()
    grant_role(connection)
    migrate(connection)
    grant_role(connection)
    assert connection.execute(state).fetchall() == before


def test_migrate_says_whose_right_it_lacks_and_dev_works_with_what_is_there(
    connection: Connection, dagster_tables: None, role_url: str, database_url: str, tmp_path: Path
) -> None:
    refused = command(tmp_path, role_url, "migrate")
    assert refused.returncode == 1
    assert refused.stderr == (
        "matching-pipeline: DATABASE_URL: its role matching_pipeline does not own the pipeline's tables: "
        "migrate as postgres\n"
    )
    school = School(connection, database_url)
    school.face_of("male"), school.face_of("female")
    done = command(tmp_path, role_url, "dev", "--until-idle", "--port", "0")
    assert done.returncode == 0, done.stderr
    assert len(school.pairs()) == 1
    assert connection.execute("select count(*) > 0 from dagster.runs where status = 'SUCCESS'").fetchone() == (True,)
    connection.execute("delete from matching_pipeline_migrations where name = '0005_faces'")
    lacking = command(tmp_path, role_url, "dev", "--until-idle")
    assert (lacking.returncode, "lacks the migrations 0005_faces" in lacking.stderr) == (1, True)


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
        runs = [cleanup.execute_in_process(instance=instance, resources={"pipeline": Pipeline()}) for _ in range(2)]
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
        for _ in range(2):
            migrate(connection)
            grant_role(connection)
        school = School(connection, url)
        school.face_of("male"), school.face(school.user("female"), (1, 1))
        assert school.process().completed == 2
        assert len(school.pairs()) == 1
        with connect(url) as own:
            found = "select similarity from find_similar_faces_filtered(%s, 'UIT', 'male')"
            assert len(own.execute(found.encode(), (embedding(1),)).fetchall()) == 1
