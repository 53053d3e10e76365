"""The embeddings and attributes of pictures."""

from typing import Any

import dagster as dg

from matching_pipeline.components.embeddings import NEWEST, embeddings_report, items_asset
from matching_pipeline.components.pictures import markdown_table, picture
from matching_pipeline.components.reporting import AssetReport
from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sources.declarations import Declarations, ImageEmbeddings


def image_asset(declared: ImageEmbeddings, declarations: Declarations) -> dg.AssetsDefinition:
    return items_asset(
        declared,
        declarations,
        image_report(declared),
        group="images",
        description=f"An embedding and attributes of each picture of {' and '.join(declared.sources)}, "
        "by the active model.",
    )


def image_report(declared: ImageEmbeddings) -> AssetReport:
    return embeddings_report(declared, _newest, what="pictures")


def _newest(connection: Connection, queue: str) -> dg.MetadataValue[Any]:
    newest = connection.execute(query("newest_image_embeddings"), {"queue": queue, "count": NEWEST}).fetchall()
    rows = [
        (picture(thumbnail), source, ", ".join(f"{key}: {_text(value)}" for key, value in attributes.items()))
        for source, thumbnail, attributes in newest
    ]
    return dg.MetadataValue.md(markdown_table(("image", "source", "attributes"), rows))


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
