"""Texts through OpenAI's client to the stand-in: the answers, and requests that are made only once."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import PermanentFailure, ProviderUnavailable
from matching_pipeline_tests.fixtures.openai_models import embedding
from matching_pipeline_tests.fixtures.openai_server import Hold, OpenAIServer
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder, calls, charged

Vector = NDArray[np.float32]


def vectors(answers: Sequence[object]) -> Vector:
    assert all(isinstance(answer, np.ndarray) for answer in answers)
    return np.stack([answer for answer in answers if isinstance(answer, np.ndarray)])


def test_each_text_gets_its_own_embedding_in_order(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    embedder = open_embedder()
    assert (embedder.model, embedder.dimensions) == ("text-embedding-3-small:1536", 1536)
    texts = [f"posting number {number}" for number in range(250)]
    answers = vectors(embedder.embed(texts))
    assert np.allclose(answers, [embedding(text, 1536) for text in texts], atol=1e-6)
    assert np.allclose(np.linalg.norm(answers, axis=1), 1)
    assert server.asked == {"/embeddings": 3}


def test_fewer_dimensions_are_asked_for(open_embedder: OpenEmbedder) -> None:
    embedder = open_embedder(openai_embedding_dimensions=256)
    assert embedder.model == "text-embedding-3-small:256"
    assert vectors(embedder.embed(["a text"])).shape == (1, 256)


def test_a_model_that_takes_no_dimensions_gets_none(open_embedder: OpenEmbedder) -> None:
    assert vectors(open_embedder(openai_embedding_model="text-embedding-ada-002").embed(["a text"])).shape == (
        1,
        1536,
    )


def test_a_server_that_answers_in_plain_numbers_is_understood(
    open_embedder: OpenEmbedder, server: OpenAIServer
) -> None:
    from matching_pipeline_tests.fixtures.openai_server import Fault

    def plain(body: dict[str, list[dict[str, list[float]]]]) -> object:
        body["data"][0]["embedding"] = embedding("hello", 1536).tolist()
        return body

    server.fault = Fault(change=plain)
    assert np.allclose(vectors(open_embedder().embed(["hello"])), [embedding("hello", 1536)], atol=1e-6)


def test_equal_texts_are_asked_once_within_a_batch_across_batches_and_by_another_process(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    embedder = open_embedder()
    first = vectors(embedder.embed(["same", "other", "same", "same"]))
    assert np.array_equal(first[0], first[2])
    assert [body["input"] for body in server.bodies] == [["same", "other"]]
    vectors(embedder.embed(["same"]))
    vectors(open_embedder().embed(["other", "same"]))
    assert server.asked.total() == charged(connection) == 1


def test_equal_texts_are_asked_once_by_threads_at_the_same_time(
    open_embedder: OpenEmbedder, server: OpenAIServer
) -> None:
    embedder = open_embedder()
    server.latency = 0.2
    with ThreadPoolExecutor(6) as threads:
        batches = [["a", "b"], ["b", "a"], ["b", "c"], ["c", "a"], ["a"], ["d"]]
        assert all(len(vectors(answers)) for answers in threads.map(embedder.embed, batches))
    assert sorted(text for body in server.bodies for text in body["input"]) == ["a", "b", "c", "d"]


def test_an_empty_text_fails_without_a_request(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    answers = open_embedder().embed(["", " \n"])
    assert [type(answer) for answer in answers] == [PermanentFailure] * 2
    assert not server.asked


def test_a_text_of_40_000_tokens_is_cut_and_answered(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    text = "senior engineer wanted for a wonderful company " * 6000
    answers = vectors(open_embedder().embed([text, text + "more"]))
    assert np.array_equal(answers[0], answers[1])
    assert len(server.bodies[0]["input"]) == 1
    assert calls(connection) == [("answered", 1)]


def test_a_text_whose_tokens_are_underestimated_is_cut_again(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    texts = ["a b c d e f g " * 3000, "short"]
    first = vectors(open_embedder().embed(texts))
    assert calls(connection) == [("refused", 2), ("refused", 1), ("answered", 1), ("answered", 1)]
    connection.execute("delete from matching_pipeline.ai_answers")
    assert np.array_equal(first, vectors(open_embedder().embed(texts)))


def test_a_batch_is_made_by_estimated_tokens(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    embedder = open_embedder()
    texts = [f"{number} " + "engineer " * 2700 for number in range(100)]
    vectors(embedder.embed(texts))
    for body in server.bodies:
        assert sum(map(embedder.estimate_tokens, body["input"])) <= embedder.batch_tokens
    assert server.statuses == {200: len(server.bodies)}


def test_requests_are_limited_to_the_setting(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    embedder = open_embedder(openai_concurrency=3)
    server.latency = 0.05
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(embedder.embed, [[f"text {number}"] for number in range(20)]))
    assert server.most_at_once == 3 < embedder.concurrency


def test_a_request_waits_rather_than_run_into_the_rate_limit(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    from matching_pipeline_tests.fixtures.openai_server import RateLimit

    embedder = open_embedder(openai_concurrency=4)
    embedder.embed(["the first request opens client and session, while the limit would fill up"])
    server.requests_per_minute = RateLimit(300)
    server.requests_per_minute.level = 4
    embedder.embed(["this answer states the limits"])
    refused = []

    def embed(number: int) -> None:
        try:
            embedder.embed([f"text {number}"])
        except ProviderUnavailable as error:
            refused.append(error)

    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(embed, range(10)))
    assert time.monotonic() - began > 1
    # the server's clock is not ours: one may come a moment too early; without waiting six would
    assert len(refused) <= 1
    assert calls(connection).count(("answered", 1)) == 12 - len(refused)


def test_one_slow_request_does_not_hold_up_the_others(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    embedder, hold = open_embedder(openai_concurrency=4, openai_timeout_seconds=60), Hold()
    server.faults.append(hold.fault)
    with ThreadPoolExecutor(4) as threads:
        slow = threads.submit(embedder.embed, ["slow"])
        assert hold.reached.wait(30)
        list(threads.map(embedder.embed, [[f"text {number}"] for number in range(20)]))
        assert not slow.done()
        hold.go_on.set()


def test_importing_the_providers_does_not_import_the_client() -> None:
    import subprocess
    import sys

    modules = "matching_pipeline.providers.factory, matching_pipeline.handlers.registry"
    code = f"import sys, {modules}; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
