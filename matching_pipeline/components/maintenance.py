"""The hourly job that keeps the tables whole and small: missing rows are enqueued, old and orphaned ones deleted."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from matching_pipeline.components.resources import RUN_TAGS, Pipeline
from matching_pipeline.matches import holding, rebuilds
from matching_pipeline.models import drift
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline.providers import answer_cache, call_log
from matching_pipeline.queues import client
from matching_pipeline.sources.enqueue import enqueue_due_resyncs, enqueue_looks, enqueue_missing
from matching_pipeline.sources.orphans import delete_orphan_files, delete_orphan_rows

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
RUNS_AT_ONCE = 100


@dg.op
def delete_completed_rows(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    keep = timedelta(days=pipeline.settings.keep_completed_jobs_days)
    with pipeline.connection() as connection:
        context.log.info(f"{client.purge(connection, keep)} completed rows left the queue")
        holding.forget_changes(connection)


@dg.op
def delete_old_answers(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    answers = timedelta(days=pipeline.settings.keep_ai_answers_days)
    calls = timedelta(days=pipeline.settings.keep_ai_calls_days)
    with pipeline.connection() as connection:
        purged = answer_cache.purge(connection, answers) + call_log.purge(connection, calls)
        context.log.info(f"{purged} old answers and requests are forgotten")


@dg.op
def repair(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    """Finds what no trigger saw, such as rows that were replicated or loaded with triggers disabled: once a day a
    worker compares each table with the mirror."""
    with pipeline.connection() as connection:
        context.log.info(f"{enqueue_missing(connection)} jobs were missing and are queued")
        if days := pipeline.settings.image_look_again_days:
            context.log.info(
                f"{enqueue_looks(connection, timedelta(days=days))} pictures are due to be fetched again"
            )
        for source in enqueue_due_resyncs(connection):
            context.log.info(f"a worker compares the table of the source {source} with the mirror")
        context.log.info(f"{delete_orphan_rows(connection)} orphaned rows are deleted")


@dg.op
def probe_models(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    """Once a day each model embeds a fixed text or picture, to see whether its provider has changed it."""
    with pipeline.connection() as connection:
        for told in drift.probe_models(connection, pipeline.settings, pipeline.database_url):
            context.log.info(told)


@dg.op
def delete_orphan_pictures(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    """What a crash or a deleted project left where GENERATED_IMAGES_URL says."""
    with pipeline.connection() as connection:
        store = PictureStore(pipeline.settings.pictures_url)
        context.log.info(f"{delete_orphan_files(connection, store)} pictures that no row names are deleted")


@dg.op
def delete_old_runs(context: dg.OpExecutionContext, pipeline: Pipeline) -> None:
    """Dagster itself never deletes runs and their events. A rebuild can be continued as long as its run is there.

    Other runs of the instance, also of jobs with the same names, may be those of another team.
    """
    keep = timedelta(days=pipeline.settings.keep_dagster_runs_days)
    with pipeline.connection() as connection:
        context.log.info(f"{rebuilds.forget(connection, keep)} rebuilds are forgotten")
    old = dg.RunsFilter(tags=RUN_TAGS, statuses=FINISHED, created_before=datetime.now(UTC) - keep)
    deleted = 0
    while runs := context.instance.get_runs(old, limit=RUNS_AT_ONCE):
        for run in runs:
            context.instance.delete_run(run.run_id)
        deleted += len(runs)
    context.log.info(f"{deleted} runs are deleted")


@dg.job(
    tags=RUN_TAGS,
    description="Enqueues missing work, deletes orphaned rows and rows that are older than the settings allow, and "
    "probes the models.",
)
def cleanup() -> None:
    repair()
    delete_completed_rows()
    delete_old_answers()
    delete_orphan_pictures()
    delete_old_runs()
    probe_models()


cleanup_schedule = dg.ScheduleDefinition(
    job=cleanup, cron_schedule="17 * * * *", default_status=dg.DefaultScheduleStatus.RUNNING
)
