"""Product pictures through OpenAI's client to the stand-in: request, cost, cache, and each fault."""

from decimal import Decimal
from io import BytesIO
from typing import Any
from uuid import uuid4

import pytest
from PIL import Image

from matching_pipeline.db.connections import Connection
from matching_pipeline.errors import ConfigurationError, PermanentFailure, ProviderUnavailable, TransientFailure
from matching_pipeline_tests.fixtures.openai_answers import stated
from matching_pipeline_tests.fixtures.openai_images import moderation_blocked
from matching_pipeline_tests.fixtures.openai_models import Refusal, count_tokens
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.integration.providers.conftest import (
    PROVIDER_FAULTS,
    FailsOnce,
    OpenGenerator,
    calls,
    charged,
)

MUG = Image.new("RGB", (60, 30), "teal")
LARGE_MUG = MUG.resize((2000, 1000))
PROMPT = "the same product on white"


def test_the_photo_is_edited_into_a_square_jpeg_and_its_cost_is_in_the_call_log(
    open_generator: OpenGenerator, connection: Connection
) -> None:
    generator = open_generator()
    assert generator.model == "gpt-image-2.6-sunburst/medium/edit-1"
    made = generator.generate(LARGE_MUG, "scale", PROMPT)
    assert (made.media_type, made.width, made.height) == ("image/jpeg", 1024, 1024)
    assert Image.open(BytesIO(made.data)).format == "JPEG"
    ((read, written, cost),) = connection.execute(
        "select input_tokens, output_tokens, cost_usd from matching_pipeline.ai_calls"
    ).fetchall()
    assert (read, written) == (65 + 1536 * 768 // 1500 + count_tokens(PROMPT), 1056)
    assert made.cost_usd == cost == (read * Decimal(8) + written * Decimal(30)) / 1_000_000


def test_the_photo_is_sent_as_png_data_scaled_down_with_the_types_prompt(
    open_generator: OpenGenerator, server: OpenAIServer
) -> None:
    open_generator().generate(LARGE_MUG, "scale", PROMPT)
    sent = dict(server.bodies[0])
    photo = Image.open(BytesIO(sent.pop("image")))
    assert (photo.format, photo.size) == ("PNG", (1536, 768))
    assert {name: value.decode() for name, value in sent.items()} == {
        "model": "gpt-image-2.6-sunburst",
        "prompt": PROMPT,
        "size": "1024x1024",
        "quality": "medium",
        "output_format": "jpeg",
    }


def test_quality_is_a_setting_and_fidelity_is_asked_of_the_model_that_takes_it(
    open_generator: OpenGenerator, server: OpenAIServer
) -> None:
    for model, quality in (("gpt-image-1.5", "high"), ("gpt-image-1-mini", "low"), ("gpt-image-2", "unsaid")):
        open_generator(openai_image_model=model, openai_image_quality=quality).generate(MUG, "scale", PROMPT)
    said = [(body.get("quality"), body.get("input_fidelity")) for body in server.bodies]
    assert said == [(b"high", b"high"), (b"low", None), (None, None)]


def test_a_picture_is_not_bought_again(
    open_generator: OpenGenerator, server: OpenAIServer, connection: Connection
) -> None:
    first = open_generator().generate(MUG, "scale", PROMPT)
    assert open_generator().generate(MUG.copy(), "scale", PROMPT) == first
    assert server.asked.total() == charged(connection) == 1
    open_generator().generate(MUG, "scale", "another prompt")
    open_generator().generate(Image.new("RGB", (20, 10), "red"), "scale", PROMPT)
    open_generator(openai_image_quality="high").generate(MUG, "scale", PROMPT)
    assert server.asked.total() == charged(connection) == 4


def test_a_job_that_forces_another_picture_buys_it_once(
    open_generator: OpenGenerator, server: OpenAIServer, connection: Connection
) -> None:
    generator, job = open_generator(), uuid4()
    for forced_by in (None, job, job, uuid4(), None):
        generator.generate(MUG, "scale", PROMPT, forced_by)
    assert server.asked.total() == charged(connection) == 3


def test_a_budget_that_is_spent_asks_for_nothing_more(open_generator: OpenGenerator, server: OpenAIServer) -> None:
    generator = open_generator(ai_daily_budget_usd="0.15")
    generator.generate(MUG, "scale", PROMPT)
    with pytest.raises(ProviderUnavailable, match="AI_DAILY_BUDGET_USD"):
        generator.generate(MUG, "scale", "another prompt")
    assert server.asked.total() == 1
    generator.generate(MUG, "scale", PROMPT)


def gives(**entry: Any) -> Fault:
    return Fault(change=lambda body: body | {"data": [entry] if entry else []})


def cut_in_half(body: dict[str, Any]) -> dict[str, Any]:
    whole = body["data"][0]["b64_json"]
    return body | {"data": [{"b64_json": whole[: len(whole) // 8 * 4]}]}


def refused(code: str | None, parameter: str | None = None, message: str = "Not like this.", **more: Any) -> Fault:
    return Fault(Refusal(400, message, code, parameter, **more))


@pytest.mark.parametrize(
    ("fault", "failure", "reason", "costs"),
    [
        pytest.param(Fault(moderation_blocked()), PermanentFailure, "safety system", 0, id="content policy"),
        pytest.param(
            refused(None, type="image_generation_user_error"),
            *(PermanentFailure, "refuses the picture: .*Not like this", 0),
            id="user error",
        ),
        pytest.param(
            refused("invalid_image_file", "image", "Invalid image dimensions"),
            *(PermanentFailure, "Invalid image dimensions", 0),
            id="photo refused",
        ),
        pytest.param(
            refused("billing_hard_limit_reached", type="image_generation_user_error"),
            *(ProviderUnavailable, "billing", 0),
            id="billing limit",
        ),
        pytest.param(refused("invalid_value", "size"), ConfigurationError, "^OPENAI_IMAGE_MODEL", 0, id="size"),
        pytest.param(gives(), TransientFailure, "gave no picture", 1, id="no entry"),
        pytest.param(gives(url="https://example.com/a.png"), TransientFailure, "gave no picture", 1, id="a URL"),
        pytest.param(gives(b64_json="%%%"), TransientFailure, "not a picture", 1, id="not base64"),
        pytest.param(gives(b64_json="bm9uZQ=="), TransientFailure, "not a picture", 1, id="not a picture"),
        pytest.param(Fault(change=cut_in_half), TransientFailure, "not a picture", 1, id="half a picture"),
        pytest.param(gives(b64_json=3), TransientFailure, "form", 1, id="another form"),
        pytest.param(Fault(raw=b"<html>"), TransientFailure, "form", 0, id="HTML"),
        pytest.param(server_error(500), TransientFailure, "had an error", 0, id="500"),
        *PROVIDER_FAULTS,
        pytest.param(Fault(delay=1.5), TransientFailure, "OPENAI_IMAGE_TIMEOUT_SECONDS", 0, id="hang"),
    ],
)
def test_each_fault_has_its_policy_and_costs_one_request(
    open_generator: OpenGenerator,
    fails_once: FailsOnce,
    fault: Fault,
    failure: type[Exception],
    reason: str,
    costs: int,
) -> None:
    generator = open_generator(openai_image_timeout_seconds=1)
    answer = fails_once(fault, failure, reason, costs, lambda: generator.generate(MUG, "scale", PROMPT))
    assert answer.width == 1024


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        pytest.param(server_error(500), TransientFailure, id="500"),
        pytest.param(Fault(raw=b"<html>502"), TransientFailure, id="HTML"),
        pytest.param(server_error(503, retry_after="5"), ProviderUnavailable, id="503 for a while"),
    ],
)
def test_a_server_that_lists_no_models_is_up_where_it_answers_so(
    open_generator: OpenGenerator, server: OpenAIServer, fault: Fault, failure: type[Exception]
) -> None:
    server.faults.extend([fault, stated(404, b"<html>no such page</html>")])
    with pytest.raises(failure):
        open_generator().generate(MUG, "scale", PROMPT)


def test_a_key_that_may_not_make_pictures_is_named_until_a_picture_was_made(
    open_generator: OpenGenerator, server: OpenAIServer
) -> None:
    generator = open_generator()
    forbidden = Fault(Refusal(403, "Your organization must be verified to use the model."))
    server.faults.append(forbidden)
    with pytest.raises(ConfigurationError, match=r"^OPENAI_API_KEY: .*must be verified"):
        generator.generate(MUG, "scale", PROMPT)
    generator.generate(MUG, "scale", PROMPT)
    server.faults.append(forbidden)
    with pytest.raises(TransientFailure, match="must be verified"):
        generator.generate(MUG, "scale", "another prompt")


def test_a_picture_may_take_longer_than_other_answers(open_generator: OpenGenerator, server: OpenAIServer) -> None:
    server.faults.append(Fault(delay=1.5))
    assert open_generator(openai_timeout_seconds=0.5).generate(MUG, "scale", PROMPT).width == 1024


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"openai_image_model": "gpt-image-9"}, "OPENAI_IMAGE_MODEL"),
        ({"openai_image_model": "gpt-6-luna"}, "OPENAI_IMAGE_MODEL"),
        ({"openai_image_quality": "extreme"}, "OPENAI_IMAGE_QUALITY"),
        ({"openai_api_key": "sk-wrong"}, "OPENAI_API_KEY"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(
    open_generator: OpenGenerator, connection: Connection, changes: dict[str, Any], setting: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"^{setting}: "):
        open_generator(**changes).generate(MUG, "scale", PROMPT)
    assert calls(connection) == [("configuration", 1)]


def test_the_probe_buys_nothing(open_generator: OpenGenerator, server: OpenAIServer, connection: Connection) -> None:
    open_generator().probe()
    assert server.asked == {"/models/gpt-image-2.6-sunburst": 1}
    assert charged(connection) == 0
