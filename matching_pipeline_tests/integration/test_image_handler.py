"""The image handler against a real database and a real web server."""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Event
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.errors import ConfigurationError, ModelSwitched
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.models.registry import hold_role, require_dimensions
from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import MODEL, App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, PictureServer, picture, work_images


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as server:
        yield server
        server.shutdown()


@pytest.fixture
def image(app: App, server: PictureServer) -> UUID:
    """A teal image of a project."""
    return app.listing_image(app.listing(), server.put("/teal.png", picture("teal")))


def test_a_row_says_what_was_seen(app: App, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture("teal", (200, 100)))
    image = app.product_image(app.product(), file.as_uri())
    summary = process_due(Settings(image_file_roots=(tmp_path,)), database_url, EXAMPLES, "image_ai")
    assert summary.completed == 1
    ((embedding, thumbnail, *rest),) = app.connection.execute(
        "select embedding, thumbnail, source, image_id, model, dimensions, image_url, content_hash, attributes "
        "from image_ai"
    ).fetchall()
    model, dimensions = LocalImageAnalyzer.model, LocalImageAnalyzer.dimensions
    content_hash = hashlib.sha256(file.read_bytes()).digest()
    assert rest[:-1] == ["product", image, model, dimensions, file.as_uri(), content_hash]
    assert "teal" in rest[-1]["colors"]
    assert np.linalg.norm(embedding.to_numpy()) == pytest.approx(1)
    assert len(embedding.to_numpy()) == dimensions
    assert Image.open(BytesIO(thumbnail)).size == (96, 48)
    assert app.status(image) == ("completed", None)


def test_equal_pictures_are_analysed_once_in_a_batch_across_tables_and_across_runs(
    app: App, database_url: str, server: PictureServer
) -> None:
    listing, product = app.listing(), app.product()
    urls = [server.put(f"/{number}.png", picture("teal")) for number in range(6)]
    first = {app.listing_image(listing, url) for url in urls[:3]} | {app.product_image(product, urls[3])}
    analyzer = CountingAnalyzer()
    work_images(database_url, analyzer)
    second = {app.listing_image(listing, urls[4]), app.product_image(product, urls[5])}
    work_images(database_url, analyzer)
    assert analyzer.count == 1
    assert app.analysed() == first | second
    assert app.run("select count(distinct (embedding, attributes, thumbnail)) from image_ai") == [1]


def test_an_edited_picture_replaces_the_result(
    app: App, database_url: str, server: PictureServer, image: UUID
) -> None:
    work_images(database_url, CountingAnalyzer())
    app.run("update listing_images set image_url = %s", server.put("/red.png", picture("red")))
    work_images(database_url, CountingAnalyzer())
    assert app.run("select image_url from image_ai") == [server.url("/red.png")]


@pytest.mark.parametrize("moment", ["fetching", "analysing"])
def test_where_a_url_is_edited_meanwhile_the_newer_wins(
    app: App, database_url: str, server: PictureServer, image: UUID, moment: str
) -> None:
    new = server.put("/new.png", picture("red"))

    def edit() -> None:
        app.run("update listing_images set image_url = %s where image_url <> %s", new, new)

    if moment == "fetching":
        server.put("/teal.png", picture("teal"), before=edit)
    work_images(database_url, CountingAnalyzer(edit if moment == "analysing" else lambda: None))
    assert app.run("select image_url from image_ai") == [new]
    assert app.run("select status from job_queue where queue = 'image_ai'") == ["completed"] * 2


