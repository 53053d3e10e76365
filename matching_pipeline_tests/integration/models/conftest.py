"""A market and a job board whose models change, and workers for any model."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import registry
from matching_pipeline.models import activation
from matching_pipeline.models.registry import registered_models
from matching_pipeline.providers.factory import WorkingModel
from matching_pipeline.queues.progress import Summary
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.openai_server import KEY, openai_server
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.postings import JobBoard

LOCAL_IMAGE, LOCAL_TEXT = "local-visual-2", "local-text-2"
TEXT = "text-embedding-3-small:64"
VISION = f"gpt-6-luna/describe-1/{TEXT}"
COLORS = ("red", "green", "blue", "black", "white", "orange")
Work = Callable[[str], Summary]


@pytest.fixture
def work(database_url: str) -> Iterator[Work]:
    """Works a queue off: the settings choose local providers, and the stand-in has the models of OpenAI."""
    with openai_server() as server:
        settings = Settings(
            image_model="local",
            text_model="local",
            openai_api_key=KEY,
            openai_base_url=server.url,
            image_allow_private_hosts=True,
        )
        yield lambda queue: registry.process_due(settings, database_url, EXAMPLES, queue)


@pytest.fixture
def board(connection: Connection) -> JobBoard:
    return JobBoard(connection)


@pytest.fixture
def market(connection: Connection) -> Iterator["Market"]:
    with PictureServer() as pictures:
        yield Market(connection, pictures)
        pictures.shutdown()


class Market(JobBoard):
    """Pictures of one colour each; every project lists every product."""

    def __init__(self, connection: Connection, pictures: PictureServer) -> None:
        super().__init__(connection)
        self.pictures = pictures
        self.run("update matching_pipeline.match_settings set threshold = -1 where matcher = 'project'")

    def picture(self, color: str) -> str:
        return self.pictures.put(f"/{color}", picture(color))

    def open(self, count: int = 4) -> None:
        for color in COLORS[:count]:
            self.listing_image(self.listing(), self.picture(color))
            self.product_image(self.product(), self.picture(color))

    def pairs(self) -> list[Any]:
        return self.connection.execute(
            "select project_id, product_id, similarity, rank from matches order by project_id, rank"
        ).fetchall()


def add(connection: Connection, name: str, dimensions: int = 64) -> int:
    return activation.add(connection, WorkingModel(name, dimensions), "text" if name.startswith(TEXT) else "image")[1]


def statuses(connection: Connection) -> dict[str, str]:
    return {model.name: model.status for model, _ in registered_models(connection)}


def models_of(connection: Connection, table: str) -> dict[str, int]:
    return dict(connection.execute(f"select model, count(*) from {table} group by model".encode()).fetchall())
