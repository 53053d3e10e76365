"""A picture is looked at again by its age, and analysed again where it changed behind the same URL."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.sources.enqueue import enqueue_looks
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, PictureServer, picture, work_images

VERSIONS = {
    "/etag": {"ETag": '"1"'},
    "/date": {"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
    "/weak": {"ETag": 'W/"1"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"},
    "/none": {},
}
AGE = timedelta(days=7)


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as server:
        for size, (path, headers) in enumerate(VERSIONS.items(), 20):
            server.pictures[path] = (200, picture(size=(size, size)), headers, lambda: None)
        yield server
        server.shutdown()


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def images(app: App, database_url: str, server: PictureServer) -> dict[str, UUID]:
    """They were analysed eight days ago."""
    product = app.product()
    images = {path: app.product_image(product, server.url(path)) for path in VERSIONS}
    work_images(database_url, CountingAnalyzer(), revalidates=True)
    app.run("update matching_pipeline.embeddings set looked_at = now() - interval '8 days'")
    app.run("delete from matching_pipeline.jobs")
    return images


@pytest.mark.usefixtures("images")
def test_a_picture_that_is_the_same_is_not_sent_again(
    app: App, connection: Connection, database_url: str, server: PictureServer
) -> None:
    before = app.run("select embedded_at from matching_pipeline.embeddings order by item")
    assert enqueue_looks(connection, AGE) == 4
    analyzer = CountingAnalyzer()
    assert work_images(database_url, analyzer, revalidates=True).completed == 4
    assert server.unchanged == {"/etag": 1, "/date": 1, "/weak": 1}
    assert server.asked["/none"] == 2
    assert analyzer.count == 0
    assert app.run("select embedded_at from matching_pipeline.embeddings order by item") == before
    assert enqueue_looks(connection, AGE) == 0
    assert not [row for row in app.queue_rows() if row[0] == "matches_project"]


@pytest.mark.parametrize("path", VERSIONS)
def test_a_picture_that_changed_is_analysed_again(
    app: App, connection: Connection, database_url: str, server: PictureServer, images: dict[str, UUID], path: str
) -> None:
    newer = {"ETag": '"2"', "Last-Modified": "Thu, 22 Oct 2015 07:28:00 GMT"}
    server.pictures[path] = (200, picture("red"), {name: newer[name] for name in VERSIONS[path]}, lambda: None)
    enqueue_looks(connection, AGE)
    analyzer = CountingAnalyzer()
    work_images(database_url, analyzer, revalidates=True)
    assert analyzer.count == 1
    assert [row for row in app.queue_rows() if row[0] == "matches_project"]
    assert app.analysed() == set(images.values())


@pytest.mark.usefixtures("images")
def test_a_picture_that_is_gone_keeps_its_embedding_and_is_not_asked_for_again(
    app: App, connection: Connection, database_url: str, server: PictureServer
) -> None:
    del server.pictures["/etag"]
    enqueue_looks(connection, AGE)
    assert work_images(database_url, CountingAnalyzer(), revalidates=True).counts["failed"] == 1
    assert len(app.analysed()) == 4
    assert enqueue_looks(connection, AGE) == 0


@pytest.mark.usefixtures("images")
def test_without_the_setting_a_picture_is_fetched_whole(
    connection: Connection, database_url: str, server: PictureServer
) -> None:
    enqueue_looks(connection, AGE)
    work_images(database_url, CountingAnalyzer())
    assert not server.unchanged
