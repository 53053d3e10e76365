"""The embeddings of texts."""

from typing import Any

import dagster as dg

from matching_pipeline.components.embeddings import NEWEST, embeddings_report, items_asset
from matching_pipeline.components.pictures import markdown_table
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sources.declarations import Declarations, TextEmbeddings


def text_asset(declared: TextEmbeddings, declarations: Declarations) -> dg.AssetsDefinition:
    return items_asset(
        declared,
        declarations,
        text_report(declared),
        group="texts",
        description=f"An embedding of the text of each {' and '.join(declared.sources)}, by the active model.",
    )


def text_report(declared: TextEmbeddings) -> AssetReport:
    return embeddings_report(declared, _newest, what="texts")


def _newest(connection: Connection, queue: str) -> dg.MetadataValue[Any]:
    newest = connection.execute(query("newest_text_embeddings"), {"queue": queue, "count": NEWEST}).fetchall()
    rows = [
        (source, f"`{key}`", f"`{model}`", embedded_at.isoformat(" ", "seconds"))
        for source, key, model, embedded_at in newest
    ]
    return dg.MetadataValue.md(markdown_table(("source", "key", "model", "embedded at"), rows))
