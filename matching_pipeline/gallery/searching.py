"""A search by meaning: by a sentence, or by a picture that a person drops on the page."""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import named_rows
from matching_pipeline.errors import STOPS, JobFailure
from matching_pipeline.gallery.browsing import PAGE, finds_by_words, source_of
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.forms import Form
from matching_pipeline.gallery.rendering import State, render, sessions_of, state_of
from matching_pipeline.models.drift import words_vector
from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.memory import process_memory
from matching_pipeline.providers.factory import image_analyzer, text_embedder
from matching_pipeline.providers.protocols import EmbedsWords

QUEUE = "search"
"""The call log records the requests under this name, as those of the command `search`."""
SIDE = 768
"""Pixels: a picture is scaled down, as one that is embedded."""


def search(request: Request, form: Form) -> Response:
    """The nearest entities of a source, best first. No session waits for the provider."""
    name, words, picture = form["source"], (form.get("words") or "").strip(), form.get("picture") or ""
    # an address would have the gallery fetch it, with its own rights
    if picture and not picture.startswith("data:image/"):
        raise HTTPException(400, "The picture is no picture that was dropped on the page.")
    if not (words or picture):
        raise HTTPException(400, "The search has neither words nor a picture.")
    with sessions_of(request).reading() as connection:
        source = source_of(connection, name)
    if source["model"] is None or source["modality"] == "vector":
        raise HTTPException(400, f"Nothing of {name} is embedded by a model that a search could use.")
    try:
        vector = _vector(state_of(request), source["modality"], source["model"], words, picture)
    except (JobFailure, *STOPS) as error:
        raise HTTPException(400, f"The search cannot be embedded. {error}") from None
    with sessions_of(request).reading() as connection:
        found = named_rows(connection, "gallery_near", source=name, sought=[Vector(vector)], count=PAGE)
        scores: dict[UUID, float] = {row["id"]: row["similarity"] for row in found}
        cards = cards_of(connection, name, list(scores))
    by_words = finds_by_words(source["modality"], source["model"])
    return render(
        request,
        "found.html",
        source=source,
        cards=cards,
        scores=scores,
        words=words,
        picture=picture,
        by_words=by_words,
    )


def _vector(state: State, modality: str, model: str, words: str, picture: str) -> NDArray[np.float32]:
    """Raises a JobFailure or a Stop, and HTTPException where the model does not embed what is given."""
    settings, url = state.settings, state.database_url
    if modality == "text":
        if not words:
            raise HTTPException(400, "Texts are found by words.")
        with text_embedder(settings, url, QUEUE, model) as embedder:
            return words_vector(embedder, words)
    with image_analyzer(settings, url, QUEUE, model) as analyzer:
        if picture:
            memory = process_memory(settings.image_memory_bytes)
            return analyzer.analyze(decode(state.fetcher.fetch(picture), side=SIDE, memory=memory)).embedding
        if isinstance(analyzer, EmbedsWords):
            return analyzer.embed_words(words)
    raise HTTPException(400, f"The model {model} embeds no words. A picture finds pictures.")
