"""A worker of one queue that serves until it is told to stop."""

from matching_pipeline.handlers.registry import open_handler
from matching_pipeline.queues.worker import Worker
from matching_pipeline.settings import Settings


def serve(database_url: str, queue: str, settings: Settings | None = None) -> None:
    with open_handler(settings or Settings(database_url=database_url), database_url, queue) as handler:
        Worker(database_url, handler, serve=True).run()
