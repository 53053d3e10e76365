"""Chooses where the steps of a run are executed: STEP_EXECUTOR names one of Dagster's executors."""

from typing import Any

import dagster as dg

from matching_pipeline.components.instance import instance_url
from matching_pipeline.db.embedded import resolve_database_url
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings


def step_executor(settings: Settings) -> dg.ExecutorDefinition:
    """Raises ConfigurationError if the executor's package is not installed."""
    try:
        if settings.step_executor == "celery":
            from dagster_celery import celery_executor

            return celery_executor.configured(celery_config(settings))
        if settings.step_executor == "kubernetes":
            from dagster_k8s import k8s_job_executor

            return k8s_job_executor
    except ImportError as error:
        raise ConfigurationError(
            f"STEP_EXECUTOR: {error.name} is missing: install matching_pipeline[{settings.step_executor}]"
        ) from None
    return dg.multiprocess_executor


def celery_config(settings: Settings) -> dict[str, Any]:
    """What Dagster's executor and the Celery workers agree on.

    Results go into Dagster's Postgres, and messages too if no broker is named: so machines share nothing else.
    """
    url = settings.dagster_postgres_url or instance_url(resolve_database_url(settings))
    broker = settings.celery_broker_url.get_secret_value() if settings.celery_broker_url else f"sqla+{url}"
    return {
        "broker": broker,
        "backend": f"db+{url}",
        # a worker takes a shard when it has a place for it
        "config_source": {"worker_prefetch_multiplier": 1, "broker_connection_retry_on_startup": True},
    }
