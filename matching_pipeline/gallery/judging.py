"""Judging one pair after another, and two models' lists without their names."""

import hashlib
import sys
from typing import Any
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.pairs import matcher_of, shown_pair
from matching_pipeline.gallery.rendering import redirect, render, sessions_of
from matching_pipeline.matches.image_sets import PART_IMAGES, stream_near
from matching_pipeline.matches.kernel.columns import as_uuids
from matching_pipeline.matches.matching import attached
from matching_pipeline.matches.scoring import Scoring

SIDE_BY_SIDE = 10
"""Places of each list that the blind page shows."""


def judge(request: Request) -> Response:
    """A pair that this person has not judged, from a random place on."""
    name = request.path_params["matcher"]
    with sessions_of(request).reading() as connection:
        matcher = matcher_of(connection, name)
        within = matcher["left_source"] == matcher["right_source"]
        found = named_rows(connection, "gallery_unjudged", matcher=name, by=request.state.user, within=within)
        shown = shown_pair(connection, name, found[0]["left_id"], found[0]["right_id"]) if found else {}
    return render(request, "judge.html", **{"matcher": matcher, "pair": found, **shown})


def any_blind(request: Request) -> Response:
    """The blind page of a random entity that keeps a list."""
    name = request.path_params["matcher"]
    with sessions_of(request).reading() as connection:
        matcher = matcher_of(connection, name)
        row = connection.execute(query("gallery_any_left"), {"matcher": name}).fetchone()
    if row is None:
        raise HTTPException(404, f"The matcher {name} has no pairs yet.")
    return redirect(request, "blind", matcher=name, source=matcher["left_source"], id=row[0])


def blind(request: Request) -> Response:
    """The lists of the active model and of the shadow model; a person sees which is which only when asking."""
    asked = request.path_params
    with sessions_of(request).reading() as connection:
        matcher = matcher_of(connection, asked["matcher"])
        names = [row["name"] for row in named_rows(connection, "models_of_matcher", matcher=asked["matcher"])]
        if len(names) < 2:
            raise HTTPException(404, "There is one model only: `matching-pipeline model add` adds another beside it.")
        own = cards_of(connection, asked["source"], [asked["id"]])
        if not own or asked["source"] not in (matcher["left_source"], matcher["right_source"]):
            raise HTTPException(404, f"The matcher {asked['matcher']} compares no such entity.")
        is_left = matcher["left_source"] == asked["source"]
        other = matcher["right_source" if is_left else "left_source"]
        lists = [_list(connection, asked["matcher"], model, asked["source"], asked["id"]) for model in names]
        cards = {card.id: card for card in cards_of(connection, other, list({id for each in lists for id in each}))}
        labels = _labels(connection, asked["matcher"], own[0].key, is_left)
    columns = [(model, [cards[id] for id in each if id in cards]) for model, each in zip(names, lists, strict=True)]
    if _is_turned(request.state.user, asked["id"]):
        columns.reverse()
    shown = {"matcher": matcher, "own": own[0], "is_left": is_left, "columns": columns, "labels": labels}
    return render(request, "blind.html", **shown, is_revealed="reveal" in request.query_params)


def _list(connection: Connection, matcher: str, model: str, source: str, id: UUID) -> list[UUID]:
    scoring = Scoring(connection, attached(connection, matcher).rule, PART_IMAGES, model)
    for members, here in scoring.in_blocks(source, [id]):
        (near,) = stream_near(connection, scoring.opposite(members), here, scoring.policy, sys.maxsize)
        return as_uuids(scoring.best_of(source, here, near).right)[:SIDE_BY_SIDE]
    return []


def _labels(connection: Connection, matcher: str, key: str, is_left: bool) -> dict[str, list[dict[str, Any]]]:
    """The labels of the entity's pairs, by the key of the other entity."""
    labels: dict[str, list[dict[str, Any]]] = {}
    for row in named_rows(connection, "gallery_labels_of", matcher=matcher, key=key, is_left=is_left):
        labels.setdefault(row["other"], []).append(row)
    return labels


def _is_turned(user: str, id: UUID) -> bool:
    """Random, but the same each time that this person sees this entity."""
    return hashlib.sha256(user.encode() + id.bytes).digest()[0] % 2 == 1
