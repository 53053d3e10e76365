"""Pictures through OpenAI's client to the stand-in: descriptions, and each fault."""

import base64
import json
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline.matches.kernel.attributes import attribute_tokens
from matching_pipeline_tests.fixtures.openai_answers import FORBIDDEN_PAGE, refusal, stated, with_option
from matching_pipeline_tests.fixtures.openai_models import Refusal, embedding
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.integration.providers.conftest import (
    PROVIDER_FAULTS,
    FailsOnce,
    OpenAnalyzer,
    calls,
    charged,
)

TEAL = Image.new("RGB", (1600, 800), "teal")


def test_a_picture_is_described_and_its_description_embedded(
    open_analyzer: OpenAnalyzer, server: OpenAIServer, connection: Connection
) -> None:
    analyzer = open_analyzer()
    assert analyzer.model == "gpt-6-luna/describe-1/text-embedding-3-small:1536"
    analysis = analyzer.analyze(TEAL)
    assert analysis.attributes == {
        "caption": "A teal surface.",
        "category": "surface",
        "colors": ["teal"],
        "materials": ["paper"],
        "style": ["plain"],
        "tags": ["sample", "swatch"],
    }
    assert "colors=teal" in attribute_tokens(analysis.attributes)
    text = "A teal surface.\ncategory: surface\ncolors: teal\nmaterials: paper\nstyle: plain\ntags: sample, swatch"
    assert np.allclose(analysis.embedding, embedding(text, 1536), atol=1e-6)
    assert analysis.vision_model == "gpt-6-luna"
    assert (analysis.input_tokens, analysis.output_tokens) == (693, 76)
    assert server.asked == {"/chat/completions": 1, "/embeddings": 1}
    assert charged(connection) == 2


def test_the_picture_is_sent_as_data_scaled_down_and_never_as_a_url(
    open_analyzer: OpenAnalyzer, server: OpenAIServer
) -> None:
    open_analyzer().analyze(TEAL)
    (part,) = server.bodies[0]["messages"][1]["content"]
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(BytesIO(base64.b64decode(data))).size == (768, 384)


def test_the_reasoning_effort_is_a_setting_that_can_be_left_unsaid(
    open_analyzer: OpenAnalyzer, server: OpenAIServer
) -> None:
    for number, effort in enumerate(("none", "low", "unsaid")):
        open_analyzer(openai_vision_reasoning_effort=effort).analyze(Image.new("RGB", (10, 10 + number)))
    sent = [body.get("reasoning_effort") for body in server.bodies if "messages" in body]
    assert sent == ["none", "low", None]


def test_equal_pictures_are_described_once(open_analyzer: OpenAnalyzer, server: OpenAIServer) -> None:
    first = open_analyzer().analyze(TEAL)
    second = open_analyzer().analyze(TEAL.copy())
    assert np.array_equal(first.embedding, second.embedding)
    assert (first.attributes, first.input_tokens) == (second.attributes, second.input_tokens)
    assert server.asked.total() == 2


def message(**changes: Any) -> Fault:
    def change(body: dict[str, Any]) -> dict[str, Any]:
        body["choices"][0]["message"] |= changes
        return body

    return Fault(change=change)


def finish(reason: str) -> Fault:
    def change(body: dict[str, Any]) -> dict[str, Any]:
        body["choices"][0]["finish_reason"] = reason
        return body

    return Fault(change=change)


@pytest.mark.parametrize(
    ("fault", "failure", "reason", "costs"),
    [
        pytest.param(
            message(content=None, refusal="I'm sorry, I can't assist with that."),
            *(PermanentFailure, "I'm sorry", 1),
            id="refusal",
        ),
        pytest.param(finish("content_filter"), PermanentFailure, "content filter", 1, id="content filter, 200"),
        pytest.param(
            Fault(
                Refusal(
                    400, "Your request was rejected as a result of our safety system.", "content_policy_violation"
                )
            ),
            *(PermanentFailure, "safety system", 0),
            id="content filter, 400",
        ),
        pytest.param(
            Fault(Refusal(400, "You uploaded an unsupported image.", "invalid_image")),
            *(PermanentFailure, "unsupported image", 0),
            id="picture refused",
        ),
        pytest.param(finish("length"), TransientFailure, "did not come to an end", 1, id="cut short"),
        pytest.param(message(content='{"caption": "A te'), TransientFailure, "breaks the schema", 1, id="not JSON"),
        pytest.param(
            message(content=json.dumps({"caption": "A thing."})),
            TransientFailure,
            "breaks the schema",
            1,
            id="schema",
        ),
        pytest.param(message(content=None), TransientFailure, "breaks the schema", 1, id="no content"),
        pytest.param(Fault(change=lambda body: body | {"choices": []}), TransientFailure, "form", 1, id="no choice"),
        *PROVIDER_FAULTS,
        pytest.param(Fault(delay=1.5), TransientFailure, "OPENAI_TIMEOUT_SECONDS", 0, id="hang"),
    ],
)
def test_each_fault_has_its_policy_and_costs_one_request(
    open_analyzer: OpenAnalyzer,
    fails_once: FailsOnce,
    fault: Fault,
    failure: type[Exception],
    reason: str,
    costs: int,
) -> None:
    analyzer = open_analyzer(openai_timeout_seconds=1)
    answer = fails_once(fault, failure, reason, costs, lambda: analyzer.analyze(TEAL))
    assert answer.attributes["category"] == "surface"


