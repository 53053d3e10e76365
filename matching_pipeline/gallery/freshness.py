"""The page of freshness and costs: the time from a change to its match, queues, workers, and requests of today."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.plot import latency_plot
from matching_pipeline.gallery.rendering import render, sessions_of
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.queues import client
from matching_pipeline.queues.supervision import worker_states


def freshness(request: Request) -> Response:
    with sessions_of(request).reading() as connection:
        queues = [_queue(connection, row["name"]) for row in named_rows(connection, "gallery_queues")]
        minutes = named_rows(connection, "gallery_latency")
        (hour,) = named_rows(connection, "gallery_latency_of_hour")
        workers = [each for each in worker_states(connection) if each.alive]
        (budget,) = named_rows(connection, "gallery_spent_today")
        (asked,) = named_rows(connection, "gallery_asked_today")
    shown: dict[str, Any] = {
        "queues": queues,
        "hour": hour,
        "workers": workers,
        "plot": latency_plot(minutes),
        "minutes": minutes,
    }
    return render(request, "freshness.html", **shown, budget=budget, asked=asked)


def _queue(connection: Connection, name: str) -> dict[str, Any]:
    cost = queue_cost_today(connection, name)
    return {"name": name, **client.status(connection, name), "cost": cost}
