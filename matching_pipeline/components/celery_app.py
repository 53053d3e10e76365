"""The application of a Celery worker: `celery -A matching_pipeline.components.celery_app worker`."""

from typing import Any

from celery import Task
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task
from kombu.transport import TRANSPORT_ALIASES

from matching_pipeline.components.placement import celery_config
from matching_pipeline.settings import Settings

MOST_DEATHS = 3
"""So many workers may vanish with a shard before the run fails."""

TRANSPORT_ALIASES["sqla"] = "matching_pipeline.components.postgres_broker:Transport"
app = make_app(celery_config(Settings()))


class Step(Task):
    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        deaths = int(self.request.delivery_info.get("redelivered") or 0)
        if deaths > MOST_DEATHS:
            raise RuntimeError(f"{deaths} Celery workers ended while they did this step: their logs may say why")


# The worker acknowledges a shard when it is done, so that a broker hands it to another if the worker is gone.
# A shard may be done twice. A run may not: the sensors replace a worker whose machine is gone.
execute_plan = create_task(app, base=Step, acks_late=True, reject_on_worker_lost=True)
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
