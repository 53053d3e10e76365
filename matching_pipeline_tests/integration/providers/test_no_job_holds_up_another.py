"""Queues with one poisonous job: all others are done, and its own attempts are counted."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.handlers import registry
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures import openai_models
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.openai_answers import FORBIDDEN_PAGE, poisonous, refusal, spoil, stated
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.fixtures.pictures import PictureServer, picture
from matching_pipeline_tests.fixtures.postings import JobBoard

Work = Callable[..., object]


@pytest.fixture
def work(settings_for: Callable[..., Settings], database_url: str, connection: Connection) -> Work:
    """Does what is due in a queue, however long it would have to wait; raises what a worker would raise."""

    def work(queue: str, **changes: object) -> object:
        connection.execute("update matching_pipeline.jobs set run_at = now() where status = 'pending'")
        settings = settings_for(image_allow_private_hosts=True, database_url=database_url, **changes)
        return registry.process_due(settings, database_url, EXAMPLES, queue)

    return work


def attempts(connection: Connection, queue: str) -> dict[str, int]:
    """The highest count of attempts by status."""
    rows = connection.execute(
        "select status, max(attempts - snoozes) from matching_pipeline.jobs where queue = %s group by status",
        (queue,),
    ).fetchall()
    return dict(rows)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(stated(500, {"error": "input too large to process"}), "input too large to process", id="500"),
        pytest.param(spoil([None] * 1536), "not a list of numbers", id="nulls"),
        pytest.param(stated(403, FORBIDDEN_PAGE), "Request blocked by the firewall", id="403"),
    ],
)
def test_one_posting_of_250_fails_after_three_attempts_with_the_servers_reason(
    connection: Connection, server: OpenAIServer, work: Work, fault: Fault, reason: str
) -> None:
    board = JobBoard(connection)
    posted = [board.post(f"posting {number}") for number in range(249)]
    bad = board.post("poison")
    server.fault = poisonous(fault)
    work("job_embeddings")
    assert board.embedded() == set(posted)
    assert attempts(connection, "job_embeddings") == {"completed": 1, "pending": 1}
    for _ in range(2):
        work("job_embeddings")
    status, message = board.status(bad)
    assert status == "failed"
    assert reason in str(message)
    assert "OPENAI_API_KEY" not in str(message)


def test_postings_that_are_refused_alike_wait_for_a_person_without_an_attempt(
    connection: Connection, server: OpenAIServer, work: Work
) -> None:
    board = JobBoard(connection)
    for number in range(40):
        board.post(f"posting {number}")
    server.fault = refusal(400, "Budget has been exceeded! Max budget: 1.0", type="budget_exceeded")
    with pytest.raises(ProviderUnavailable, match="quota"):
        work("job_embeddings")
    server.fault = stated(400, {"error": "some unknown words"})
    with pytest.raises(ConfigurationError, match=r"OPENAI_EMBEDDING_MODEL: .*some unknown words"):
        work("job_embeddings")
    assert attempts(connection, "job_embeddings") == {"pending": 0}
    server.fault = None
    work("job_embeddings")
    assert attempts(connection, "job_embeddings") == {"completed": 1}


@pytest.fixture
def pictures() -> Iterator[PictureServer]:
    with PictureServer() as pictures:
        yield pictures
        pictures.shutdown()


def is_red(body: Any) -> bool:
    """Whether a picture is sent, and is red."""
    if "messages" not in body:
        return False
    red, green, _ = np.asarray(openai_models.sent_picture(body["messages"]).convert("RGB")).mean(axis=(0, 1))
    return bool(red > 150 > green)


@pytest.mark.parametrize("fault", [server_error(500), stated(403, FORBIDDEN_PAGE)], ids=["500", "403"])
def test_one_picture_of_21_is_tried_again_and_the_others_are_written(
    connection: Connection, server: OpenAIServer, pictures: PictureServer, work: Work, fault: Fault
) -> None:
    app = App(connection)
    product = app.product()
    app.product_image(product, pictures.put("/bad", picture("red", (40, 40))))
    for number in range(20):
        app.product_image(product, pictures.put(f"/{number}", picture("blue", (20 + number, 20))))
    server.fault = Fault(fault.refusal, raw=fault.raw, when=is_red)
    work("image_ai", openai_concurrency=2)
    assert app.run("select count(*) from image_ai") == [20]
    assert attempts(connection, "image_ai") == {"completed": 1, "pending": 1}
    for _ in range(2):
        work("image_ai")
    assert attempts(connection, "image_ai") == {"completed": 1, "failed": 3}


def test_what_is_bought_is_written_before_the_queue_stops(
    connection: Connection, server: OpenAIServer, pictures: PictureServer, work: Work
) -> None:
    app = App(connection)
    product = app.product()
    for number in range(12):
        app.product_image(product, pictures.put(f"/{number}", picture("blue", (20 + number, 20))))
    described = count(1)
    down = server_error(500).refusal
    server.fault = Fault(down, when=lambda body: "messages" in body and next(described) > 5)
    with pytest.raises(ProviderUnavailable):
        work("image_ai", openai_concurrency=1)
    bought = connection.execute(
        "select count(*) from matching_pipeline.ai_answers where model like 'gpt-6-luna%'"
    ).fetchone()
    assert app.run("select count(*) from image_ai") == list(bought or ()) == [5]
    assert attempts(connection, "image_ai") == {"completed": 1, "pending": 0}
