"""The `matching-pipeline` command as a person runs it: what it prints, and its exit status."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess
from uuid import UUID, uuid4

import click
import pytest

from matching_pipeline import examples
from matching_pipeline.cli.main import cli
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.queues import client
from matching_pipeline.sources.attach import make_example_tables
from matching_pipeline_tests.fixtures.app import App, MatchedPair, mirror_picture
from matching_pipeline_tests.fixtures.command import COMMAND, run_command
from matching_pipeline_tests.fixtures.pictures import picture

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(database_url: str, tmp_path: Path) -> Run:
    """Runs the command in an empty folder, which is also where pictures may be read from."""

    def run(*arguments: object, **environment: str) -> "CompletedProcess[str]":
        settings = {"DATABASE_URL": database_url, "IMAGE_FILE_ROOTS": str(tmp_path), **environment}
        return run_command(tmp_path, *arguments, **settings)

    return run


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def lamp_url(tmp_path: Path) -> str:
    (tmp_path / "lamp.png").write_bytes(picture("orange"))
    return (tmp_path / "lamp.png").as_uri()


def refuses(result: "CompletedProcess[str]", *messages: str, status: int = 1) -> None:
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
    for command in (["status"], ["attach"], ["detach", "face"]):
        refuses(run(*command, DATABASE_URL=url), "run `matching-pipeline migrate`")
    with connect(url) as connection:
        connection.execute("create extension vector")
        make_example_tables(connection)
    first, second = run("migrate", DATABASE_URL=url), run("migrate", DATABASE_URL=url)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "applied 0001_queues" in first.stderr
    assert "attached face, posting, project, product, studio_project" in first.stderr
    assert "the schema is up to date" in second.stderr
    with connect(url) as connection:
        assert App(connection).run("select to_regclass('dagster.runs') is not null") == [True]


def test_migrate_names_every_declared_table_that_is_missing(run: Run, new_database: Callable[..., str]) -> None:
    result = run("migrate", DATABASE_URL=new_database())
    refuses(
        result,
        "source face: table: there is no table public.faces: write the name of one of yours",
        "source posting: table: there is no table",
    )
    refuses(result, "source project: pictures.table: there is no table public.listing_images")


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
    product = state["sources"]["product"]
    assert (product["table"], product["mirrored"], product["unfinished"]) == ("public.products", 0, 1)
    assert product["problems"] == []
    table = run("status")
    assert table.returncode == 0
    assert "0 of 1 images" in table.stdout
    assert "0 of 1 texts" in table.stdout
    assert "0 of 0 entities have matches" in table.stdout
    assert "public.listings" in table.stdout


def test_process_analyses_and_matches_here_and_now(run: Run, app: App, lamp_url: str) -> None:
    project, product = app.listing(), app.product()
    images = {app.listing_image(project, lamp_url), app.product_image(product, lamp_url)}
    app.settle()
    result = run("process", "--entity", "project", project, "--entity", "product", product)
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[:2] == [
        f"1 pictures and texts of project {project} queued",
        f"1 pictures and texts of product {product} queued",
    ]
    assert "image_ai: 2 of 2" in lines
    assert any(line.startswith("image_ai: 2 jobs, 0 failed") for line in lines)
    assert app.analysed() == images
    assert app.matched() == {project}


def test_a_paused_queue_is_left_by_process_until_it_is_resumed(run: Run, app: App, lamp_url: str) -> None:
    app.product_image(app.product(), lamp_url)
    paused = run("pause", "image_ai", "--until", "2999-01-01 07:00")
    assert paused.returncode == 0, paused.stderr
    assert "until 2999-01-01 07:00:00+00" in paused.stderr
    left = run("process", "--missing")
    assert left.returncode == 1
    assert "its jobs wait for `matching-pipeline resume image_ai`" in left.stderr
    assert app.run("select count(*) from image_ai") == [0]
    assert run("resume", "image_ai").stderr == "image_ai continues\n"
    done = run("process", "--missing", "--verbose")
    assert done.returncode == 0, done.stderr
    assert "image_ai completed 1 job" in done.stderr
    refuses(run("pause", "nothing"), "there is no queue nothing, only image_ai")
    refuses(run("pause", "image_ai", "--until", "soonish"), "the database refuses a value: invalid input syntax")


def test_process_says_which_worker_it_waits_for_and_until_when(
    app: App, connection: Connection, lamp_url: str, tmp_path: Path, database_url: str
) -> None:
    app.product_image(app.product(), lamp_url)
    client.claim(connection, "image_ai", 1, timedelta(minutes=5))  # and never returns
    (until,) = app.run("select to_char(run_at at time zone 'utc', 'HH24:MI:SS') from matching_pipeline.jobs")
    settings = {"DATABASE_URL": database_url, "IMAGE_FILE_ROOTS": str(tmp_path)}
    with subprocess.Popen(
        [COMMAND, "process", "--missing"],
        cwd=tmp_path, env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        waiting = f"image_ai: waiting for 1 jobs that another worker has leased until {until} UTC\n"
        assert waiting in iter(process.stderr.readline, "")
        app.run("update matching_pipeline.jobs set run_at = now()")
        assert waiting not in process.stderr.read()
    assert process.returncode == 0
    assert app.run("select count(*) from image_ai") == [1]


def test_process_missing_says_what_failed_and_retry_makes_it_pending_again(run: Run, app: App, lamp_url: str) -> None:
    good, bad = app.product_image(app.product(), lamp_url), app.product_image(app.product(), f"{lamp_url}.gone")
    app.settle()
    result = run("process", "--missing")
    refuses(result, "all tables are compared with the mirror", "image_ai: ", "1 failed", "what failed and why")
    assert app.analysed() == {good}
    shown = run("status").stdout
    assert "no such file" in shown
    assert str(bad) in shown
    (failed,) = app.run("select id from matching_pipeline.jobs where key = %s and status = 'failed'", str(bad))
    for arguments in ([failed], ["--all"]):
        app.run(
            "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'x' "
            "where id = %s",
            failed,
        )
        assert "1 jobs are pending again" in run("retry", "image_ai", *arguments).stderr
        assert app.run("select status from matching_pipeline.jobs where id = %s", failed) == ["pending"]


def test_failed_jobs_are_taken_up_again_by_their_reason(run: Run, app: App, lamp_url: str) -> None:
    fail = (
        "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = %s where key = %s"
    )
    for reason in ("Refused: 100% wrong_key", "the host is gone"):
        app.run(fail, reason, str(app.product_image(app.product(), lamp_url)))
    for no_reason in ("0_% wrong", "host%gone"):
        assert "0 jobs are pending again" in run("retry", "image_ai", "--because", no_reason).stderr
    assert "1 jobs are pending again" in run("retry", "image_ai", "--because", "100% WRONG_KEY").stderr
    assert app.run("select error_message from matching_pipeline.jobs where status = 'failed'") == ["the host is gone"]
    result = run("process", "--missing", "--failed", "--because", "gone")
    assert "1 failed jobs are pending again" in result.stderr
    assert result.returncode == 0
    assert app.run("select count(*) from image_ai") == [2]


def test_retry_names_ids_that_are_no_failed_jobs_of_the_queue_and_retries_the_others(run: Run, app: App) -> None:
    app.product_image(app.product())
    app.product_image(app.product())
    fail = (
        "update matching_pipeline.jobs set status = 'failed', completed_at = now(), error_message = 'x' returning id"
    )
    one, other = app.run(fail)
    unknown = uuid4()
    result = run("retry", "image_ai", one, unknown)
    refuses(result, "1 jobs are pending again", f"image_ai has no failed job {unknown}")
    assert str(one) not in result.stderr
    refuses(run("retry", "job_embeddings", other), "0 jobs", f"job_embeddings has no failed job {other}")
    refuses(run("retry", "image_ai", one), "0 jobs", f"image_ai has no failed job {one}")
    assert run("retry", "image_ai", "--all").returncode == 0
    assert app.run("select distinct status from matching_pipeline.jobs") == ["pending"]
    refuses(
        run("retry", "images", "--all"), "there is no queue images, only image_ai, job_embeddings, matches_project"
    )


def test_process_missing_embeds_postings(run: Run, app: App) -> None:
    app.run("insert into jobs (title) values ('Baker'), ('Cook'), (U&'\\00a0')")
    app.settle()
    assert run("process", "--missing").returncode == 0
    assert app.run("select count(*) from job_embeddings") == [2]


def test_process_of_a_gallery_leaves_what_else_waits(run: Run, app: App, lamp_url: str) -> None:
    gallery = app.listing()
    app.listing_image(gallery, lamp_url)
    app.run("insert into jobs (title) values ('Baker')")
    (project,) = app.run("insert into projects (source_image_url) values (%s) returning id", lamp_url)
    app.run("select enqueue_complete_pack(%s)", project)
    assert run("process", "--entity", "project", gallery).returncode == 0
    waiting = "select queue from matching_pipeline.jobs where status = 'pending' order by queue"
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
    refuses(run("process", "--pack-for", unknown), f"there is no row {unknown} in the source studio_project")


def test_rebuild_says_what_it_changed(run: Run, app: App, lamp_url: str) -> None:
    project = app.listing()
    app.listing_image(project, lamp_url)
    app.product_image(app.product(), lamp_url)
    run("process", "--missing")
    assert run("process", "--missing").returncode == 0
    app.run("delete from matching_pipeline.matches")
    result = run("rebuild")
    assert result.returncode == 0
    assert "1 added" in result.stderr
    assert app.matched() == {project}


@pytest.mark.parametrize("source", ["project", "product"])
def test_process_names_what_it_does_not_find(run: Run, app: App, source: str) -> None:
    unknown = uuid4()
    other = app.product() if source == "project" else app.listing("service")
    for key in (unknown, other):
        refuses(run("process", "--entity", source, key), f"there is no row {key} in the source {source}")
    refuses(run("process", "--entity", "lamp", unknown), "there is no source lamp")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["process"], "say what to process"),
        (["process", "--entity", "project"], "requires 2 arguments"),
        (["detach"], "Missing argument 'NAME'"),
        (["retry", "image_ai"], "or say --all"),
        (["retry", "image_ai", "--all", "--because", "x"], "or say --all"),
        (["process", "--failed", "--entity", "project", "1"], "--failed goes with --missing"),
        (["process", "--missing", "--because", "x"], "--because TEXT with --failed"),
        (["retry", "image_ai", "--all", str(UUID(int=1))], "or say --all"),
    ],
)
def test_a_wrong_use_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("IMAGE_TIMEOUT_SECONDS", "abc"), ("IMAGE_MODEL", "foo"), ("IMAGE_CONCURRENCY", "0")],
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
    app.run("update matching_pipeline.match_settings set attribute_weight = 0")
    app.settle()
    result = run("audit")
    assert result.returncode == 0, result.stdout
    assert "all derived data is correct" in result.stderr
    said = "the matcher project has attribute_weight 0.0 in match_settings, declared is 0.2\n"
    assert said in run("status").stderr

    app.run("update matching_pipeline.matches set left_rank = 2")
    mirror_picture(connection, "product", app.product_image(app.wares))
    app.settle()
    result = run("audit")
    assert result.returncode == 1
    assert "matches of project, stale: 1" in result.stdout
    assert str(app.project) in result.stdout
    assert "image_ai, missing: 1" in result.stdout
    assert app.run("select rank from matches") == [2]

    result = run("audit", "--repair")
    assert result.returncode == 0
    assert "1 jobs of image_ai are enqueued" in result.stderr
    assert "work waits in the queue, which may explain what differs: 1 in image_ai" in result.stderr
    assert app.run("select rank from matches") == [1]


def test_a_source_is_detached_and_forgotten(run: Run, app: App) -> None:
    refuses(run("detach", "lamp"), "there is no attached source or queue lamp")
    app.listing_image(app.listing())
    assert "posting is detached\nit is still declared" in run("detach", "posting").stderr
    app.run("insert into jobs (title) values ('Baker')")
    shown = run("status")
    assert "posting (detached)" in shown.stdout
    assert "the source posting is declared and not attached" in shown.stderr
    assert app.run("select count(*) from matching_pipeline.jobs where source = 'posting'") == [0]
    assert "posting is detached and forgotten" in run("detach", "posting", "--forget").stderr
    assert "posting (detached)" not in run("status").stdout
    assert "attached face, posting, project" in run("attach").stderr
    assert run("status").stderr == ""
    assert app.run("select kind from matching_pipeline.jobs where source = 'posting'") == ["table"]


def test_a_matcher_is_detached_alone_and_so_is_a_dropped_asset(run: Run, connection: Connection) -> None:
    app = MatchedPair(connection)
    product = "select queues from matching_pipeline.sources where name = 'product'"
    told = run("detach", "matches_project").stderr
    assert "matches_project is detached and forgotten\nit is still declared" in told
    assert app.run("select matcher from matching_pipeline.matches") == []
    assert "the matcher project is declared and not attached" in run("status").stderr
    app.run("insert into matching_pipeline.queues (name, work) values ('former', 'image')")
    app.run("update matching_pipeline.sources set queues = queues || '{former}' where name = 'product'")
    app.product_image(app.wares)
    told = run("status").stderr
    assert "the queue former is of no declared asset: `matching-pipeline detach former` deletes it" in told
    assert run("detach", "former").returncode == 0
    assert app.run("select distinct queue from matching_pipeline.jobs") == ["image_ai"]
    assert app.run(product) == [["image_ai"]]
    assert run("attach").returncode == 0
    assert "the matcher project" not in run("status").stderr


def test_process_says_which_jobs_it_leaves_and_why(run: Run, app: App) -> None:
    app.run("insert into jobs (title) values ('Baker')")
    app.run("alter table jobs rename title to headline")
    result = run("process", "--missing")
    refuses(result, "job_embeddings: 2 jobs wait until ", " UTC: ", "column t.title does not exist")


def test_what_a_folder_does_not_declare_stays_attached_and_is_named(run: Run, app: App, tmp_path: Path) -> None:
    declared = tmp_path / "defs" / "defs.yaml"
    declared.parent.mkdir()
    declared.write_text((examples.FOLDER / "job_board" / "defs.yaml").read_text())
    result = run("attach", DEFINITIONS_DIR=str(declared.parent))
    assert result.returncode == 0
    assert "attached posting\n" in result.stderr
    assert "the source face is attached and not declared" in result.stderr
    assert "the matcher project is attached and not declared" in result.stderr
    app.listing_image(app.listing())
    assert app.run("select queue from matching_pipeline.jobs where source = 'project'") == ["image_ai"]
    declared.write_text(declared.read_text().replace("t.title, ", ""))
    told = run("status", DEFINITIONS_DIR=str(declared.parent)).stderr
    assert "the source posting is declared otherwise than it is attached" in told


def test_a_guess_is_printed_and_can_be_attached(run: Run, new_database: Callable[..., str], tmp_path: Path) -> None:
    """Before anything of ours is there."""
    url = new_database()
    with connect(url) as connection:
        connection.execute("create table articles (id bigint primary key, title text, body text, is_public boolean)")
    here = {"DATABASE_URL": url, "DEFINITIONS_DIR": ""}
    guessed = run("attach", "--guess", **here)
    assert guessed.returncode == 0
    (condition,) = (line for line in guessed.stdout.splitlines() if "when:" in line)
    expected = "when: t.is_public # is_public is a boolean: only rows of which it is true count"
    assert " ".join(condition.split()) == expected
    with connect(url) as connection:
        assert connection.execute("select count(*) from pg_trigger").fetchone() == (0,)
    declared = tmp_path / "defs" / "app" / "defs.yaml"
    assert not declared.exists()
    declared.parent.mkdir(parents=True)
    declared.write_text(guessed.stdout)
    assert "attached article" in run("migrate", **here).stderr


def test_declarations_are_written_migrated_and_attached(
    run: Run, new_database: Callable[..., str], tmp_path: Path
) -> None:
    url = new_database()
    with connect(url) as connection:
        connection.execute("create table articles (id bigint primary key, title text, body text)")
    here = {"DATABASE_URL": url, "DEFINITIONS_DIR": ""}
    refuses(run("migrate", **here), "there is no folder defs with declarations: `matching-pipeline init` makes one")
    assert run("init").returncode == 0
    declared = tmp_path / "defs" / "app" / "defs.yaml"
    declared.write_text(declared.read_text() + "---\ntype: matching_pipeline.Colour\n")
    told = "source article: table: there is no table public.your_table: write the name of one of yours"
    refuses(run("migrate", **here), "there is no matching_pipeline.Colour", told)
    declared.write_text(declared.read_text().partition("---\ntype: matching_pipeline.Colour")[0])
    declared.write_text(declared.read_text().replace("public.your_table", "public.articles"))
    assert "attached article" in run("migrate", **here).stderr
    with connect(url) as connection:
        connection.execute("insert into articles values (1, 'Bread', 'with salt')")
    result = run("process", "--missing", **here)
    assert result.returncode == 0, result.stderr
    assert json.loads(run("status", "--json", **here).stdout)["text_embeddings"]["coverage"]["covered"] == 1


def test_a_wrong_declaration_is_named_by_file_and_field(run: Run, tmp_path: Path) -> None:
    declared = tmp_path / "defs.yaml"
    declared.write_text(
        "type: matching_pipeline.Source\nattributes: {name: Face, table: my-faces, vector: e, colour: x}\n---\n"
        "type: matching_pipeline.Source\nattributes: {name: note, table: public.gone, text: t.title}"
    )
    result = run("attach", DEFINITIONS_DIR=str(tmp_path))
    for problem in (
        "name: a name begins with",
        "table: a table is written as in SQL",
        "there is no attribute colour",
    ):
        refuses(result, f"{declared}: Source Face: {problem}")
    # and at once what is declared well and does not fit the database
    refuses(result, "source note: table: there is no table public.gone")


def test_settings_of_the_database_do_not_matter(run: Run, app: App, connection: Connection) -> None:
    app.run("insert into jobs (title) values ('Baker')")
    for setting in (
        "default_transaction_read_only = on",
        "default_transaction_isolation = serializable",
        "statement_timeout = 300",
        "idle_session_timeout = 300",
        "client_encoding = latin1",
    ):
        app.run(f"alter database {connection.info.dbname} set {setting}")
    for command in (["migrate"], ["process", "--missing"], ["doctor"]):
        result = run(*command)
        assert result.returncode == 0, result.stderr
    assert app.run("select count(*) from job_embeddings") == [1]
