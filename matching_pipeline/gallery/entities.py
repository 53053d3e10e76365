"""One entity: what it is, its jobs, its matches and what came near."""

from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.beyond import NotKept, not_kept, not_kept_quickly
from matching_pipeline.gallery.browsing import source_of
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.rendering import render, sessions_of

LISTED = 60
"""Matches of one entity that a page shows."""
NEAR = 6
"""Entities that came near."""


def entity(request: Request) -> Response:
    name, id = request.path_params["source"], request.path_params["id"]
    with sessions_of(request).reading() as connection:
        source = source_of(connection, name)
        cards = cards_of(connection, name, [id])
        if not cards:
            raise HTTPException(404, f"The source {name} has no such entity, or no worker has read it yet.")
        items = named_rows(connection, "gallery_items", source=name, id=id)
        jobs = named_rows(connection, "gallery_jobs", source=name, id=id)
        lists = _lists(connection, name, id, request.query_params.get("near"))
    return render(request, "entity.html", source=source, entity=cards[0], items=items, jobs=jobs, lists=lists)


def _lists(connection: Connection, source: str, id: UUID, asked: str | None) -> list[dict[str, Any]]:
    """For each matcher, the entities that this one lists or that list it, and those that nearly entered its list."""
    lists = named_rows(connection, "gallery_matchers_of", source=source)
    for matcher in lists:
        name = matcher["name"]
        rows = named_rows(connection, "gallery_list", matcher=name, source=source, id=id, count=LISTED)
        near: list[NotKept] | None = []
        if name == asked:
            near = not_kept(connection, name, source, id, NEAR)
        elif matcher["keeps_list"]:
            near = not_kept_quickly(connection, name, source, id, NEAR)
        others = [row["other"] for row in rows] + [each.entity for each in near or ()]
        cards = {card.id: card for card in cards_of(connection, matcher["other"], others)}
        matcher["rows"] = [{**row, "card": cards[row["other"]]} for row in rows if row["other"] in cards]
        matcher["near"] = near and [(each, cards[each.entity]) for each in near if each.entity in cards]
        matcher["is_unknown"] = near is None
    return lists
