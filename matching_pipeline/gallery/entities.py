"""The entities of a source, and one of them with its matches."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.rendering import render, sessions_of

PAGE = 24
LISTED = 60
"""Matches of one entity that a page shows."""


def browse(request: Request) -> Response:
    name = request.path_params["source"]
    asked = request.query_params
    with sessions_of(request).reading() as connection:
        source = _source(connection, name)
        rows = named_rows(
            connection,
            "gallery_newest",
            source=name,
            before=asked.get("before", "infinity"),
            after=asked.get("after"),
            count=PAGE + 1,
        )
        cards = cards_of(connection, name, [row["id"] for row in rows[:PAGE]])
    last = rows[PAGE - 1] if len(rows) > PAGE else None
    return render(request, "browse.html", source=source, cards=cards, last=last)


def entity(request: Request) -> Response:
    name, id = request.path_params["source"], request.path_params["id"]
    with sessions_of(request).reading() as connection:
        source = _source(connection, name)
        cards = cards_of(connection, name, [id])
        if not cards:
            raise HTTPException(404, f"The source {name} has no such entity, or no worker has read it yet.")
        items = named_rows(connection, "gallery_items", source=name, id=id)
        jobs = named_rows(connection, "gallery_jobs", source=name, id=id)
        lists = _lists(connection, name, id)
    return render(request, "entity.html", source=source, entity=cards[0], items=items, jobs=jobs, lists=lists)


def _lists(connection: Connection, source: str, id: Any) -> list[dict[str, Any]]:
    """By each matcher, the entities that this one lists or that list it."""
    lists = named_rows(connection, "gallery_matchers_of", source=source)
    for matcher in lists:
        rows = named_rows(connection, "gallery_list", matcher=matcher["name"], source=source, id=id, count=LISTED)
        cards = {card.id: card for card in cards_of(connection, matcher["other"], [row["other"] for row in rows])}
        matcher["rows"] = [{**row, "card": cards[row["other"]]} for row in rows if row["other"] in cards]
    return lists


def _source(connection: Connection, name: str) -> dict[str, Any]:
    for row in named_rows(connection, "gallery_source", source=name):
        return row
    raise HTTPException(404, f"There is no source {name}.")
