"""An image with a fault: its job names the fault, and every other job is done."""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.pictures.fetch import FetchLimits
from matching_pipeline.providers.protocols import ImageAnalysis
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import CountingAnalyzer, PictureServer, claiming, picture, work_images

LIMITS = FetchLimits(allow_private_hosts=True, timeout_seconds=2)


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with PictureServer() as server:
        server.put("/slow", picture(), before=lambda: time.sleep(5))
        server.put("/loop", b"", status=302, Location="/loop")
        server.put("/html", b"<!doctype html><title>Sign in</title>")
        server.put("/empty", b"")
        server.put("/svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>')
        server.put("/busy", b"", status=503)
        server.put("/truncated", picture(size=(500, 500))[:600])
        server.put("/good", picture())
        yield server
        server.shutdown()


def test_each_fault_is_named_and_treated_by_its_kind(app: App, database_url: str, server: PictureServer) -> None:
    server.put("/bomb", claiming(picture(), 60_000, 40_000))
    product = app.product()
    permanent = {
        "/missing": "404",
        "/loop": "IMAGE_MAX_REDIRECTS",
        "/html": "HTML page",
        "/empty": "zero bytes",
        "/bomb": "IMAGE_MEMORY_BYTES",
        "/svg": "SVG",
        "/truncated": "truncated PNG",
    }
    transient = {"/slow": "IMAGE_TIMEOUT_SECONDS (2)", "/busy": "503"}
    ids = {path: app.product_image(product, server.url(path)) for path in [*permanent, *transient, "/good"]}
    summary = work_images(database_url, CountingAnalyzer(), LIMITS)
    assert (summary.completed, summary.counts["failed"]) == (1, 9)
    for path, reason in permanent.items():
        status, message = app.status(ids[path])
        assert (status, reason in (message or "")) == ("failed", True), message
    for path, reason in transient.items():
        status, message = app.status(ids[path])
        assert (status, reason in (message or "")) == ("pending", True), message
    assert all(
        timedelta(seconds=50) < wait <= timedelta(minutes=1)
        for wait in app.run("select run_at - now() from job_queue where queue = 'image_ai' and status = 'pending'")
    )
    assert app.analysed() == {ids["/good"]}


def test_a_private_address_is_refused_where_it_is_not_allowed(
    app: App, database_url: str, server: PictureServer
) -> None:
    image = app.product_image(app.product(), server.url("/good"))
    work_images(database_url, CountingAnalyzer(), FetchLimits())
    status, message = app.status(image)
    assert status == "failed"
    assert "IMAGE_ALLOW_PRIVATE_HOSTS" in str(message)
    assert server.asked == {}


def test_a_file_outside_the_folders_named_is_refused(app: App, database_url: str, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(picture())
    image = app.product_image(app.product(), file.as_uri())
    work_images(database_url, CountingAnalyzer(), FetchLimits(file_roots=(tmp_path / "elsewhere",)))
    status, message = app.status(image)
    assert status == "failed"
    assert "IMAGE_FILE_ROOTS" in str(message)


@pytest.mark.parametrize(("url", "reason"), [(None, "no URL"), ("", "no URL"), ("a cat", "not a URL")])
def test_an_image_without_a_url_fails_and_says_so(app: App, database_url: str, url: str | None, reason: str) -> None:
    image = app.product_image(app.product(), url)
    work_images(database_url, CountingAnalyzer())
    status, message = app.status(image)
    assert status == "failed"
    assert reason in str(message)


@pytest.mark.parametrize("path", ["/missing", "/busy", None])
def test_an_outdated_embedding_is_deleted_when_the_edited_image_fails(
    app: App, database_url: str, server: PictureServer, path: str | None
) -> None:
    image = app.product_image(app.product(), server.url("/good"))
    work_images(database_url, CountingAnalyzer())
    app.run("update product_images set src = %s", path and server.url(path))
    app.run("delete from matching_pipeline.jobs where status = 'completed' or queue = 'matches_project'")
    work_images(database_url, CountingAnalyzer())
    assert app.analysed() == set()
    assert ("matches_project", "product") in {row[:2] for row in app.queue_rows()}
    assert app.run("select status from job_queue where entity_id = %s", image) == [
        "pending" if path == "/busy" else "failed"
    ]


def test_an_embedding_that_is_up_to_date_stays_when_its_image_fails_later(
    app: App, database_url: str, server: PictureServer
) -> None:
    product = app.product()
    image = app.product_image(product, server.url("/good"))
    work_images(database_url, CountingAnalyzer())
    del server.pictures["/good"]
    app.run("delete from matching_pipeline.jobs")
    app.run("select enqueue_product_images(%s)", product)
    work_images(database_url, CountingAnalyzer())
    assert app.status(image)[0] == "failed"
    assert app.analysed() == {image}


class OddAnalyzer(CountingAnalyzer):
    """Answers wide pictures with the given answer."""

    def __init__(self, answer: np.ndarray | Exception) -> None:
        super().__init__()
        self._answer = answer

    def analyze(self, picture: Image.Image) -> ImageAnalysis:
        if picture.width < 100:
            return super().analyze(picture)
        if isinstance(self._answer, Exception):
            raise self._answer
        return ImageAnalysis(self._answer.astype(np.float32), {})


@pytest.fixture
def odd_and_good(app: App, server: PictureServer) -> tuple[UUID, set[UUID]]:
    """A wide image, and others."""
    product = app.product()
    odd = app.product_image(product, server.put("/wide", picture(size=(100, 10))))
    return odd, {app.product_image(product, server.put(f"/{n}", picture(size=(n, n)))) for n in (10, 11, 12)}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (np.array([np.nan, 0, 1]), "embedding of length nan"),
        (np.array([np.inf, 0, 1]), "embedding of length inf"),
        (np.zeros(3), "embedding of length 0"),
        (np.ones(4), "embeddings_model_fkey"),
        (RuntimeError("out of memory"), "RuntimeError: out of memory"),
    ],
)
def test_a_wrong_analysis_fails_its_job_only(
    app: App, database_url: str, odd_and_good: tuple[UUID, set[UUID]], answer: np.ndarray | Exception, reason: str
) -> None:
    odd, good = odd_and_good
    work_images(database_url, OddAnalyzer(answer))
    assert app.analysed() == good
    status, message = app.status(odd)
    assert status == "pending"
    assert reason in str(message)


