"""The page `/metrics`, which Prometheus scrapes. Each scrape reads Postgres."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from time import monotonic
from typing import Any, Final

import psycopg
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.errors import ConfigurationError
from matching_pipeline.gallery.sessions import Sessions
from matching_pipeline.queues.supervision import worker_states

BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Seconds from the app's change to the end of the job that follows from it."""
COUNT_SECONDS: Final = 300.0
"""Pairs are counted again after so long: the count reads the whole table."""

_NAMES: Final[dict[str, tuple[Callable[..., Metric], str, tuple[str, ...]]]] = {
    "database_up": (GaugeMetricFamily, "1 if Postgres answers", ()),
    "workers_alive": (GaugeMetricFamily, "Standing workers that serve the queues", ()),
    "jobs": (GaugeMetricFamily, "Jobs that are not completed", ("queue", "state")),
    "oldest_due_job_age_seconds": (GaugeMetricFamily, "How long the oldest due job waits", ("queue",)),
    "job_latency_seconds": (HistogramMetricFamily, "From the app's change to the completed job", ("queue",)),
    "dead_letters": (CounterMetricFamily, "Jobs that failed for good", ("queue",)),
    "ai_calls": (CounterMetricFamily, "Requests to providers", ("queue", "model", "outcome")),
    "ai_tokens": (CounterMetricFamily, "Tokens of these requests", ("queue", "model", "direction")),
    "ai_cost_usd": (CounterMetricFamily, "Cost of these requests", ("queue", "model")),
    "ai_cache_hits": (CounterMetricFamily, "Answers that were not bought again", ("model",)),
    "matches": (GaugeMetricFamily, "Pairs, counted every five minutes", ("matcher",)),
    "rebuild_seconds": (GaugeMetricFamily, "Time of all shards of the last complete rebuild", ("matcher",)),
    "rebuild_timestamp_seconds": (GaugeMetricFamily, "When the last complete rebuild began", ("matcher",)),
}


class PipelineCollector(Collector):
    """Gauges are what Postgres has now. Counters and the histogram count from the first scrape of this process on, as
    old rows are deleted: Prometheus takes a lower value for a restart."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lock = threading.Lock()
        self._until: datetime | None = None
        self._ended: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._calls: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
        self._pairs: tuple[float, list[dict[str, Any]]] = (float("-inf"), [])

    def describe(self) -> Iterator[Metric]:
        yield from (_family(name) for name in _NAMES)

    def collect(self) -> Iterator[Metric]:
        try:
            with self._lock, self._sessions.reading() as connection:
                self._count(connection)
                yield from [_filled("database_up", [((), 1)]), *self._metrics(connection)]
        except (psycopg.OperationalError, ConfigurationError):
            yield _filled("database_up", [((), 0)])

    def _count(self, connection: Connection) -> None:
        (until,) = connection.execute(query("metrics_until")).fetchone() or (None,)
        between = {"after": self._until or until, "until": until}
        # read both before either is counted: if one fails, the next scrape reads the same time again
        ended = named_rows(connection, "metrics_of_ended_jobs", bounds=list(BOUNDS), **between)
        calls = named_rows(connection, "metrics_of_ai_calls", **between)
        for row in ended:
            self._ended[row["queue"], row["status"], row["bucket"]] += row["jobs"]
            if row["status"] == "completed":
                self._seconds[row["queue"]] += row["seconds"]
        for row in calls:
            figures = self._calls[row["queue"], row["model"], row["outcome"]]
            figures.update(
                {name: float(row[name]) for name in ("calls", "input_tokens", "output_tokens", "cost_usd")}
            )
        self._until = until

    def _metrics(self, connection: Connection) -> Iterator[Metric]:
        alive = sum(worker.alive and worker.entered for worker in worker_states(connection))
        yield _filled("workers_alive", [((), alive)])
        jobs = named_rows(connection, "metrics_of_jobs")
        yield _filled("jobs", [((row["queue"], row["status"]), row["jobs"]) for row in jobs])
        due = [((row["queue"],), row["oldest"] or 0) for row in jobs if row["status"] == "pending"]
        yield _filled("oldest_due_job_age_seconds", due)
        queues = dict.fromkeys(row["queue"] for row in jobs)
        yield self._latencies(queues)
        failed = {
            queue: sum(self._ended[queue, "failed", bucket] for bucket in range(len(BOUNDS) + 1)) for queue in queues
        }
        yield _filled("dead_letters", [((queue,), count) for queue, count in failed.items()])
        yield from self._provider()
        hits = named_rows(connection, "metrics_of_cache_hits")
        yield _filled("ai_cache_hits", [((row["model"],), row["answers"]) for row in hits])
        yield _filled("matches", [((row["matcher"],), row["pairs"]) for row in self._counted_pairs(connection)])
        rebuilds = named_rows(connection, "metrics_of_rebuilds")
        yield _filled("rebuild_seconds", [((row["matcher"],), row["seconds"]) for row in rebuilds])
        yield _filled("rebuild_timestamp_seconds", [((row["matcher"],), row["begun"]) for row in rebuilds])

    def _latencies(self, queues: Iterable[str]) -> Metric:
        family = _family("job_latency_seconds")
        assert isinstance(family, HistogramMetricFamily)
        for queue in queues:
            buckets, total = [], 0
            for place, bound in enumerate((*BOUNDS, float("inf"))):
                total += self._ended[queue, "completed", place]
                buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
            family.add_metric([queue], buckets, sum_value=self._seconds[queue])
        return family

    def _provider(self) -> Iterator[Metric]:
        tokens: Counter[tuple[str, ...]] = Counter()
        cost: Counter[tuple[str, ...]] = Counter()
        for (queue, model, _), figures in self._calls.items():
            cost[queue, model] += figures["cost_usd"]
            for direction in ("input", "output"):
                tokens[queue, model, direction] += figures[f"{direction}_tokens"]
        yield _filled("ai_calls", [(key, figures["calls"]) for key, figures in self._calls.items()])
        yield _filled("ai_tokens", tokens.items())
        yield _filled("ai_cost_usd", cost.items())

    def _counted_pairs(self, connection: Connection) -> list[dict[str, Any]]:
        counted, _ = self._pairs
        if monotonic() - counted > COUNT_SECONDS:
            self._pairs = (monotonic(), named_rows(connection, "metrics_of_matches"))
        return self._pairs[1]


def metrics(request: Request) -> Response:
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.metrics), media_type=content_type)


def registry_of(sessions: Sessions) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(PipelineCollector(sessions))
    return registry


Values = Iterable[tuple[tuple[str, ...], float]]
"""By the values of the labels."""


def _family(name: str) -> Metric:
    kind, documentation, labels = _NAMES[name]
    return kind(f"matching_pipeline_{name}", documentation, labels=labels)


def _filled(name: str, values: Values) -> Metric:
    family = _family(name)
    assert isinstance(family, (GaugeMetricFamily, CounterMetricFamily))
    for labels, value in values:
        family.add_metric(labels, float(value))
    return family
