"""What a report of an asset says about its queues."""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.models import registry as models
from matching_pipeline.providers.call_log import queue_cost_today
from matching_pipeline.queues.client import queue_pause
from matching_pipeline.queues.progress import Summary
from matching_pipeline.queues.standing import QueueWork

Metadata = Mapping[str, Any]


def figures(work: QueueWork | Summary) -> dict[str, Any]:
    return {
        "completed": work.counts["completed"],
        "failed attempts": work.counts["failed"],
        "snoozed": work.counts["snoozed"],
        "busy seconds": round(work.busy_seconds, 3),
        **work.figures,
    }


def pauses(connection: Connection, queues: Iterable[str]) -> dict[str, Any]:
    """The pauses of these queues; empty if none is paused."""
    found = {queue: pause for queue in queues if (pause := queue_pause(connection, queue))}
    return {"paused": "; ".join(f"{queue}: {pause}" for queue, pause in found.items())} if found else {}


def table_metadata(connection: Connection, table: str) -> dict[str, Any]:
    """What Dagster shows of a table: its name and its columns."""
    columns = [dg.TableColumn(*row) for row in connection.execute(query("columns_of_table"), {"table": table})]
    return {"dagster/table_name": table, "dagster/column_schema": dg.TableSchema(columns)}


def coverage(connection: Connection, queue: str) -> dict[str, Any]:
    (row,) = named_rows(connection, "queue_coverage", queue=queue)
    return row


def cost_today(connection: Connection, *queues: str) -> dict[str, Any]:
    """What the requests of these queues cost today; empty if there were none."""
    cost = queue_cost_today(connection, *queues)
    if not cost.requests:
        return {}
    costs: dict[str, Any] = {
        "cost today, USD": float(cost.cost_usd),
        "requests today": cost.requests,
        "failed requests today": cost.failed_requests,
    }
    if cost.cost_usd_per_thousand_rows is not None:
        costs["cost per 1000 rows, USD"] = float(cost.cost_usd_per_thousand_rows)
    return costs


def models_of(connection: Connection, queue: str) -> dict[str, Any]:
    """The active model of an embeddings asset, and the shadow with its coverage."""
    described: dict[str, Any] = {}
    if active := models.model_of(connection, queue):
        described["active model"] = active
    shadow_queue = models.shadow_queue(queue)
    if shadow := models.model_of(connection, shadow_queue):
        row = coverage(connection, shadow_queue)
        described["shadow model"] = shadow
        described["shadow coverage"] = f"{row['covered']} of {row['rows']} {row['what']}"
    return described
