"""Each fault of a provider of embeddings: its policy, the requests made, and the requests that cost something."""

import socket
from datetime import timedelta
from email.utils import formatdate
from typing import Any

import numpy as np
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline_tests.fixtures import openai_models
from matching_pipeline_tests.fixtures.openai_answers import edited
from matching_pipeline_tests.fixtures.openai_models import Refusal
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, out_of_quota, rate_limit, server_error
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder, calls, charged

IN_THE_PAST = "Wed, 21 Oct 2015 07:28:00 GMT"
TEXTS = ["one", "two", "three"]


def seconds(*bounds: float) -> tuple[timedelta, ...]:
    return tuple(timedelta(seconds=bound) for bound in bounds)


@pytest.mark.parametrize(
    ("fault", "least", "most", "outcome", "asked"),
    [
        pytest.param(rate_limit(retry_after="7"), 7, 7, "rate limit", 1, id="429 with Retry-After"),
        pytest.param(rate_limit(retry_after="7", retry_after_ms="2500"), 2.5, 2.5, "rate limit", 1, id="429 with ms"),
        pytest.param(rate_limit(), 20, 20, "rate limit", 1, id="429 without Retry-After"),
        pytest.param(rate_limit(retry_after=IN_THE_PAST), 20, 20, "rate limit", 1, id="429 in the past"),
        pytest.param(rate_limit(retry_after="-3"), 20, 20, "rate limit", 1, id="429 negative"),
        pytest.param(rate_limit(retry_after="0"), 20, 20, "rate limit", 1, id="429 at once"),
        pytest.param(rate_limit(retry_after="9999999"), 3600, 3600, "rate limit", 1, id="429 for months"),
        pytest.param(
            rate_limit(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="1m2s"),
            *(62, 62, "rate limit", 1),
            id="429 with a reset",
        ),
        pytest.param(out_of_quota(), 3600, 3600, "rate limit", 1, id="insufficient_quota"),
        pytest.param(server_error(500), 30, 30, "unavailable", 2, id="500"),
        pytest.param(server_error(503), 30, 30, "unavailable", 2, id="503"),
        pytest.param(server_error(503, retry_after="5"), 5, 5, "unavailable", 1, id="503 with Retry-After"),
        pytest.param(Fault(cut_after=100), 30, 30, "unavailable", 2, id="reset in mid-body"),
        pytest.param(Fault(delay=0.8), 30, 30, "unavailable", 2, id="hang"),
        pytest.param(Fault(raw=b'{"object": "list", "da'), 30, 30, "unavailable", 2, id="malformed JSON"),
        pytest.param(Fault(raw=b"<html>502 Bad Gateway</html>"), 30, 30, "unavailable", 2, id="HTML"),
        pytest.param(Fault(change=lambda body: {}), 30, 30, "unavailable", 2, id="another form"),
    ],
)
def test_a_provider_that_fails_is_asked_once_more_at_most_and_says_how_long_to_snooze(
    open_embedder: OpenEmbedder,
    server: OpenAIServer,
    connection: Connection,
    fault: Fault,
    least: float,
    most: float,
    outcome: str,
    asked: int,
) -> None:
    server.fault = fault
    embedder = open_embedder(openai_timeout_seconds=0.5 if fault.delay else 10)
    with pytest.raises(ProviderUnavailable) as raised:
        embedder.embed(TEXTS)
    assert timedelta(seconds=least) <= raised.value.retry_after <= timedelta(seconds=most)
    # a probe tells the provider's faults from those of a text
    assert calls(connection) == [(outcome, 3), (outcome, 1)][:asked]
    assert charged(connection) == 0
    assert server.asked.total() == asked
    server.fault = None
    assert len(open_embedder().embed(TEXTS)) == 3


