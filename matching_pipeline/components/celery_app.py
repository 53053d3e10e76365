"""The application of a Celery worker: `celery -A matching_pipeline.components.celery_app worker`."""

from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_execute_job_task, create_resume_job_task, create_task

from matching_pipeline.components.placement import celery_config
from matching_pipeline.settings import Settings

app = make_app(celery_config(Settings()))

# The worker acknowledges a shard when it is done, so that a broker hands it to another where the worker is gone.
# A shard may be done twice. A run may not: the sensors replace a worker whose machine is gone.
execute_plan = create_task(app, acks_late=True, reject_on_worker_lost=True)
execute_job = create_execute_job_task(app)
resume_job = create_resume_job_task(app)