@pytest.mark.parametrize(
    "statement",
    [
        "delete from listing_images",
        "delete from listings",
        "update listings set type = 'service'",
        "truncate listing_images cascade",
    ],
)
@pytest.mark.parametrize("moment", ["queued", "fetching", "analysing"])
def test_where_an_image_goes_meanwhile_nothing_is_left(
    app: App, database_url: str, server: PictureServer, image: UUID, statement: str, moment: str
) -> None:
    def act() -> None:
        app.run(statement)

    if moment == "queued":
        act()
    server.put("/teal.png", picture("teal"), before=act if moment == "fetching" else lambda: None)
    summary = work_images(database_url, CountingAnalyzer(act if moment == "analysing" else lambda: None))
    assert summary.counts["failed"] == 0
    assert app.analysed() == set()
    assert image not in {entity for _, _, entity in app.queue_rows()}
    there = app.run("select id::text from listings where type = 'project'")
    assert set(app.run("select key from matching_pipeline.entities")) <= set(there)


def test_where_a_product_goes_meanwhile_nothing_is_left(app: App, database_url: str, server: PictureServer) -> None:
    def delete() -> None:
        app.run("delete from products")

    app.product_image(app.product(), server.put("/product.png", picture(), before=delete))
    summary = work_images(database_url, CountingAnalyzer())
    assert (summary.counts["failed"], app.analysed(), app.queue_rows()) == (0, set(), set())


@pytest.mark.parametrize(
    "statement", ["update listings set type = 'service'", "delete from listings", "delete from listing_images"]
)
def test_an_image_that_goes_while_its_result_is_written_keeps_no_result(
    app: App, database_url: str, image: UUID, statement: str
) -> None:
    """The worker's transaction has locked job and entity. The app does not wait for it: a job erases the result."""
    analyzer = CountingAnalyzer()
    analyzer.model, analyzer.dimensions = MODEL, 2
    with connect(database_url) as worker, worker.transaction():
        worker.execute("update matching_pipeline.jobs set started_at = now() where key = %s", (str(image),))
        App(worker).embed("project", image)
        began = time.monotonic()
        app.run(statement)
        assert time.monotonic() - began < 5
    assert app.analysed() == {image}
    app.run("update matching_pipeline.jobs set run_at = now()")
    work_images(database_url, analyzer)
    assert app.analysed() == set()
    there = app.run("select id::text from listings where type = 'project'")
    assert app.run("select key from matching_pipeline.entities") == there


def test_a_slow_picture_does_not_keep_the_others_from_being_seen(
    app: App, database_url: str, server: PictureServer
) -> None:
    product, go_on = app.product(), Event()
    slow = app.product_image(product, server.put("/slow.png", picture("red"), before=lambda: go_on.wait(30)))
    others = {app.product_image(product, server.put(f"/{n}.png", picture(size=(n, n)))) for n in range(1, 7)}
    started = time.monotonic()
    with ThreadPoolExecutor(1) as threads:
        summary = threads.submit(work_images, database_url, CountingAnalyzer())
        while app.analysed() != others:
            assert time.monotonic() - started < 20
            time.sleep(0.05)
        go_on.set()
        assert summary.result().completed == 7
    assert slow in app.analysed()


def test_the_first_model_that_writes_becomes_active_and_no_other_may_follow(connection: Connection) -> None:
    analyzer, other, changed = CountingAnalyzer(), CountingAnalyzer(), CountingAnalyzer()
    other.model, changed.dimensions = "other", 4
    hold_role(connection, analyzer, "image_ai")
    hold_role(connection, analyzer, "image_ai")
    with pytest.raises(ModelSwitched, match="other is not the active model"):
        hold_role(connection, other, "image_ai")
    with pytest.raises(ConfigurationError, match="4"):
        require_dimensions(connection, changed)
    rows = connection.execute(
        "select name, dimensions, status from matching_pipeline.embedding_models where modality = 'image'"
    ).fetchall()
    assert rows == [(analyzer.model, 3, "active")]


def test_two_workers_may_register_the_first_model_at_once(database_url: str) -> None:
    def register(_: int) -> None:
        with connect(database_url) as connection, connection.transaction():
            hold_role(connection, CountingAnalyzer(), "image_ai")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(register, range(8)))
