"""OpenTelemetry's spans of requests to providers, with the extra `tracing`: numbers and names, and no input."""

import logging
import os
import time
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from matching_pipeline.providers.call_log import Call

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

log = logging.getLogger(__name__)


def trace(queue: str, call: "Call") -> None:
    """A span of a request that has just ended, named as OpenTelemetry's conventions for generative AI do."""
    if (provider := tracer_provider()) is None:
        return
    from opentelemetry.trace import SpanKind, StatusCode

    attributes: dict[str, str | int | float] = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.request.model": call.model,
        "gen_ai.usage.input_tokens": call.input_tokens,
        "gen_ai.usage.output_tokens": call.output_tokens,
        "matching_pipeline.queue": queue,
        "matching_pipeline.items": call.items,
        "matching_pipeline.cost_usd": float(call.cost_usd),
        "matching_pipeline.request_id": call.request_id or "",
    }
    ended = time.time_ns()
    span = provider.get_tracer("matching_pipeline").start_span(
        f"{call.operation} {call.model}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        start_time=ended - call.milliseconds * 1_000_000,
    )
    if call.outcome != "answered":
        span.set_attribute("error.type", call.outcome)
        span.set_status(StatusCode.ERROR)
    span.end(ended)


@cache
def tracer_provider() -> "TracerProvider | None":
    """It exports as the variables OTEL_… say; None where none of them names an endpoint."""
    if not any(map(os.environ.get, ENDPOINTS)):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        log.warning("no traces: %s is missing: install matching_pipeline[tracing]", error.name)
        return None
    named = Resource.create({"service.name": "matching_pipeline"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    try:
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        log.warning("no traces: a variable OTEL_… is wrong: %s", error)
        return None
    return provider
