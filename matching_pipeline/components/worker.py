"""The job `worker`: a run that serves all queues for an hour; and `process_now`, which a person starts."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing

import dagster as dg
import psutil
import psycopg
from pydantic import Field

from matching_pipeline.components.reporting import Reporter
from matching_pipeline.components.reports import reports
from matching_pipeline.components.resources import RUN_TAGS, Pipeline
from matching_pipeline.components.source_checks import SourceWatch
from matching_pipeline.components.version import version_of
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.handlers import registry
from matching_pipeline.logs import log_to_stderr
from matching_pipeline.queues.standing import QueuesFailed, StandingWorker
from matching_pipeline.settings import Settings

DEV_PID = "MATCHING_PIPELINE_DEV_PID"
"""`dev` gives its workers its process id in this environment variable."""


class WorkerConfig(dg.Config):
    """A sensor fills it; a worker that a person starts needs none of it."""

    requested: int | None = Field(default=None, description="the row of `workers` that asked for this run")
    version: str | None = Field(default=None, description="the code and settings that it is started for")
    helps: bool = Field(default=False, description="end when nothing is due, and replace no worker")


@dg.op(out={}, description="Serves all queues until another worker serves them.")
def serve_queues(
    context: dg.OpExecutionContext, config: WorkerConfig, pipeline: Pipeline
) -> Iterator[dg.AssetMaterialization]:
    log_to_stderr(logging.INFO)
    settings, database_url, declarations = pipeline.settings, pipeline.database_url, pipeline.declarations
    reporter = Reporter(context.instance, pipeline, reports(declarations))
    watch = SourceWatch(context.instance, pipeline, declarations)
    standing = StandingWorker(
        database_url,
        registry.queues(declarations),
        lambda queue: registry.open_handler(settings, database_url, declarations, queue),
        version=config.version or version_of(settings, declarations),
        run_id=context.run_id,
        requested=config.requested,
        helps=config.helps,
    )
    with standing, closing(standing.serve()) as looks:
        for _ in looks:
            if _is_orphaned():
                break
            reporter.add(standing.take_work())
            watch.look()
            # Dagster keeps its events in the database too: a report waits while it is away
            if reporter.is_due and _is_there(pipeline):
                yield from reporter.events()
    reporter.add(standing.take_work())
    yield from reporter.events(last=True)
    try:
        standing.require_no_failure()
    except QueuesFailed as error:
        raise dg.Failure(str(error), allow_retries=False) from None


@dg.job(
    executor_def=dg.in_process_executor,
    tags={**RUN_TAGS, "dagster/max_runtime": str(int(2 * Settings().worker_seconds + 3600))},
    description="The standing worker. Sensors start it and relieve it; it outlives each day's partition.",
)
def worker() -> None:
    serve_queues()


class QueueConfig(dg.Config):
    queue: str = Field(description="the queue of a declared asset or matcher, such as image_ai")


@dg.op(out={}, description="Processes what is due in one queue now, beside the standing worker.")
def process_queue(
    context: dg.OpExecutionContext, config: QueueConfig, pipeline: Pipeline
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    log_to_stderr(logging.INFO)
    declarations = pipeline.declarations
    report = next((each for each in reports(declarations) if config.queue in each.queues), None)
    if report is None:
        raise dg.Failure(f"there is no queue {config.queue!r}, only {', '.join(registry.queues(declarations))}")
    done = registry.work_off(pipeline.settings, pipeline.database_url, declarations, config.queue)
    context.log.info(f"{config.queue}: {done.jobs} jobs, {done.failed} failed")
    if done.pause:
        context.log.warning(f"{config.queue} is {done.pause}: its jobs wait")
    yield report.materialization(pipeline, done.summary)
    yield from report.evaluations(pipeline).values()


@dg.job(
    executor_def=dg.in_process_executor,
    tags=RUN_TAGS,
    description="Processes what is due in one queue, when a person starts it.",
)
def process_now() -> None:
    process_queue()


def _is_orphaned() -> bool:
    """Whether `matching-pipeline dev` started us and was killed: nothing else would end the worker then."""
    parent = os.environ.get(DEV_PID)
    return parent is not None and not psutil.pid_exists(int(parent))


def _is_there(pipeline: Pipeline) -> bool:
    try:
        with pipeline.connection():
            return True
    except (psycopg.OperationalError, ConfigurationError):
        return False