@pytest.mark.parametrize(
    "error",
    [ProviderUnavailable("it is down", timedelta(minutes=5)), ConfigurationError("OPENAI_API_KEY is refused")],
)
def test_an_error_that_concerns_every_job_ends_the_worker_and_counts_no_attempt(
    app: App, database_url: str, odd_and_good: tuple[UUID, set[UUID]], error: Exception
) -> None:
    odd, _ = odd_and_good
    with pytest.raises(type(error), match=str(error)):
        work_images(database_url, OddAnalyzer(error))
    assert app.run(
        "select status, attempts - snoozes from job_queue where entity_id = %s and attempts = snoozes", odd
    ) == ["pending"]


def test_a_host_that_asks_to_wait_costs_no_attempt_and_holds_up_no_other_host(
    app: App, database_url: str, server: PictureServer
) -> None:
    with PictureServer() as limited:
        product = app.product()
        refused = [app.product_image(product, limited.put(f"/{n}", b"", status=429)) for n in range(30)]
        good = {app.product_image(product, server.put(f"/{n}", picture(size=(n, 9)))) for n in range(10, 30)}
        summary = work_images(database_url, CountingAnalyzer(), LIMITS)
        limited.shutdown()
    assert (summary.completed, summary.counts["failed"], summary.counts["snoozed"]) == (20, 0, 30)
    assert app.analysed() == good
    # those that were under way when the first was refused
    assert limited.asked.total() <= LIMITS.host_concurrency
    status, message = app.status(refused[-1])
    assert (status, "asks to wait" in str(message)) == ("pending", True)
    assert app.run(
        "select bool_and(attempts = snoozes and run_at > now() + interval '20 s') from matching_pipeline.jobs "
        "where queue = 'image_ai' and status = 'pending'"
    ) == [True]
