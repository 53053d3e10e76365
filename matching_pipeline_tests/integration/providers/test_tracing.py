"""OpenTelemetry's spans of requests to providers, as a collector receives them."""

import logging
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from matching_pipeline.errors import ProviderUnavailable
from matching_pipeline.providers.tracing import tracer_provider
from matching_pipeline_tests.fixtures.openai_server import OpenAIServer, rate_limit
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder


class Collector(HTTPServer):
    received: list[bytes]


class Receiver(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        self.server.received.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with Collector(("127.0.0.1", 0), Receiver) as collector:
        collector.received = []
        Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        tracer_provider.cache_clear()
        yield collector
        tracer_provider.cache_clear()
        collector.shutdown()


def told(span: Span) -> dict[str, str | int | float]:
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value")))
        for each in span.attributes
        if each.key != "matching_pipeline.request_id"
    }


def test_a_request_is_a_span_of_numbers_and_names(
    collector: Collector, open_embedder: OpenEmbedder, server: OpenAIServer
) -> None:
    embedder = open_embedder()
    embedder.embed(["a secret", "another"])
    server.fault = rate_limit(retry_after="3")
    with suppress(ProviderUnavailable):
        embedder.embed(["a third"])
    provider = tracer_provider()
    assert provider
    provider.shutdown()
    (body,) = collector.received
    assert b"secret" not in body
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert 'string_value: "matching_pipeline"' in str(resource.resource)
    answered, refused = resource.scope_spans[0].spans
    common = {
        "gen_ai.operation.name": "embeddings",
        "gen_ai.request.model": "text-embedding-3-small",
        "matching_pipeline.queue": "postings",
    }
    assert told(answered).items() >= {**common, "matching_pipeline.items": 2}.items()
    assert answered.end_time_unix_nano >= answered.start_time_unix_nano
    assert told(answered)["gen_ai.usage.input_tokens"]
    assert set(told(refused)) == {*told(answered), "error.type"}
    assert told(refused)["error.type"] == "rate limit"
    assert refused.status.code == Status.STATUS_CODE_ERROR


def test_a_wrong_variable_fails_no_request(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "9999")
    tracer_provider.cache_clear()
    assert tracer_provider() is None
    assert "a variable OTEL_… is wrong: max_export_batch_size" in caplog.text
    tracer_provider.cache_clear()


def test_without_an_endpoint_nothing_is_traced_and_without_the_extra_a_line_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    for endpoint, lines in (("", 0), ("http://127.0.0.1:1", 1)):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        tracer_provider.cache_clear()
        with caplog.at_level(logging.WARNING):
            assert tracer_provider() is None
        assert caplog.text.count("install matching_pipeline[tracing]") == lines
    tracer_provider.cache_clear()
