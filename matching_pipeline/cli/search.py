"""`matching-pipeline search`: the entities whose texts or pictures are nearest to some words or to a picture."""

from collections.abc import Iterator
from pathlib import Path

import click
from pgvector import Vector

from matching_pipeline.cli.console import say, table_of
from matching_pipeline.cli.opening import Connected, connected
from matching_pipeline.db.queries import named_rows
from matching_pipeline.errors import ConfigurationError, JobFailure
from matching_pipeline.models import searching
from matching_pipeline.models.registry import MODALITIES, current_model
from matching_pipeline.providers.factory import Modality

Query = tuple[Modality, searching.Vector]


@click.command("search")
@click.argument("words", required=False)
@click.option(
    "--picture", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Search by this picture."
)
@click.option("--source", help="Search in this source only.")
@click.option("--count", default=10, show_default=True, help="Print so many entities of each source.")
def search_command(words: str | None, picture: Path | None, source: str | None, count: int) -> None:
    """Print the entities that are nearest to WORDS, or to a picture, with the active models.

    Words find texts, and pictures if one model embeds both.
    """
    if bool(words) == bool(picture):
        raise click.UsageError("give WORDS, or --picture FILE")
    with connected() as opened:
        sources = named_rows(opened.connection, "searched_sources", source=source)
        if not sources:
            raise ConfigurationError(
                f"there is no source {source or 'of pictures or texts'}: declare it, then attach"
            )
        try:
            queries = dict(_picture_query(opened, picture) if picture else _word_queries(opened, words or ""))
        except JobFailure as failure:
            raise ConfigurationError(f"the search cannot be embedded: {failure}") from failure
        for each in sources:
            if each["modality"] in queries:
                _show(opened, each["name"], queries[each["modality"]], count)


def _show(opened: Connected, source: str, vector: searching.Vector, count: int) -> None:
    found = named_rows(opened.connection, "find_near", source=source, sought=[Vector(vector)], count=count)
    rows = [(f"{row['similarity']:.3f}", row["key"], row["content"] or "") for row in found]
    table_of(("similarity", source, "picture"), rows)


def _word_queries(opened: Connected, words: str) -> Iterator[Query]:
    settings, connection, _ = opened
    assert settings.database_url is not None
    for modality in MODALITIES:
        if (model := current_model(connection, modality, "active")) is None:
            continue
        vector = searching.vector_of_words(settings, settings.database_url, modality, model, words)
        if vector is None:
            say(f"{model} embeds no words: --picture searches pictures")
        else:
            yield modality, vector


def _picture_query(opened: Connected, file: Path) -> Iterator[Query]:
    settings, connection, _ = opened
    assert settings.database_url is not None
    model = current_model(connection, "image", "active")
    if model is None:
        raise ConfigurationError("no picture is embedded yet: `matching-pipeline process --missing` embeds them")
    yield "image", searching.vector_of_picture(settings, settings.database_url, model, file.read_bytes())
