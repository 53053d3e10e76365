"""One pair of a matcher: whether it is kept, why, and what people say of it."""

from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.gallery.cards import Card, cards_of
from matching_pipeline.gallery.forms import Form, back, uuid_of
from matching_pipeline.gallery.rendering import redirect, render, sessions_of

VERDICTS = {"good": 3, "bad": 0, "block": 0}
BLOCK = "block"
"""A block is an event, which an app may read under this name; a verdict belongs to a person."""


def pair(request: Request) -> Response:
    asked = request.path_params
    with sessions_of(request).reading() as connection:
        shown = shown_pair(connection, asked["matcher"], asked["left"], asked["right"])
    return render(request, "pair.html", **shown)


def shown_pair(connection: Connection, matcher_name: str, left: UUID, right: UUID) -> dict[str, Any]:
    matcher = matcher_of(connection, matcher_name)
    sides = {
        side: _side(connection, matcher[f"{side}_source"], id) for side, id in (("left", left), ("right", right))
    }
    parameters = {"left_source": matcher["left_source"], "right_source": matcher["right_source"]}
    explained = named_rows(
        connection, "gallery_explained", matcher=matcher_name, left=left, right=right, **parameters
    )
    labels = named_rows(connection, "gallery_labels", **_names(matcher, sides["left"].key, sides["right"].key))
    return {"matcher": matcher, "explained": explained[0], "labels": labels, **sides}


def why_not(request: Request) -> Response:
    """Redirects to the page of the pair of an entity and the entity with the given key."""
    asked = request.query_params
    with sessions_of(request).reading() as connection:
        matcher = matcher_of(connection, asked.get("matcher", ""))
        source, own = asked.get("source", ""), uuid_of(asked.get("id", ""))
        is_left = matcher["left_source"] == source
        other = matcher["right_source" if is_left else "left_source"]
        found = connection.execute(query("gallery_entity_of_key"), {"source": other, "key": asked.get("key", "")})
        row = found.fetchone()
    if row is None:
        raise HTTPException(404, f"{other} has no entity with the key {asked.get('key')}, or no worker has read it.")
    left, right = (own, row[0]) if is_left else (row[0], own)
    return redirect(request, "pair", matcher=matcher["name"], left=left, right=right)


def label(request: Request, form: Form) -> Response:
    with sessions_of(request).writing() as connection:
        matcher = matcher_of(connection, form["matcher"])
        names, verdict, user = _names(matcher, form["left"], form["right"]), form["verdict"], request.state.user
        with connection.transaction():
            connection.execute(query("gallery_unlabel"), {**names, "by": [user, BLOCK]})
            if verdict in VERDICTS:
                by = BLOCK if verdict == BLOCK else user
                connection.execute(query("gallery_label"), {**names, "verdict": VERDICTS[verdict], "by": by})
    return back(form)


def matcher_of(connection: Connection, name: str) -> dict[str, Any]:
    for row in named_rows(connection, "gallery_matcher", matcher=name):
        return row
    raise HTTPException(404, f"There is no matcher {name}.")


def _side(connection: Connection, source: str, id: UUID) -> Card:
    for card in cards_of(connection, source, [id]):
        return card
    raise HTTPException(404, f"The source {source} has no such entity, or no worker has read it yet.")


def _names(matcher: dict[str, Any], left: str, right: str) -> dict[str, Any]:
    within = matcher["left_source"] == matcher["right_source"]
    return {"matcher": matcher["name"], "left": left, "right": right, "within": within}
