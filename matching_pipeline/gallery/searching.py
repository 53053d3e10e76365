"""A search by meaning: by a sentence, or by a picture that a person drops on the page."""

from uuid import UUID

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
from matching_pipeline.models import searching
from matching_pipeline.providers.factory import Modality


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


def _vector(state: State, modality: Modality, model: str, words: str, picture: str) -> searching.Vector:
    """Raises a JobFailure or a Stop, and HTTPException where the model does not embed what is given."""
    settings, url = state.settings, state.database_url
    if modality == "text" and not words:
        raise HTTPException(400, "Texts are found by words.")
    if picture and modality == "image":
        return searching.vector_of_picture(settings, url, model, state.fetcher.fetch(picture))
    vector = searching.vector_of_words(settings, url, modality, model, words)
    if vector is None:
        raise HTTPException(400, f"The model {model} embeds no words. A picture finds pictures.")
    return vector
