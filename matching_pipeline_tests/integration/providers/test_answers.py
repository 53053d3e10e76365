"""What happens at each answer of a provider: to one text while others pass, and where all requests have it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline_tests.fixtures.openai_answers import (
    DROPPED_ZERO,
    FORBIDDEN_PAGE,
    NO_INDEXES,
    TOO_LONG_FOR,
    TOO_MANY_FOR,
    UNKNOWN_OPTION,
    by_name,
    longer_than,
    more_than,
    poisonous,
    refusal,
    spoil,
    stated,
)
from matching_pipeline_tests.fixtures.openai_models import embedding
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder, calls

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "providers.md"
ROWS = re.findall(r"^\| (?!answer|---)(.+?) \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(), re.MULTILINE)
LONG = "a poison of many words " * 40


def happened(answers: Any) -> str:
    """In the words of the document, to the last text."""
    match answers[-1]:
        case TransientFailure():
            return "tried again"
        case PermanentFailure():
            return "failed"
        case np.ndarray():
            return "embedded"
    return str(answers[-1])


def embed(embedder: Any, texts: list[str]) -> str:
    try:
        return happened(embedder.embed(texts))
    except ProviderUnavailable:
        return "waits"
    except ConfigurationError as error:
        return f"stops, `{str(error).partition(':')[0]}`"


def test_the_document_has_a_row_for_each_answer_of_the_stand_in() -> None:
    assert [name for name, _, _ in ROWS] == list(by_name())


@pytest.mark.parametrize(("name", "to_one", "to_all"), ROWS, ids=[name for name, *_ in ROWS])
def test_the_document_says_what_happens(
    open_embedder: OpenEmbedder, server: OpenAIServer, name: str, to_one: str, to_all: str
) -> None:
    fault = by_name()[name]
    embedder = open_embedder(openai_timeout_seconds=0.5 if fault.delay else 10)
    embedder.embed(["the first request opens client and session"])
    server.fault = poisonous(fault)
    assert embed(embedder, ["good", LONG]) == to_one
    if to_one in ("tried again", "failed", "embedded"):
        assert embed(embedder, ["good"]) == "embedded"
    server.fault = fault
    assert embed(embedder, [f"{LONG} of all", f"{LONG} of each"]) == to_all


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(server_error(500), "The server had an error", id="500"),
        pytest.param(
            stated(500, {"error": "input too large to process"}), "input too large to process", id="too large"
        ),
        pytest.param(stated(502, b"<html><h1>Bad Gateway</h1></html>"), "Bad Gateway", id="502 page"),
        pytest.param(stated(424, {"detail": "backend died"}), "backend died", id="424"),
        pytest.param(stated(403, FORBIDDEN_PAGE), "403 Forbidden Request blocked by the firewall", id="403 page"),
        pytest.param(spoil([None] * 1536), "not a list of numbers", id="nulls"),
        pytest.param(spoil(None), "not a list of numbers", id="null"),
        pytest.param(spoil(["a"] * 1536), "not a list of numbers", id="words"),
        pytest.param(Fault(change=lambda body: {"data": []}), "embeddings of the indexes", id="no data"),
        pytest.param(Fault(cut_after=100), "no answer", id="cut"),
    ],
)
def test_a_poisonous_text_fails_alone_with_the_servers_reason(
    open_embedder: OpenEmbedder, server: OpenAIServer, fault: Fault, reason: str
) -> None:
    server.fault = poisonous(fault)
    texts = [f"text {number}" for number in range(40)]
    texts[7] = "poison"
    texts[31] = "poison too"
    answers = open_embedder().embed(texts)
    failed = [number for number, answer in enumerate(answers) if isinstance(answer, TransientFailure)]
    assert failed == [7, 31]
    assert all(reason in str(answers[number]) for number in failed)
    assert sum(isinstance(answer, np.ndarray) for answer in answers) == 38
    assert "OPENAI_API_KEY" not in str(answers[7])


def test_of_a_batch_with_one_unusable_vector_the_others_are_kept(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection
) -> None:
    def spoiled(body: dict[str, Any]) -> dict[str, Any]:
        body["data"][1]["embedding"] = [None] * 1536
        body["data"][2]["embedding"] = []
        return body

    server.faults.append(Fault(change=spoiled))
    answers = open_embedder().embed(["one", "two", "three", "four"])
    assert [type(answer) for answer in answers] == [np.ndarray, TransientFailure, TransientFailure, np.ndarray]
    assert calls(connection) == [("answered", 4)]


def test_what_a_batch_has_paid_for_is_returned_though_the_provider_goes_down(
    open_embedder: OpenEmbedder, server: OpenAIServer
) -> None:
    server.faults.extend([more_than(50, server_error(500)), Fault(), Fault()])
    server.fault = server_error(500)
    answers = open_embedder().embed([f"text {number}" for number in range(100)])
    kinds = [type(answer) for answer in answers]
    assert kinds == [np.ndarray] * 50 + [ProviderUnavailable] * 50


@pytest.mark.parametrize("fault", [DROPPED_ZERO, NO_INDEXES], ids=["the first", "all"])
def test_indexes_may_be_missing(open_embedder: OpenEmbedder, server: OpenAIServer, fault: Fault) -> None:
    server.fault = fault
    texts = ["one", "two", "three"]
    answers = open_embedder().embed(texts)
    for answer, text in zip(answers, texts, strict=True):
        assert np.allclose(answer, embedding(text, 1536), atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "usage", [None, {}, {"prompt_tokens": None, "total_tokens": None}, {"prompt_tokens": None, "total_tokens": 9}]
)
def test_tokens_that_are_not_stated_are_estimated(
    open_embedder: OpenEmbedder, server: OpenAIServer, connection: Connection, usage: Any
) -> None:
    server.fault = Fault(change=lambda body: body | {"usage": usage})
    embedder = open_embedder()
    assert embed(embedder, ["a text"]) == "embedded"
    stated_tokens = (usage or {}).get("total_tokens")
    tokens = connection.execute("select input_tokens from matching_pipeline.ai_calls").fetchall()
    assert tokens == [(stated_tokens or embedder.estimate_tokens("a text"),)]


@pytest.mark.parametrize("server_name", TOO_LONG_FOR)
def test_a_text_that_is_too_long_is_cut(open_embedder: OpenEmbedder, server: OpenAIServer, server_name: str) -> None:
    server.fault = longer_than(400, TOO_LONG_FOR[server_name])
    answers = open_embedder().embed([LONG, "short"])
    assert [type(answer) for answer in answers] == [np.ndarray] * 2
    assert np.allclose(answers[0], embedding(LONG.strip()[: len(LONG.strip()) // 4], 1536), atol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("server_name", TOO_MANY_FOR)
def test_the_most_inputs_of_a_request_are_learned(
    open_embedder: OpenEmbedder, server: OpenAIServer, server_name: str
) -> None:
    most, fault = TOO_MANY_FOR[server_name]
    server.fault = more_than(most, fault)
    embedder = open_embedder()
    texts = [f"text {number}" for number in range(40)]
    assert all(isinstance(answer, np.ndarray) for answer in embedder.embed(texts))
    before = server.asked.total()
    assert all(isinstance(answer, np.ndarray) for answer in embedder.embed([f"{text} more" for text in texts]))
    if server_name != "a server without a number":
        assert server.asked.total() - before == -(-40 // most)


@pytest.mark.parametrize("option", UNKNOWN_OPTION)
def test_an_option_that_the_server_does_not_know_is_left_out_and_said_once(
    open_embedder: OpenEmbedder, server: OpenAIServer, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.fault = UNKNOWN_OPTION[option]
    embedder = open_embedder()
    for text in ("one", "two"):
        (answer,) = embedder.embed([text])
        assert np.allclose(answer, embedding(text, 1536), atol=1e-6)  # type: ignore[arg-type]
    said = [record.getMessage() for record in caplog.records if "does not take" in record.getMessage()]
    assert len(said) == len({*said}) > 0


def test_an_option_that_is_left_out_leaves_the_dimensions_to_be_checked(
    open_embedder: OpenEmbedder, server: OpenAIServer
) -> None:
    server.fault = UNKNOWN_OPTION["dimensions"]
    with pytest.raises(ConfigurationError, match=r"OPENAI_EMBEDDING_DIMENSIONS: .* gives 1536 dimensions, not 256"):
        open_embedder(openai_embedding_dimensions=256).embed(["a text"])


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        pytest.param(refusal(400, "Budget has been exceeded! ", type="budget_exceeded"), "waits", id="a"),
        pytest.param(stated(402, {"error": {"message": "Insufficient credits"}}), "waits", id="402"),
        pytest.param(stated(400, {"detail": "ExceededBudget: End User=x over budget"}), "waits", id="words"),
        pytest.param(stated(200, {"error": {"message": "slow down", "code": 429}}), "waits", id="200 with 429"),
        pytest.param(stated(200, [{"error": {"message": "x"}}]), "waits", id="200 with a list"),
        pytest.param(stated(400, {"error": "unknown words"}), "stops, `OPENAI_EMBEDDING_MODEL`", id="unknown words"),
        pytest.param(
            stated(400, [{"error": {"message": "API key not valid."}}]), "stops, `OPENAI_API_KEY`", id="Gemini's key"
        ),
    ],
)
def test_what_concerns_all_requests_alike_counts_no_attempt(
    open_embedder: OpenEmbedder, server: OpenAIServer, fault: Fault, failure: str
) -> None:
    server.fault = fault
    assert embed(open_embedder(), [f"text {number}" for number in range(40)]) == failure
    assert server.asked.total() <= 3


def test_other_threads_wait_for_one_probe(open_embedder: OpenEmbedder, server: OpenAIServer) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server.fault, server.latency = server_error(500), 0.1
    embedder = open_embedder(openai_concurrency=6)
    with ThreadPoolExecutor(6) as threads:
        ended = list(threads.map(lambda number: embed(embedder, [f"text {number}"]), range(6)))
    assert ended == ["waits"] * 6
    probes = [body for body in server.bodies if "doctor" in json.dumps(body)]
    assert len(probes) <= 2
