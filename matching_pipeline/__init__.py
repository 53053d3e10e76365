"""Keeps embeddings and matches fresh over Postgres and pgvector."""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

COMPONENTS = ("Derived", "GeneratedImages", "ImageEmbeddings", "Matches", "Source", "TextEmbeddings", "Worker")
"""YAML names them, as in `type: matching_pipeline.Source`. They are imported on first use, and Dagster with them."""


def __getattr__(name: str) -> Any:
    if name in COMPONENTS:
        return getattr(import_module("matching_pipeline.components.declared"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Dagster's tools find components this way
    return sorted({*globals(), *COMPONENTS})
