"""The search by meaning: by words, or by a picture that a person drops on the page."""

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
    """The nearest entities of a source, best first. No database session is held while the provider works."""
    name, words, picture = form["source"], (form.get("words") or "").strip(), form.get("picture") or ""
    # the gallery would fetch a URL, also one that the visitor cannot reach
    if picture and not picture.startswith("data:image/"):
        raise HTTPException(400, "Only a picture that was dropped on the page can be searched by, not a URL.")
    if bool(words) == bool(picture):
        raise HTTPException(400, "Search by words or by a picture: give one of them.")
    with sessions_of(request).reading() as connection:
        source = source_of(connection, name)
    if source["model"] is None or source["modality"] == "vector":
        raise HTTPException(400, f"The source {name} has no embeddings that a search can use.")
    try:
        vector = _vector(state_of(request), source["modality"], source["model"], words, picture)
    except (JobFailure, *STOPS) as error:
        raise HTTPException(400, f"No embedding could be made of the words or the picture. {error}") from None
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
    """Raises a JobFailure or a Stop, and HTTPException if the model does not embed what is given."""
    settings, url = state.settings, state.database_url
    if picture and modality == "text":
        raise HTTPException(400, "Texts are searched by words, not by a picture.")
    if picture:
        return searching.vector_of_picture(settings, url, model, state.fetcher.fetch(picture))
    vector = searching.vector_of_words(settings, url, modality, model, words)
    if vector is None:
        raise HTTPException(400, f"The model {model} embeds no words. Search by a picture.")
    return vector
