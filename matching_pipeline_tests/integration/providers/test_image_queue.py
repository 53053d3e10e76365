"""The queue `image_ai` through OpenAI: rows, a provider that is away, a budget, a kill."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.handlers import registry
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.openai_server import Hold, OpenAIServer, server_error
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.integration.conftest import until
from matching_pipeline_tests.integration.providers.conftest import calls

BUDGET = "0.00406"
"""Enough for one description, which may cost 0.004 and costs 0.000068, and its embedding; not for two."""

SettingsFor = Callable[..., Settings]
DIE_AT_THE_WRITE = """
import os, signal
from matching_pipeline.handlers import registry
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import declared
from matching_pipeline.handlers.images import ImageHandler
ImageHandler.write = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
settings = Settings()
registry.process_due(settings, settings.database_url, declared(settings), "image_ai")
"""


@pytest.fixture
def app(connection: Connection) -> App:
    return App(connection)


@pytest.fixture
def pictures() -> Iterator[PictureServer]:
    with PictureServer() as pictures:
        yield pictures
        pictures.shutdown()


@pytest.fixture
def work(settings_for: SettingsFor, database_url: str) -> Callable[..., object]:
    def work(**changes: object) -> object:
        settings = settings_for(image_allow_private_hosts=True, database_url=database_url, **changes)
        return registry.process_due(settings, database_url, EXAMPLES, "image_ai")

    return work


def make_due(app: App) -> None:
    app.run("update matching_pipeline.jobs set run_at = now() where status = 'pending'")


def test_the_analysis_and_its_tokens_are_rows_of_image_ai(
    app: App, pictures: PictureServer, work: Callable[..., object]
) -> None:
    app.product_image(app.product(), pictures.put("/a", picture("red")))
    work()
    (row,) = app.connection.execute(
        "select model, vision_model, dimensions, vector_dims(embedding), attributes ->> 'caption', input_tokens, "
        "output_tokens from image_ai"
    ).fetchall()
    assert row == (
        *("gpt-6-luna/describe-1/text-embedding-3-small:1536", "gpt-6-luna", 1536, 1536, "A red surface."),
        *(301, 76),
    )
    cost = queue_cost_today(app.connection, "image_ai")
    assert (cost.requests, cost.failed_requests, cost.rows) == (2, 0, 1)
    assert cost.cost_usd_per_thousand_rows == 1000 * cost.cost_usd
    assert cost.cost_usd > 0


def test_equal_pictures_of_different_bytes_are_asked_once_with_the_same_tokens(
    app: App, pictures: PictureServer, work: Callable[..., object], server: OpenAIServer
) -> None:
    file = BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, "BMP")
    product = app.product()
    app.product_image(product, pictures.put("/a", picture("red")))
    app.product_image(product, pictures.put("/b", file.getvalue()))
    work()
    app.product_image(product, pictures.put("/c", picture("red")))
    work()
    assert app.run("select input_tokens from image_ai") == [301] * 3
    assert server.asked == {"/chat/completions": 1, "/embeddings": 1}


def test_500_rows_that_arrive_while_the_provider_is_down_are_done_later_without_an_attempt(
    app: App, pictures: PictureServer, work: Callable[..., object], server: OpenAIServer
) -> None:
    server.fault = server_error(503)
    product = app.product()
    urls = [pictures.put(f"/{number}", picture("red", (20 + number % 10, 20))) for number in range(500)]
    for round in range(5):
        app.run(
            "insert into product_images (id, product_id, src) select gen_random_uuid(), %s, unnest(%s::text[])",
            *(product, urls[round * 100 : (round + 1) * 100]),
        )
        make_due(app)
        with pytest.raises(ProviderUnavailable):
            work()
        assert set(app.run("select attempts - snoozes from job_queue where queue = 'image_ai'")) == {0}
    failed_requests = len(calls(app.connection))
    assert failed_requests <= 5 * 2 * 8
    server.fault = None
    make_due(app)
    work()
    assert app.run("select count(*) from image_ai") == [500]
    assert app.run("select distinct status, attempts - snoozes from job_queue where queue = 'image_ai'") == [
        "completed"
    ]
    assert app.run("select max(attempts - snoozes) from job_queue where queue = 'image_ai'") == [1]
    assert server.statuses[200] == len(calls(app.connection)) - failed_requests == 10 + 1


def test_a_bad_key_ends_the_run_without_an_attempt(
    app: App, pictures: PictureServer, work: Callable[..., object]
) -> None:
    app.product_image(app.product(), pictures.put("/a", picture()))
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        work(openai_api_key="sk-wrong")
    assert app.run("select attempts - snoozes from job_queue where queue = 'image_ai'") == [0]


def test_a_spent_budget_stops_requests_until_the_next_day_and_fails_nothing(
    app: App, pictures: PictureServer, work: Callable[..., object], server: OpenAIServer
) -> None:
    product = app.product()
    app.product_image(product, pictures.put("/a", picture("red")))
    work(ai_daily_budget_usd=BUDGET)
    assert app.run("select count(*) from image_ai") == [1]
    before = server.asked.total()
    image = app.product_image(product, pictures.put("/b", picture("blue")))
    with pytest.raises(ProviderUnavailable, match="AI_DAILY_BUDGET_USD"):
        work(ai_daily_budget_usd=BUDGET)
    assert server.asked.total() == before
    assert app.status(image)[0] == "pending"
    assert app.run(
        "select run_at >= date_trunc('day', now() at time zone 'utc') at time zone 'utc' + interval '1 day' "
        "and attempts = snoozes from job_queue where entity_id = %s",
        image,
    ) == [True]
    app.run("update matching_pipeline.ai_spending set day = day - 1")
    make_due(app)
    work(ai_daily_budget_usd=BUDGET)
    assert app.status(image)[0] == "completed"


def test_answers_in_the_cache_are_used_though_the_budget_is_spent(
    app: App, pictures: PictureServer, work: Callable[..., object]
) -> None:
    product = app.product()
    app.product_image(product, pictures.put("/a", picture("red")))
    work()
    app.run("delete from matching_pipeline.embeddings")
    app.product_image(product, pictures.put("/b", picture("red")))
    work(ai_daily_budget_usd="0")
    assert app.run("select count(*) from image_ai") == [1]


def test_an_answer_is_not_bought_again_after_a_kill_between_answer_and_write(
    app: App,
    pictures: PictureServer,
    work: Callable[..., object],
    server: OpenAIServer,
    run_killed: Callable[..., None],
) -> None:
    app.product_image(app.product(), pictures.put("/a", picture("red")))
    run_killed(DIE_AT_THE_WRITE)
    assert app.run("select count(*) from image_ai") == [0]
    bought = server.asked.copy()
    assert bought == {"/chat/completions": 1, "/embeddings": 1}
    app.run("update matching_pipeline.jobs set run_at = now() - interval '1 second'")
    work()
    assert app.run("select count(*) from image_ai") == [1]
    assert server.asked == bought


def test_one_slow_answer_leaves_the_rest_of_the_batch_written(
    app: App, pictures: PictureServer, work: Callable[..., object], server: OpenAIServer, connection: Connection
) -> None:
    hold = Hold()
    server.faults.append(hold.fault)
    product = app.product()
    for number in range(20):
        app.product_image(product, pictures.put(f"/{number}", picture("red", (20 + number, 20))))
    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work, openai_timeout_seconds=60)
        until(connection, "(select count(*) from image_ai) = 19")
        hold.go_on.set()
        working.result()
    assert app.run("select count(*) from image_ai") == [20]
