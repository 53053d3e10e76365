"""The `matching-pipeline` command as a person runs it: what it prints, and its exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import click
import pytest

from matching_pipeline.cli.main import cli
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline_tests.fixtures.app import App, MatchedPair
from matching_pipeline_tests.fixtures.pictures import picture

COMMAND = Path(sys.executable).with_name("matching-pipeline")

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    """Runs the command in an empty folder, which is also where pictures may be read from."""

    def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        settings = {"DATABASE_URL": database_url, "IMAGE_FILE_ROOTS": str(tmp_path), **environment}
        return subprocess.run(
            [COMMAND, *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def lamp_url(tmp_path: Path) -> str:
    (tmp_path / "lamp.png").write_bytes(picture("orange"))
    return (tmp_path / "lamp.png").as_uri()


def refuses(result: "subprocess.CompletedProcess[str]", *messages: str, status: int = 1) -> None:
    """Exit status, and one message that a person can act on."""
    assert result.returncode == status, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    for message in messages:
        assert message in result.stderr


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_every_command_explains_itself(name: str | None) -> None:
    command: click.Command = cli if name is None else cli.commands[name]
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0


def test_help_is_there_at_once(run: Run) -> None:
    result = run("--help")
    assert result.returncode == 0
    assert "Usage: matching-pipeline" in result.stdout
    heavy = "import sys, matching_pipeline.cli; print({'dagster', 'skimage', 'openai'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True).stdout == "set()\n"


def test_migrate_brings_the_schema_up_to_date_and_others_ask_for_it(
    run: Run, new_database: Callable[..., str]
) -> None:
    url = new_database()
    refuses(run("status", DATABASE_URL=url), "run `matching-pipeline migrate`")
    first, second = run("migrate", DATABASE_URL=url), run("migrate", DATABASE_URL=url)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "applied 0001_app_tables" in first.stderr
    assert "the schema is up to date" in second.stderr
    with connect(url) as connection:
        assert App(connection).run("select to_regclass('dagster.runs') is not null") == [True]


def test_a_role_without_rights_is_told_so(run: Run, app: App, database_url: str) -> None:
    role = f"stranger_{uuid4().hex}"
    app.run(f"create role {role} login")
    refuses(run("status", DATABASE_URL=f"{database_url}&user={role}"), "DATABASE_URL", "permission denied for")


def test_status_is_a_table_for_people_and_json_for_programs(run: Run, app: App) -> None:
    app.product_image(app.product())
    app.listing()
    app.run("insert into jobs (title) values ('Baker')")
    state = json.loads(run("status", "--json").stdout)
    assert state["image_ai"]["pending"] == 1
    coverage = state["image_ai"]["coverage"]
    assert (coverage["rows"], coverage["covered"], coverage["waiting"]) == (1, 0, 1)
    table = run("status")
    assert table.returncode == 0
    assert "0 of 1 images" in table.stdout
    assert "0 of 1 postings" in table.stdout
    assert "0 of 1 projects have matches" in table.stdout


def test_process_analyses_and_matches_here_and_now(run: Run, app: App, lamp_url: str) -> None:
    project, product = app.listing(), app.product()
    images = {app.listing_image(project, lamp_url), app.product_image(product, lamp_url)}
    app.settle()
    result = run("process", "--project", project, "--product", product)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0] == "2 images and postings queued"
    assert "image_ai: 2 of 2" in lines
    assert any(line.startswith("image_ai: 2 jobs, 0 failed") for line in lines)
    assert app.analysed() == images
    assert app.matched() == {project}


def test_process_says_which_worker_it_waits_for_and_until_when(
    app: App, connection: Connection, lamp_url: str, tmp_path: Path, database_url: str
) -> None:
    app.product_image(app.product(), lamp_url)
    client.claim(connection, "image_ai", 1, timedelta(minutes=5))  # and never returns
    (until,) = app.run("select to_char(run_at at time zone 'utc', 'HH24:MI:SS') from job_queue")
    settings = {"DATABASE_URL": database_url, "IMAGE_FILE_ROOTS": str(tmp_path)}
    with subprocess.Popen(
        [COMMAND, "process", "--missing"],
        cwd=tmp_path, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        waiting = f"image_ai: waiting for 1 jobs that another worker has leased until {until} UTC\n"
        assert waiting in iter(process.stderr.readline, "")
        app.run("update job_queue set run_at = now()")
        assert waiting not in process.stderr.read()
    assert process.returncode == 0
    assert app.run("select count(*) from image_ai") == [1]


def test_process_missing_says_what_failed_and_retry_makes_it_pending_again(run: Run, app: App, lamp_url: str) -> None:
    good, bad = app.product_image(app.product(), lamp_url), app.product_image(app.product(), f"{lamp_url}.gone")
    app.settle()
    result = run("process", "--missing")
    refuses(result, "2 images and postings queued", "image_ai: 2 jobs, 1 failed", "what failed and why")
    assert app.analysed() == {good}
    shown = run("status").stdout
    assert "no such file" in shown
    assert str(bad) in shown
    (failed,) = app.run("select id from job_queue where entity_id = %s", bad)
    for arguments in ([failed], ["--all"]):
        app.run(
            "update job_queue set status = 'failed', completed_at = now(), error_message = 'x' where id = %s", failed
        )
        assert "1 jobs are pending again" in run("retry", "image_ai", *arguments).stderr
        assert app.status(bad)[0] == "pending"


def test_retry_names_ids_that_are_no_failed_jobs_of_the_queue_and_retries_the_others(run: Run, app: App) -> None:
    app.product_image(app.product())
    app.product_image(app.product())
    fail = "update job_queue set status = 'failed', completed_at = now(), error_message = 'x' returning id"
    one, other = app.run(fail)
    unknown = uuid4()
    result = run("retry", "image_ai", one, unknown)
    refuses(result, "1 jobs are pending again", f"image_ai has no failed job {unknown}")
    assert str(one) not in result.stderr
    refuses(run("retry", "job_embeddings", other), "0 jobs", f"job_embeddings has no failed job {other}")
    refuses(run("retry", "image_ai", one), "0 jobs", f"image_ai has no failed job {one}")
    assert run("retry", "image_ai", "--all").returncode == 0
    assert app.run("select distinct status from job_queue") == ["pending"]


def test_process_missing_embeds_postings(run: Run, app: App) -> None:
    app.run("insert into jobs (title) values ('Baker'), ('Cook'), ('')")
    app.settle()
    result = run("process", "--missing")
    refuses(result, "3 images and postings queued", "job_embeddings: 3 jobs, 1 failed")
    assert app.run("select count(*) from job_embeddings") == [2]
    assert "the posting has no text" in run("status").stdout


def test_process_of_a_gallery_leaves_what_else_waits(run: Run, app: App, lamp_url: str) -> None:
    gallery = app.listing()
    app.listing_image(gallery, lamp_url)
    app.run("insert into jobs (title) values ('Baker')")
    (project,) = app.run("insert into projects (source_image_url) values (%s) returning id", lamp_url)
    app.run("select enqueue_complete_pack(%s)", project)
    assert run("process", "--project", gallery).returncode == 0
    waiting = "select queue from job_queue where status = 'pending' order by queue"
    assert app.run(waiting) == ["generated_images", "job_embeddings"]
    assert run("process", "--missing").returncode == 0
    assert app.run(waiting) == ["generated_images"]


def test_process_makes_a_pack_of_product_pictures(run: Run, app: App, lamp_url: str) -> None:
    (project,) = app.run("insert into projects (source_image_url) values (%s) returning id", lamp_url)
    result = run("process", "--pack-for", project)
    assert result.returncode == 0, result.stderr
    assert "1 packs of product pictures queued" in result.stderr
    assert app.run("select count(*) from generated_images") == [6]
    assert app.run("select status from projects") == ["COMPLETED"]
    assert "6 of 6 product pictures" in run("status").stdout
    unknown = uuid4()
    refuses(run("process", "--pack-for", unknown), f"there is no row {unknown} in projects")


def test_rebuild_says_what_it_changed(run: Run, app: App, lamp_url: str) -> None:
    project = app.listing()
    app.listing_image(project, lamp_url)
    app.product_image(app.product(), lamp_url)
    run("process", "--missing")
    assert run("process", "--missing").returncode == 0
    app.run("delete from matches")
    result = run("rebuild")
    assert result.returncode == 0
    assert "1 added" in result.stderr
    assert app.matched() == {project}


@pytest.mark.parametrize("option", ["--project", "--product"])
def test_process_names_what_it_does_not_find(run: Run, app: App, option: str) -> None:
    unknown = uuid4()
    other = app.product() if option == "--project" else app.listing("service")
    refuses(run("process", option, unknown), f"there is no {option[2:]} {unknown}")
    refuses(run("process", option, other), f"there is no {option[2:]} {other}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["process"], "say what to process"),
        (["process", "--project", "lamp"], "not a valid UUID"),
        (["retry", "image_ai"], "or say --all"),
        (["retry", "image_ai", "--all", str(UUID(int=1))], "or say --all"),
        (["retry", "images", "--all"], "'images' is not one of 'image_ai', 'job_embeddings', 'matches'"),
    ],
)
def test_a_wrong_use_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("IMAGE_TIMEOUT_SECONDS", "abc"), ("IMAGE_ANALYZER", "foo"), ("IMAGE_CONCURRENCY", "0")],
)
def test_a_wrong_setting_is_named(run: Run, name: str, value: str) -> None:
    result = run("status", **{name: value})
    refuses(result, name, repr(value))
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://app:hunter2@127.0.0.1:1/db", "DATABASE_URL: the server is away"),
        ("postgres//app:hunter2@host/db", "DATABASE_URL is not a Postgres connection string"),
    ],
)
def test_a_wrong_database_url_is_named_without_its_password(run: Run, url: str, message: str) -> None:
    result = run("status", DATABASE_URL=url)
    refuses(result, message)
    assert "hunter2" not in result.stderr


def test_audit_lists_what_is_wrong_and_repairs_it(run: Run, connection: Connection) -> None:
    app = MatchedPair(connection)
    app.run("update match_settings set attribute_weight = 0")
    app.settle()
    result = run("audit")
    assert result.returncode == 0, result.stdout
    assert "all that is derived is as it should be" in result.stderr

    app.run("update matches set rank = 2")
    app.run("insert into jobs (title) values ('Baker')")
    app.settle()
    result = run("audit")
    assert result.returncode == 1
    assert "matches of projects, stale: 1" in result.stdout
    assert str(app.project) in result.stdout
    assert "job_embeddings, missing: 1" in result.stdout
    assert app.run("select rank from matches") == [2]

    result = run("audit", "--repair")
    assert result.returncode == 0
    assert "1 images and postings queued" in result.stderr
    assert "work waits in the queue, which may explain what differs: 1 in job_embeddings" in result.stderr
    assert app.run("select rank from matches") == [1]