UNKNOWN_EFFORT = "Unrecognized request argument supplied: reasoning_effort"


@pytest.mark.parametrize(
    ("option", "fault", "instead"),
    [
        pytest.param("reasoning_effort", refusal(400, UNKNOWN_EFFORT), None, id="OpenAI's words"),
        pytest.param(
            "reasoning_effort",
            refusal(400, "Unsupported parameter", "unsupported_parameter", param="reasoning_effort"),
            *(None,),
            id="code and parameter",
        ),
        pytest.param(
            "reasoning_effort", stated(422, {"detail": [{"msg": "reasoning_effort: not permitted"}]}), None, id="422"
        ),
        pytest.param(
            "max_completion_tokens", refusal(400, "Unknown field: max_completion_tokens"), "max_tokens", id="tokens"
        ),
    ],
)
def test_an_option_that_the_server_does_not_know_is_left_out_or_has_its_older_name(
    open_analyzer: OpenAnalyzer, server: OpenAIServer, option: str, fault: Fault, instead: str | None
) -> None:
    server.fault = with_option(option, fault)
    analyzer = open_analyzer(openai_vision_model="an-older-model")
    for side in (10, 20):
        assert analyzer.analyze(Image.new("RGB", (side, side))).attributes["category"] == "surface"
    answered = [body for body in server.bodies if "messages" in body]
    assert [option in body for body in answered] == [False, False]
    assert instead is None or [instead in body for body in answered] == [True, True]
    assert server.asked["/chat/completions"] == 3


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(server_error(500), id="500"),
        pytest.param(stated(403, FORBIDDEN_PAGE), id="403 page"),
        pytest.param(message(content="{}"), id="schema"),
        pytest.param(Fault(raw=b"<html>"), id="HTML"),
        pytest.param(
            Fault(change=lambda body: body | {"choices": [{"error": {"message": "upstream", "code": 502}}]}),
            id="error in a choice",
        ),
    ],
)
def test_a_fault_of_all_pictures_charges_none(
    open_analyzer: OpenAnalyzer, server: OpenAIServer, fault: Fault
) -> None:
    server.fault = fault
    with pytest.raises((ProviderUnavailable, ConfigurationError)):
        open_analyzer().analyze(TEAL)
    assert server.asked == {"/chat/completions": 2}


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"openai_vision_model": "gpt-9"}, "OPENAI_VISION_MODEL"),
        ({"openai_vision_reasoning_effort": "extreme"}, "OPENAI_VISION_REASONING_EFFORT"),
        ({"openai_api_key": "sk-wrong"}, "OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    open_analyzer: OpenAnalyzer, connection: Connection, changes: dict[str, Any], setting: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: "):
        open_analyzer(**changes).analyze(TEAL)
    assert calls(connection) == [("configuration", 1)]


def test_a_description_is_tidied(open_analyzer: OpenAnalyzer, server: OpenAIServer) -> None:
    said = {
        "caption": "  Two\n chairs\0 ",
        "category": " ",
        "colors": ["Red", "red ", "  "],
        "materials": [],
        "style": ["x" * 500],
        "tags": [f"tag {number}" for number in range(50)],
    }
    server.faults.append(message(content=json.dumps(said)))
    attributes = open_analyzer().analyze(TEAL).attributes
    assert attributes["caption"] == "Two chairs"
    assert "category" not in attributes
    assert attributes["colors"] == ["red"]
    assert attributes["materials"] == []
    assert attributes["style"] == ["x" * 60]
    assert len(attributes["tags"]) == 12
