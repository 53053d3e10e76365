"""Materializing an asset with defaults does what its name says."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pytest

from matching_pipeline.components.items import EntitiesConfig
from matching_pipeline.components.matches import daily
from matching_pipeline.components.metadata import table_metadata
from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.definitions import defs
from matching_pipeline.handlers import registry
from matching_pipeline.queues import client
from matching_pipeline.sample_data.listings import sample_marketplace
from matching_pipeline.sample_data.postings import POSTINGS
from matching_pipeline.sources.enqueue import NotFound
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.integration.components.conftest import IMAGE_AI, JOB_EMBEDDINGS, MATCHES

TODAY = daily.get_last_partition_key()


def materialize(pipeline: Pipeline, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        options.pop("assets", [IMAGE_AI]), resources={"pipeline": pipeline}, instance=instance, **options
    )


def resync(asset: str) -> dg.RunConfig:
    return dg.RunConfig({asset: EntitiesConfig(resync=True)})


def metadata(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    last = materializations(result, asset)[-1]
    return {name: value.value for name, value in last.metadata.items()}


def materializations(result: dg.ExecuteInProcessResult, asset: str) -> list[dg.AssetMaterialization]:
    events = result.filter_events(lambda event: event.is_step_materialization)
    found = [event.step_materialization_data.materialization for event in events]
    return [materialization for materialization in found if materialization.asset_key == dg.AssetKey(asset)]


def count(connection: Connection, table: str) -> int:
    row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.usefixtures("sample_rows")
def test_image_ai_processes_what_is_missing_and_matches_rebuilds(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    registry.work_off(pipeline.settings, pipeline.database_url, EXAMPLES, "matches_face")
    connection.execute("delete from matching_pipeline.matches")
    connection.execute("delete from matching_pipeline.jobs")
    processed = metadata(materialize(pipeline, instance, run_config=resync("image_ai")), "image_ai")
    assert (processed["covered"], processed["unaccounted"]) == (54, 0)
    assert "![](data:image/jpeg;base64," in processed["newest"]

    rebuilt = metadata(materialize(pipeline, instance, assets=[MATCHES], partition_key=TODAY), "matches")
    assert rebuilt["project pairs"] + rebuilt["face pairs"] == rebuilt["added"] == count(connection, "matches")
    assert rebuilt["best project matches"].count("data:image/jpeg") == 16
    assert "data:image/jpeg" not in rebuilt["face blocks"]
    assert rebuilt["project scores"].startswith("![project scores](data:image/png")
    best = connection.execute("select project_id, product_id from matches where rank = 1").fetchall()
    assert dict(best) == sample_marketplace().expected


def test_columns_are_described_as_postgres_describes_them(connection: Connection) -> None:
    columns = table_metadata(connection, "matching_pipeline.matches")["dagster/column_schema"].columns
    described = {column.name: column.description for column in columns}
    assert described["left_item"] == "with right_item: the two items whose score is the pair's"
    assert described["model"] is None


@pytest.mark.usefixtures("sample_rows")
def test_a_materialization_says_that_the_queue_is_paused(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    client.pause(connection, "image_ai", "anna")
    result = materialize(pipeline, instance)
    assert metadata(result, "image_ai")["paused"] == "image_ai: paused by anna until it is resumed"
    assert count(connection, "image_ai") == 0


@pytest.mark.usefixtures("sample_rows")
def test_a_second_materialization_finds_nothing_to_do(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    materialize(pipeline, instance)
    assert metadata(materialize(pipeline, instance), "image_ai")["completed"] == 0
    materialize(pipeline, instance, assets=[MATCHES], partition_key=TODAY)
    written = connection.execute("select id, computed_at from matches order by id").fetchall()
    again = metadata(materialize(pipeline, instance, assets=[MATCHES], partition_key=TODAY), "matches")
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    assert connection.execute("select id, computed_at from matches order by id").fetchall() == written


@pytest.mark.usefixtures("sample_rows")
def test_job_embeddings_processes_what_is_missing_and_shows_the_newest(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    connection.execute("delete from matching_pipeline.jobs")
    result = materialize(pipeline, instance, assets=[JOB_EMBEDDINGS], run_config=resync("job_embeddings"))
    processed = metadata(result, "job_embeddings")
    assert (processed["covered"], processed["rows"], processed["unaccounted"]) == (len(POSTINGS), len(POSTINGS), 0)
    assert processed["newest"].count("\n") == 9
    assert processed["active model"] == "local-text-2"
    assert "shadow model" not in processed
    assert count(connection, "job_embeddings") == len(POSTINGS)
    connection.execute(
        "insert into matching_pipeline.embedding_models values ('text-embedding-3-small:64', 'text', 64, 'shadow')"
    )
    again = metadata(materialize(pipeline, instance, assets=[JOB_EMBEDDINGS]), "job_embeddings")
    assert again["completed"] == 0
    assert again["shadow model"] == "text-embedding-3-small:64"
    assert again["shadow coverage"] == f"0 of {len(POSTINGS)} texts"


@pytest.mark.usefixtures("sample_rows")
def test_an_entity_named_in_the_launchpad_is_processed_again(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    materialize(pipeline, instance)
    project, images = connection.execute(
        "select listing_id, count(*) from listing_images group by listing_id order by 2 desc limit 1"
    ).fetchall()[0]
    config = dg.RunConfig({"image_ai": EntitiesConfig(entities={"project": [str(project)]}, missing=False)})
    assert metadata(materialize(pipeline, instance, run_config=config), "image_ai")["completed"] == images


@pytest.mark.parametrize(
    ("entities", "told"),
    [
        ({"posting": ["1"]}, "image_ai has no source posting, only project, product"),
        ({"project": ["6a1f0000-0000-4000-8000-000000000000"]}, "6a1f0000-0000-4000-8000-000000000000"),
    ],
)
def test_an_entity_that_there_is_not_is_refused(
    pipeline: Pipeline, instance: dg.DagsterInstance, entities: dict[str, list[str]], told: str
) -> None:
    config = dg.RunConfig({"image_ai": EntitiesConfig(entities=entities, missing=False)})
    with pytest.raises(NotFound, match=told):
        materialize(pipeline, instance, run_config=config)


@pytest.mark.usefixtures("sample_rows")
def test_a_backfill_of_many_days_is_one_rebuild(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    materialize(pipeline, instance)
    days: Sequence[str] = daily.get_partition_keys()[-3:]
    tags = {"dagster/asset_partition_range_start": days[0], "dagster/asset_partition_range_end": days[-1]}
    result = materialize(pipeline, instance, assets=[MATCHES], tags=tags)
    assert {event.partition for event in materializations(result, "matches")} == set(days)
    steps = [str(event.step_key) for event in result.get_step_success_events()]
    rebuilds = connection.execute(
        "select matcher, number from matching_pipeline.rebuilds order by matcher"
    ).fetchall()
    shards = [f"matches.rebuild_shard[{matcher}_{number}_1]" for matcher, number in rebuilds]
    assert sorted(steps) == ["matches.plan", *shards, "matches.report"]
    assert len(rebuilds) == 2


@pytest.mark.usefixtures("sample_rows")
def test_the_nightly_job_processes_what_is_missing_and_then_rebuilds(
    pipeline: Pipeline, instance: dg.DagsterInstance, connection: Connection
) -> None:
    job = defs.resolve_job_def("nightly")
    result = job.execute_in_process(instance=instance, partition_key=TODAY, resources={"pipeline": pipeline})
    assert metadata(result, "image_ai")["covered"] == 54
    assert metadata(result, "job_embeddings")["covered"] == len(POSTINGS)
    assert metadata(result, "matches")["added"] == count(connection, "matches") > 0
    passed = {
        f"{evaluation.asset_key.to_user_string()}.{evaluation.check_name}": evaluation.passed
        for evaluation in result.get_asset_check_evaluations()
    }
    embeddings = ("every_entity_is_accounted_for", "no_failed_jobs", "no_failed_shadow_jobs", "model_is_unchanged")
    matches = ("every_pair_holds", "sampled_lists_are_exact")
    of_matchers = ("no_failed_{}_jobs", "{}_is_published")
    checks = [f"{asset}.{check}" for asset in ("image_ai", "job_embeddings") for check in embeddings]
    checks += [f"matches.{check}" for check in matches]
    checks += [f"matches.{check.format(matcher)}" for check in of_matchers for matcher in ("project", "face")]
    assert passed == dict.fromkeys(checks, True)
