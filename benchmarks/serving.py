"""A worker of one queue that serves until it is told to stop."""

from matching_pipeline import examples
from matching_pipeline.handlers.registry import open_handler
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load


def serve(database_url: str, queue: str, settings: Settings | None = None) -> None:
    settings = settings or Settings(database_url=database_url)
    with open_handler(settings, database_url, load(examples.FOLDER), queue) as handler:
        QueueWorker(database_url, handler, serve=True).run()
