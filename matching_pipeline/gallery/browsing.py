"""The entities of a source, page by page: newest, without matches, most matched, or with some words."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.rendering import redirect, render, sessions_of
from matching_pipeline.providers.factory import embeds_words

PAGE = 24
LAST_ID = UUID(int=2**128 - 1)
ORDERS = {"newest": "Newest", "unmatched": "Without matches", "most": "Most matched"}


@dataclass(frozen=True)
class Place:
    """Where a page begins: after an entity, given by the value that the order sorts by and the id."""

    before: str
    after: UUID

    @classmethod
    def of(cls, asked: Mapping[str, str], order: str) -> "Place":
        """Raises HTTPException if the parameters name no place."""
        first = str(2**62) if order == "most" else "infinity"
        before, after = asked.get("before") or first, asked.get("after")
        try:
            if before != first:
                int(before) if order == "most" else datetime.fromisoformat(before)
            return cls(before, UUID(after) if after else LAST_ID)
        except ValueError:
            raise HTTPException(400, "The address names no place in the list.") from None


def browse(request: Request) -> Response:
    name, asked = request.path_params["source"], request.query_params
    words = asked.get("words", "").strip()
    with sessions_of(request).reading() as connection:
        source = source_of(connection, name)
        found = connection.execute(query("gallery_entity_of_key"), {"source": name, "key": words}).fetchone()
        if found:
            return redirect(request, "entity", source=name, id=found[0])
        matchers = named_rows(connection, "gallery_matchers_of", source=name)
        matcher = next(
            (each for each in matchers if each["name"] == asked.get("matcher")), next(iter(matchers), None)
        )
        order = asked.get("order", "newest")
        if order not in ORDERS or matcher is None:
            order = "newest"
        rows = _rows(connection, name, order, matcher, words, Place.of(asked, order))
        cards = cards_of(connection, name, [row["id"] for row in rows[:PAGE]])
    following = {"before": str(rows[PAGE - 1]["place"]), "after": rows[PAGE - 1]["id"]} if len(rows) > PAGE else None
    counts = {row["id"]: row["place"] for row in rows} if order == "most" else {}
    by_words = finds_by_words(source["modality"], source["model"])
    shown: dict[str, Any] = {
        "by_words": by_words,
        "source": source,
        "cards": cards,
        "order": order,
        "orders": ORDERS,
        "words": words,
        "counts": counts,
    }
    return render(request, "browse.html", **shown, matchers=matchers, matcher=matcher, following=following)


def newest(connection: Connection, source: str, count: int) -> list[UUID]:
    return [row["id"] for row in _rows(connection, source, "newest", None, "", Place("infinity", LAST_ID), count)]


def finds_by_words(modality: str, model: str | None) -> bool:
    """Whether a search by meaning takes words: yes for texts, and for pictures unless the model embeds pictures
    only."""
    return modality == "text" or (modality == "image" and model is not None and embeds_words(model))


def source_of(connection: Connection, name: str) -> dict[str, Any]:
    for row in named_rows(connection, "gallery_source", source=name):
        return row
    raise HTTPException(404, f"There is no source {name}.")


def _rows(
    connection: Connection,
    source: str,
    order: str,
    matcher: dict[str, Any] | None,
    words: str,
    place: Place,
    count: int = PAGE + 1,
) -> list[dict[str, Any]]:
    """The rows of a page, each with its id and the value that the order sorts by."""
    parameters = {"source": source, "before": place.before, "after": place.after, "count": count}
    if words:
        patterns = [f"%{_literally(word)}%" for word in words.split()]
        return named_rows(connection, "gallery_with_words", words=words, patterns=patterns, **parameters)
    if matcher is None or order == "newest":
        return named_rows(connection, "gallery_newest", **parameters)
    sides = {"matcher": matcher["name"], "are_left": matcher["are_left"], "are_right": matcher["are_right"]}
    name = "gallery_unmatched" if order == "unmatched" else "gallery_most_matched"
    return named_rows(connection, name, **parameters, **sides)


def _literally(word: str) -> str:
    """Escapes the characters that LIKE interprets."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
