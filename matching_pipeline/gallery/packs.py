"""The product pictures that were made, each pack beside its photo, with a button that asks for them again."""

from psycopg.types.json import Jsonb
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import named_rows, query
from matching_pipeline.gallery.forms import Form, back
from matching_pipeline.gallery.rendering import render, sessions_of

PACKS = 12


def packs(request: Request) -> Response:
    with sessions_of(request).reading() as connection:
        found = named_rows(
            connection, "gallery_packs", before=request.query_params.get("before", "infinity"), count=PACKS + 1
        )
        types = named_rows(connection, "gallery_image_types")
        for pack in found:
            named = {"source": pack["source"], "key": pack["key"]}
            pack["pictures"] = {row["image_type"]: row for row in named_rows(connection, "gallery_pack", **named)}
            pack["jobs"] = named_rows(connection, "gallery_pack_jobs", **named)
    following = found[PACKS - 1]["newest"].isoformat() if len(found) > PACKS else None
    return render(request, "packs.html", packs=found[:PACKS], types=types, following=following)


def ask_again(request: Request, form: Form) -> Response:
    """Asks for new pictures of one type or of the whole pack; they cost money again."""
    asked = {"force": True} | ({"image_type": form["type"]} if form.get("type") else {})
    kind = "single" if form.get("type") else "complete_pack"
    parameters = {"source": form["source"], "key": form["key"], "kind": kind, "asked": Jsonb(asked)}
    with sessions_of(request).writing() as connection:
        if connection.execute(query("gallery_ask_again"), parameters).fetchone() is None:
            raise HTTPException(404, f"No asset makes pictures of {form['source']}.")
    return back(form)
