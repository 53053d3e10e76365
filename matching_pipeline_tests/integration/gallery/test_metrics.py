"""`/metrics`: what Prometheus reads, and that alerts and dashboard name nothing else."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.gallery.metrics import PipelineCollector
from matching_pipeline.gallery.sessions import Sessions
from matching_pipeline_tests.integration.gallery.conftest import Open

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
JOB = (
    "insert into matching_pipeline.jobs "
    "(queue, source, key, status, attempts, started_at, completed_at, caused_at, run_at, error_message) values "
)
ENDED = f"{JOB} ('image_ai', 'project', 'a', %s, 1, now(), now() - interval '20 s', now() - %s::interval, now(), %s)"


def scraped(gallery: TestClient) -> dict[str, float]:
    """By name and labels, as Prometheus would store them."""
    reply = gallery.get("/metrics")
    assert reply.status_code == 200
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True) if sample.labels else ''}": sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_jobs_latencies_and_requests_are_counted(
    gallery: TestClient, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scraped(gallery)['matching_pipeline_dead_letters_total{"queue": "image_ai"}'] == 0
    connection.execute(ENDED.encode(), ("completed", "20.3 seconds", None))
    connection.execute(ENDED.encode(), ("completed", "27 seconds", None))
    connection.execute(ENDED.encode(), ("failed", "21 seconds", "404"))
    connection.execute(
        JOB + "('image_ai', 'project', 'b', 'pending', 0, null, null, now(), now() - interval '90 s', null)"
    )
    call = {"queue": "image_ai", "model": "m", "items": 1, "milliseconds": 5, "request_id": None, "error": None}
    call |= {"input_tokens": 10, "output_tokens": 3, "cost_usd": "0.25", "outcome": "answered"}
    connection.execute(query("record_ai_call"), call)
    connection.execute("update matching_pipeline.ai_calls set created_at = now() - interval '20 seconds'")
    hit = {"model": "m", "input_hashes": [b"a"]}
    kept = {**hit, "answers": [b"x"], "input_tokens": [1], "output_tokens": [0]}
    connection.execute(query("keep_ai_answers"), kept)
    for _ in range(2):
        connection.execute(query("find_ai_answers"), hit)
    connection.execute(query("find_ai_answers"), {**hit, "input_hashes": [b"b"]})
    look_ten_seconds_back(monkeypatch)
    shown = scraped(gallery)

    def of(name: str, **labels: str) -> float:
        return shown[f"matching_pipeline_{name}{json.dumps(labels, sort_keys=True) if labels else ''}"]

    assert of("database_up") == 1
    assert of("workers_alive") == 0
    assert of("jobs", queue="image_ai", state="pending") == 1
    assert of("jobs", queue="image_ai", state="failed") == 1
    assert of("jobs", queue="matches_face", state="pending") == 0
    assert of("oldest_due_job_age_seconds", queue="image_ai") == pytest.approx(90, abs=10)
    assert of("job_latency_seconds_bucket", queue="image_ai", le="0.25") == 0
    assert of("job_latency_seconds_bucket", queue="image_ai", le="0.5") == 1
    assert of("job_latency_seconds_bucket", queue="image_ai", le="+Inf") == 2
    assert of("job_latency_seconds_sum", queue="image_ai") == pytest.approx(7.3)
    assert of("dead_letters_total", queue="image_ai") == 1
    assert of("ai_calls_total", queue="image_ai", model="m", outcome="answered") == 1
    assert of("ai_tokens_total", queue="image_ai", model="m", direction="input") == 10
    assert of("ai_cost_usd_total", queue="image_ai", model="m") == 0.25
    assert of("ai_cache_hits_total", model="m") == 2
    assert of("matches", matcher="face") == 0

    # nothing is counted twice
    again = scraped(gallery)
    assert again['matching_pipeline_job_latency_seconds_count{"queue": "image_ai"}'] == 2


def look_ten_seconds_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if twenty seconds had passed."""
    monkeypatch.setattr(
        "matching_pipeline.gallery.metrics.query",
        lambda name: b"select now() - interval '10 seconds'" if name == "metrics_until" else query(name),
    )


def test_the_last_complete_rebuild_is_told(gallery: TestClient, connection: Connection) -> None:
    for _ in range(2):
        connection.execute("insert into matching_pipeline.rebuilds (matcher) values ('face')")
    connection.execute(
        "insert into matching_pipeline.rebuild_shards (rebuild, place, entities, parts, figures, seconds) "
        "values (1, 1, 1, '[]', '{}', 2), (1, 2, 1, '[]', '{}', 3), (2, 1, 1, '[]', null, null)"
    )
    assert scraped(gallery)['matching_pipeline_rebuild_seconds{"matcher": "face"}'] == 5


def test_a_database_that_is_away_is_a_metric(open_gallery: Open) -> None:
    away = open_gallery(url="postgresql://127.0.0.1:1/nothing")
    assert scraped(away) == {"matching_pipeline_database_up": 0}


@pytest.mark.parametrize("file", ["alerts.yaml", "dashboard.json"])
def test_every_metric_that_is_named_exists(file: str) -> None:
    families = [*PipelineCollector(Sessions("")).describe()]
    names = {family.name + ending for family in families for ending in ENDINGS[family.type]}
    used = re.findall(r"matching_pipeline_\w+", (DEPLOY / file).read_text())
    assert used
    assert set(used) <= names


ENDINGS = {"gauge": [""], "counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}


def test_there_is_an_alert_for_each_sign_of_trouble() -> None:
    (group,) = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    signs = {rule["labels"]["sign"] for rule in group["rules"]}
    assert signs == {"jobs wait", "errors", "no matches", "slow"}
    for rule in group["rules"]:
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]
