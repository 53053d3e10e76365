"""The gallery over a database with a few entities, without a server between."""

import re
from collections.abc import Callable, Iterator

import pytest
from starlette.testclient import TestClient

from matching_pipeline.gallery.app import make_app
from matching_pipeline.settings import Settings

Open = Callable[..., TestClient]


@pytest.fixture
def open_gallery(database_url: str) -> Iterator[Open]:
    """Makes a client of a gallery with these settings."""
    clients: list[TestClient] = []

    def open_one(host: str = "127.0.0.1", url: str = database_url, **settings: object) -> TestClient:
        app = make_app(Settings(**settings), url, host)  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1:3001", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return client

    yield open_one
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def gallery(open_gallery: Open) -> TestClient:
    return open_gallery()


def token_of(page: str) -> str:
    (token, *_) = re.findall(r'name="token" value="(\w+)"', page)
    return str(token)
