"""What Dagster shows and runs of the declarations. It is the only package that imports Dagster."""

from matching_pipeline.components.declared import (
    Derived,
    GeneratedImages,
    ImageEmbeddings,
    Matches,
    Source,
    TextEmbeddings,
    Worker,
)

__all__ = ["Derived", "GeneratedImages", "ImageEmbeddings", "Matches", "Source", "TextEmbeddings", "Worker"]
