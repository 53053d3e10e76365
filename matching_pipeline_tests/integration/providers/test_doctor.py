"""`matching-pipeline doctor`: a line for each thing that fits or does not, and the cost that `status` shows."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.command import run_command
from matching_pipeline_tests.fixtures.openai_server import KEY, OpenAIServer, out_of_quota
from matching_pipeline_tests.integration.providers.conftest import calls

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(database_url: str, server: OpenAIServer, tmp_path: Path) -> Run:
    def run(*arguments: str, **environment: str) -> "CompletedProcess[str]":
        provider = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        return run_command(tmp_path, *arguments, **{"DATABASE_URL": database_url, **provider, **environment})

    return run


def lines(result: "CompletedProcess[str]") -> dict[str, tuple[str, str]]:
    """The verdict on each thing, ok or NO, and the reason."""
    assert not result.stderr
    parts = [line.partition(": ") for line in result.stdout.splitlines()]
    return {head[3:].strip(): (head[:3].strip(), because) for head, _, because in parts}


def test_each_thing_that_fits_has_a_line_and_the_requests_are_in_the_call_log(
    run: Run, connection: Connection, server: OpenAIServer
) -> None:
    result = run("doctor")
    assert {what: verdict for what, (verdict, _) in lines(result).items()} == dict.fromkeys(
        (
            *("database", "sources", *(f"source {source.name}" for source in EXAMPLES.sources)),
            *(f"matcher {matcher.name}" for matcher in EXAMPLES.matchers),
            *("images", "texts", "pictures", "picture store", "image model", "text model"),
        ),
        "ok",
    )
    assert result.returncode == 0
    assert calls(connection) == [("answered", 1)] * 4
    run("doctor")
    assert calls(connection) == [("answered", 1)] * 8
    assert server.asked["/images/edits"] == 0


def test_without_a_key_the_local_providers_fit(run: Run, server: OpenAIServer) -> None:
    result = run("doctor", OPENAI_API_KEY="")
    assert result.returncode == 0
    found = {what: lines(result)[what][1] for what in ("images", "texts", "pictures")}
    assert found["images"].startswith("local-visual-2 works")
    assert found["texts"].startswith("local-text-2 works")
    assert found["pictures"].startswith("the local provider")
    assert not server.asked


@pytest.mark.parametrize(
    ("environment", "what", "message"),
    [
        ({"OPENAI_API_KEY": "sk-wrong"}, "texts", "OPENAI_API_KEY"),
        ({"OPENAI_EMBEDDING_MODEL": "unknown"}, "texts", "OPENAI_EMBEDDING_MODEL"),
        ({"OPENAI_EMBEDDING_DIMENSIONS": "9000"}, "texts", "OPENAI_EMBEDDING_DIMENSIONS"),
        ({"OPENAI_VISION_MODEL": "unknown"}, "images", "OPENAI_VISION_MODEL"),
        ({"OPENAI_IMAGE_MODEL": "unknown"}, "pictures", "OPENAI_IMAGE_MODEL"),
        ({"GENERATED_IMAGES_URL": "ftp://pictures"}, "picture store", "GENERATED_IMAGES_URL"),
        ({"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}, "images", "http://127.0.0.1:9/v1"),
        ({"OPENAI_API_KEY": "", "IMAGE_MODEL": "openai"}, "images", "OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(run: Run, environment: dict[str, str], what: str, message: str) -> None:
    result = run("doctor", **environment)
    verdict, because = lines(result)[what]
    assert verdict == "NO"
    assert message in because
    assert result.returncode == 1
    assert lines(result)["database"][0] == "ok"


def test_an_empty_database_and_another_active_model_are_reported(
    run: Run, connection: Connection, new_database: Callable[..., str]
) -> None:
    result = run("doctor", DATABASE_URL=new_database())
    assert "matching-pipeline migrate" in lines(result)["database"][1]
    assert result.returncode == 1
    connection.execute(
        "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
        "values ('other', 'image', 3, 'active')"
    )
    assert "other" in lines(run("doctor"))["image model"][1]
    connection.execute("update matching_pipeline.embedding_models set name = 'local-visual-2' where name = 'other'")
    verdict, because = lines(run("doctor"))["image model"]
    assert verdict == "ok"
    assert "the active image model is local-visual-2; the settings choose gpt-6-luna/describe-1/" in because
    assert "`matching-pipeline model add image`" in because
    assert because in run("status").stderr
    connection.execute(
        "update matching_pipeline.embedding_models set name = 'm/describe-0/e:8' where modality = 'image'"
    )
    verdict, because = lines(run("doctor"))["image model"]
    assert (verdict, "describe-0, which this version does not have" in because) == ("NO", True)


def test_a_model_is_added_activated_and_retired(run: Run, connection: Connection, server: OpenAIServer) -> None:
    connection.execute("insert into jobs (title) values ('Baker'), ('Cook')")
    assert run("process", "--missing", TEXT_MODEL="local").returncode == 0
    assert run("model", "add", "text", "unknown:8").returncode == 1
    assert "is the active text model already" in run("model", "add", "text", "local-text-2").stderr
    added = run("model", "add", "text")
    assert "text-embedding-3-small:1536 is the shadow text model; 2 texts queued" in added.stderr
    refused = run("model", "activate", "text-embedding-3-small:1536")
    assert (refused.returncode, "lacks 2 of the texts" in refused.stderr) == (1, True)
    assert "it is the shadow until" in run("status").stderr
    assert run("process", "--missing").returncode == 0
    listed = run("model", "list").stdout
    assert listed.count("2 of 2 texts") == 2
    activated = run("model", "activate", "text-embedding-3-small:1536")
    assert "text-embedding-3-small:1536 is active" in activated.stderr, activated.stderr
    assert run("status").stderr == ""
    assert "2 of its rows are gone" in run("model", "retire", "local-text-2").stderr
    assert "retired" in run("model", "list").stdout
    assert json.loads(run("status", "--json").stdout).keys() == {
        *EXAMPLES.queues,
        "sources",
        "publications",
        "troubles",
    }


def test_a_provider_without_quota_is_reported(run: Run, server: OpenAIServer) -> None:
    server.fault = out_of_quota()
    assert "billing" in lines(run("doctor"))["images"][1]


def test_status_shows_what_today_cost(run: Run, connection: Connection) -> None:
    connection.execute(
        "insert into matching_pipeline.ai_calls (queue, model, items, cost_usd, milliseconds, outcome) "
        "values ('image_ai', 'm', 1, 0.25, 1, 'answered')"
    )
    connection.execute(
        "insert into matching_pipeline.jobs (queue, source, key, status, completed_at) "
        "select 'image_ai', 'product', gen_random_uuid(), 'completed', now() from generate_series(1, 500)"
    )
    cost = json.loads(run("status", "--json").stdout)["image_ai"]["cost_today"]
    assert cost == {
        "requests": 1, "failed_requests": 0, "cost_usd": 0.25, "rows": 500, "cost_usd_per_thousand_rows": 0.5,
    }  # fmt: skip
    assert "$0.2500 today, $0.5000" in run("status").stdout


def test_each_source_has_a_line_that_says_how_it_stands(run: Run, connection: Connection) -> None:
    local = {"OPENAI_API_KEY": ""}
    connection.execute("insert into jobs (title) values ('Baker'), ('Cook')")
    connection.execute("analyze jobs")
    assert lines(run("doctor", **local))["source posting"] == (
        "ok",
        "attached to public.jobs, which has about 2 rows; 0 entities mirrored, 2 jobs unfinished, 0 failed",
    )
    connection.execute("alter table jobs disable trigger trigger_queue_embedding_insert")
    connection.execute("alter table profiles rename column school to college")
    connection.execute("drop table projects cascade")
    result = run("doctor", **local)
    said = lines(result)
    assert result.returncode == 1
    assert said["source posting"] == (
        "NO",
        "the trigger trigger_queue_embedding_insert on public.jobs is disabled: "
        "`matching-pipeline attach` repairs it",
    )
    assert said["source face"][0] == "NO"
    assert "column p.school does not exist" in said["source face"][1]
    assert said["source studio_project"][0] == "NO"
    assert "`matching-pipeline detach studio_project --forget` where it is gone" in said["source studio_project"][1]
    assert said["source project"][0] == "ok"
    shown = run("status", "--json", **local).stdout
    assert json.loads(shown)["sources"]["studio_project"]["problems"] == [said["source studio_project"][1]]
    assert run("detach", "studio_project", "--forget").returncode == 0
    connection.execute("alter table profiles rename column college to school")
    connection.execute("alter table jobs enable trigger trigger_queue_embedding_insert")
    assert "source studio_project" not in lines(run("doctor", **local))


def test_yaml_is_compared_with_the_database(run: Run, connection: Connection, tmp_path: Path) -> None:
    local = {"OPENAI_API_KEY": "", "DEFINITIONS_DIR": str(tmp_path)}
    declared = tmp_path / "defs.yaml"
    declared.write_text((examples.FOLDER / "job_board" / "defs.yaml").read_text())
    verdict, because = lines(run("doctor", **local))["sources"]
    # another code location may declare the others
    assert (verdict, "the source face is attached and not declared" in because) == ("ok", True)
    declared.write_text(declared.read_text().replace("t.is_active", "not t.is_active"))
    verdict, because = lines(run("doctor", **local))["sources"]
    assert (verdict, because.partition(";")[0]) == (
        "NO",
        "the source posting is declared otherwise than it is attached",
    )
