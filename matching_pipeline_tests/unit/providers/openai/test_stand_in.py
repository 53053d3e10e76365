"""The stand-in server with OpenAI's own client: its answers, and its refusals, which are like the real ones."""

import base64
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from matching_pipeline_tests.fixtures.openai_server import KEY, OpenAIServer, openai_server
from matching_pipeline_tests.fixtures.pictures import picture


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with openai_server() as server:
        yield server


@pytest.fixture
def client(server: OpenAIServer) -> openai.OpenAI:
    return openai.OpenAI(api_key=KEY, base_url=server.url, max_retries=0)


def test_similar_texts_are_near_and_equal_ones_the_same(client: openai.OpenAI) -> None:
    texts = ["a red chair", "a red chair", "one red chair", "quarterly report"]
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=256)
    one, same, near, far = (np.array(entry.embedding) for entry in answer.data)
    assert np.array_equal(one, same)
    assert one @ near > 0.5 > one @ far
    assert answer.usage.prompt_tokens == 12


def test_models_are_known_by_their_names(client: openai.OpenAI) -> None:
    assert client.models.retrieve("gpt-6-luna").id == "gpt-6-luna"
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("gpt-9")
    assert raised.value.code == "model_not_found"


def test_a_picture_is_edited_by_a_prompt(client: openai.OpenAI, server: OpenAIServer) -> None:
    edited = [
        client.images.edit(model="gpt-image-2.5-flare", image=("a.png", picture(), "image/png"), prompt=prompt)
        for prompt in ("on a beach", "in a studio", "on a beach")
    ]
    first, second, third = ((answer.data or [])[0].b64_json or "" for answer in edited)
    assert first == third != second
    assert Image.open(BytesIO(base64.b64decode(first))).size == (32, 24)
    assert edited[0].usage is not None
    assert edited[0].usage.total_tokens == edited[0].usage.input_tokens + edited[0].usage.output_tokens
    with pytest.raises(openai.BadRequestError, match="Invalid image file"):
        client.images.edit(model="gpt-image-2.5-flare", image=("a.png", b"none", "image/png"), prompt="x")


def test_a_picture_comes_in_the_size_and_format_that_is_asked_for(client: openai.OpenAI) -> None:
    answer = client.images.edit(
        model="gpt-image-1.5",
        image=("a.png", picture(), "image/png"),
        prompt="on a beach",
        size="1024x1024",
        output_format="jpeg",
        input_fidelity="high",
    )
    made = Image.open(BytesIO(base64.b64decode((answer.data or [])[0].b64_json or "")))
    assert (made.format, made.size) == ("JPEG", (1024, 1024))


@pytest.mark.parametrize(
    ("asked", "parameter"),
    [
        ({"model": "gpt-6-luna"}, "model"),
        ({"quality": "hd"}, "quality"),
        ({"model": "gpt-image-2", "quality": "max"}, "quality"),
        ({"size": "1000x1000"}, "size"),
        ({"input_fidelity": "high"}, "input_fidelity"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"response_format": "b64_json"}, "response_format"),
    ],
)
def test_an_edit_that_the_models_do_not_take_is_refused(
    client: openai.OpenAI, asked: dict[str, Any], parameter: str
) -> None:
    given = {"model": "gpt-image-2.6-flare", "prompt": "x", **asked}
    with pytest.raises(openai.BadRequestError) as raised:
        client.images.edit(image=("a.png", picture(), "image/png"), **given)
    assert raised.value.param == parameter


@pytest.mark.parametrize(
    ("texts", "code"), [([""], None), (["x"] * 2049, "array_above_max_length"), (["word " * 9000], None)]
)
def test_inputs_beyond_the_limits_are_refused(client: openai.OpenAI, texts: list[str], code: str | None) -> None:
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="text-embedding-3-small", input=texts)
    assert raised.value.code == code


def test_a_request_of_too_many_tokens_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="max 300000 tokens per request"):
        client.embeddings.create(model="text-embedding-3-small", input=["word " * 7000] * 50)


def test_a_picture_by_its_url_and_a_lax_schema_are_refused(client: openai.OpenAI) -> None:
    def describe(url: str, **schema: object) -> None:
        client.chat.completions.create(
            model="gpt-6-luna",
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}],
            response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}},
        )

    strict = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    with pytest.raises(openai.BadRequestError, match="as data"):
        describe("https://example.com/a.jpg", **strict)
    with pytest.raises(openai.BadRequestError, match="additionalProperties"):
        describe("data:image/jpeg;base64,xx", type="object", properties={})
    with pytest.raises(openai.BadRequestError, match="unsupported image"):
        describe("data:image/jpeg;base64,xxxx", **strict)