def test_a_date_to_retry_after_is_obeyed(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    import time

    server.faults.append(rate_limit(retry_after=formatdate(time.time() + 90, usegmt=True)))
    with pytest.raises(ProviderUnavailable) as raised:
        open_embedder().embed(TEXTS)
    assert timedelta(seconds=80) < raised.value.retry_after <= timedelta(seconds=90)


def test_a_quota_that_is_used_up_says_to_look_at_billing(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    server.faults.append(out_of_quota())
    with pytest.raises(ProviderUnavailable, match="billing"):
        open_embedder().embed(TEXTS)


def test_a_refused_connection_snoozes_and_names_the_address(
    open_embedder: OpenEmbedder, connection: Connection
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    with pytest.raises(ProviderUnavailable, match=url) as raised:
        open_embedder(openai_base_url=url).embed(TEXTS)
    assert raised.value.retry_after == timedelta(seconds=30)
    assert calls(connection) == [("unavailable", 3)]


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"openai_api_key": "sk-wrong"}, "OPENAI_API_KEY"),
        ({"openai_embedding_model": "text-embedding-9"}, "OPENAI_EMBEDDING_MODEL"),
        ({"openai_embedding_dimensions": 4000}, "OPENAI_EMBEDDING_DIMENSIONS"),
        (
            {"openai_embedding_model": "text-embedding-ada-002", "openai_embedding_dimensions": 512},
            "OPENAI_EMBEDDING_DIMENSIONS",
        ),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    open_embedder: OpenEmbedder, connection: Connection, changes: dict[str, Any], setting: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: "):
        open_embedder(**changes).embed(TEXTS)
    assert {outcome for outcome, _ in calls(connection)} == {"configuration"}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"openai_api_key": "sk new\nline"}, "OPENAI_API_KEY"),
        ({"openai_base_url": "api.example.com/v1"}, "OPENAI_BASE_URL"),
    ],
)
def test_a_setting_that_cannot_be_is_named_before_any_request(
    open_embedder: OpenEmbedder, server: OpenAIServer, changes: dict[str, Any], setting: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: "):
        open_embedder(**changes)
    assert not server.asked


def test_an_address_without_the_protocol_is_named(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    with pytest.raises(ConfigurationError, match=r"^OPENAI_BASE_URL: "):
        open_embedder(openai_base_url=server.url + "/v2").embed(TEXTS)


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_without_the_right_is_named(open_embedder: OpenEmbedder, server: OpenAIServer, status: int) -> None:
    server.fault = Fault(Refusal(status, "You have insufficient permissions for this operation."))
    with pytest.raises(ConfigurationError, match=r"^OPENAI_API_KEY: "):
        open_embedder().embed(TEXTS)


def test_one_bad_text_in_a_batch_of_100_fails_alone(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    server.refused_word = "poison"
    texts = [f"text {number}" for number in range(100)]
    texts[37] = "poison"
    answers = open_embedder().embed(texts)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, PermanentFailure)] == [37]
    assert all(isinstance(answer, np.ndarray) for number, answer in enumerate(answers) if number != 37)
    outcomes = [outcome for outcome, _ in calls(connection)]
    assert outcomes.count("refused") <= 8
    probes = 2
    assert len(outcomes) <= 15 + probes
    assert sum(items for outcome, items in calls(connection) if outcome == "answered") == 99 + probes


def test_a_batch_over_the_token_limit_is_split_without_cost(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_models, "MAX_REQUEST_TOKENS", 25)
    answers = open_embedder().embed([f"posting number {number}" for number in range(16)])
    assert all(isinstance(answer, np.ndarray) for answer in answers)
    assert sum(items for outcome, items in calls(connection) if outcome == "answered") == 16
    assert charged(connection) == server.statuses[200]


def test_a_batch_too_large_for_the_rate_limit_is_split(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    message = "Request too large for text-embedding-3-small on tokens per min (TPM): Limit 40000, Requested 50000."
    server.faults.append(Fault(Refusal(429, message, "rate_limit_exceeded", type="tokens")))
    assert len(open_embedder().embed(TEXTS)) == 3
    assert calls(connection) == [("refused", 3), ("answered", 2), ("answered", 1)]


def test_vectors_in_another_order_are_told_apart_by_their_index(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    server.faults.append(Fault(change=lambda body: body | {"data": body["data"][::-1]}))
    answers = open_embedder().embed(TEXTS)
    assert np.allclose(answers, [openai_models.embedding(text, 1536) for text in TEXTS], atol=1e-6)  # type: ignore[arg-type]
    assert calls(connection) == [("answered", 3)]


def test_a_text_whose_vector_is_missing_is_tried_again_alone(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    server.faults.append(Fault(change=lambda body: body | {"data": body["data"][:2]}))
    embedder = open_embedder()
    assert [type(answer) for answer in embedder.embed(TEXTS)] == [np.ndarray, np.ndarray, TransientFailure]
    assert [type(answer) for answer in embedder.embed(TEXTS)] == [np.ndarray] * 3
    assert calls(connection) == [("answered", 3), ("answered", 1)]


@pytest.mark.parametrize("index", [0, 3, -1])
def test_vectors_that_cannot_be_told_apart_are_not_believed(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection, index: int
) -> None:
    server.fault = edited(lambda entries: entries[-1].update(index=index if len(entries) > 1 else 1))
    with pytest.raises(ProviderUnavailable, match="embeddings"):
        open_embedder().embed(TEXTS)
    assert calls(connection) == [("unavailable", 3), ("unavailable", 1)]
    assert charged(connection) == 2
    assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (0,)


def test_vectors_of_other_dimensions_are_a_matter_of_configuration(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    def short(body: dict[str, Any]) -> dict[str, Any]:
        for entry in body["data"]:
            entry["embedding"] = [0.6, 0.8]
        return body

    server.fault = Fault(change=short)
    with pytest.raises(ConfigurationError, match=r"OPENAI_EMBEDDING_DIMENSIONS: .* 2 dimensions, not 1536"):
        open_embedder().embed(TEXTS)
    assert connection.execute("select count(*) from matching_pipeline.ai_answers").fetchone() == (0,)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_a_vector_without_a_direction_fails_its_text_only_and_is_not_kept(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection, value: float
) -> None:
    def spoiled(body: dict[str, Any]) -> dict[str, Any]:
        body["data"][1]["embedding"] = [value] * 1536
        return body

    server.faults.append(Fault(change=spoiled))
    embedder = open_embedder()
    answers = embedder.embed(TEXTS)
    assert [type(answer) for answer in answers] == [np.ndarray, TransientFailure, np.ndarray]
    assert [type(answer) for answer in embedder.embed(TEXTS)] == [np.ndarray] * 3
    assert calls(connection) == [("answered", 3), ("answered", 1)]


def test_each_request_is_recorded_with_what_it_took(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    server.faults.append(server_error(503, retry_after="1"))
    embedder = open_embedder()
    with pytest.raises(ProviderUnavailable):
        embedder.embed(TEXTS)
    embedder.embed(TEXTS)
    rows = connection.execute(
        "select queue, model, items, input_tokens, output_tokens, cost_usd, request_id, error "
        "from matching_pipeline.ai_calls order by id"
    ).fetchall()
    assert [row[:5] for row in rows] == [
        ("postings", "text-embedding-3-small", 3, 0, 0),
        ("postings", "text-embedding-3-small", 3, 3, 0),
    ]
    assert [float(row[5]) for row in rows] == [0, 3 * 0.02 / 1_000_000]
    assert [row[6] for row in rows] == ["req_1", "req_2"]
    assert "overloaded" in rows[0][7]
    assert rows[1][7] is None


def test_no_record_and_no_message_holds_the_key(open_embedder: OpenEmbedder, connection: Connection) -> None:
    with pytest.raises(ConfigurationError) as raised:
        open_embedder(openai_api_key="sk-very-secret").embed(TEXTS)
    recorded = connection.execute("select error from matching_pipeline.ai_calls").fetchall()
    assert "very-secret" not in f"{raised.value} {recorded}"
