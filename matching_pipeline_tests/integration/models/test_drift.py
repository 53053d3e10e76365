"""A provider that changes its vectors silently is found by a probe."""

import base64
from typing import Any

import numpy as np
import pytest

from matching_pipeline.components.resources import Pipeline
from matching_pipeline.db.connections import Connection
from matching_pipeline.models.drift import probe_models
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.openai_server import KEY, Fault, openai_server, server_error
from matching_pipeline_tests.integration.components.conftest import check
from matching_pipeline_tests.integration.models.conftest import LOCAL_IMAGE, LOCAL_TEXT, TEXT, VISION

CHECKS = {"text": check("job_embeddings", "model_is_unchanged"), "image": check("image_ai", "model_is_unchanged")}


def turned(body: dict[str, Any]) -> dict[str, Any]:
    """The same answer in another space. A description stays as it is."""
    for entry in body.get("data", []):
        vector = np.frombuffer(base64.b64decode(entry["embedding"]), dtype="<f4")
        entry["embedding"] = base64.b64encode(np.roll(vector, 1).tobytes()).decode()
    return body


@pytest.mark.parametrize(("model", "modality", "probes"), [(TEXT, "text", 1), (VISION, "image", 2)])
def test_vectors_that_change_silently_fail_the_check(
    connection: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch, model: str, modality: str, probes: int
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    pipeline, check = Pipeline(definitions_dir=None), CHECKS[modality]
    connection.execute(
        "insert into matching_pipeline.embedding_models values (%s, %s, 64, 'active')", (model, modality)
    )
    assert "not probed yet" in str(check.evaluate(pipeline).description)
    with openai_server() as server:
        settings = Settings(openai_api_key=KEY, openai_base_url=server.url)

        def look() -> list[str]:
            connection.execute("update matching_pipeline.model_probes set looked_at = now() - interval '1 day'")
            return list(probe_models(connection, settings, database_url))

        assert len(look()) == probes
        # an hour later it is not asked again
        assert list(probe_models(connection, settings, database_url)) == []
        assert len(look()) == probes
        assert check.evaluate(pipeline).passed
        server.fault = server_error()
        (told,) = look()
        assert "cannot be probed now" in told
        assert check.evaluate(pipeline).passed
        server.fault = Fault(change=turned)
        look()
    result = check.evaluate(pipeline)
    assert not result.passed
    assert f"{model} gives the probe text another vector" in str(result.description)


def test_a_local_model_is_unchanged(connection: Connection, database_url: str) -> None:
    for name, modality in ((LOCAL_TEXT, "text"), (LOCAL_IMAGE, "image")):
        connection.execute(
            "insert into matching_pipeline.embedding_models values (%s, %s, 1, 'active')", (name, modality)
        )
    for _ in range(2):
        told = list(probe_models(connection, Settings(), database_url))
        assert len(told) == 2
        assert all(each.endswith(" to the first is 1.000") for each in told)
        connection.execute("update matching_pipeline.model_probes set looked_at = now() - interval '1 day'")
