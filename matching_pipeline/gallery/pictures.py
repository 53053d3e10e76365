"""Pictures from this server: the thumbnails that the pipeline keeps, and pictures that no browser can fetch.

Browsers fetch a picture with a web address from there, not through the gallery.
"""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure
from matching_pipeline.gallery.rendering import sessions_of, state_of

KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
"""By the first bytes of the file. No other file is shown, such as SVG, which could hold a script."""


def thumbnail(request: Request) -> Response:
    return _picture(_found(request, "gallery_thumbnail", **request.path_params))


def picture(request: Request) -> Response:
    """Answers the picture of an item."""
    return _fetched(request, _found(request, "gallery_picture", **request.path_params))


def made_picture(request: Request) -> Response:
    """Answers a picture that the pipeline made, or the photo that it was made from."""
    named = {"key": request.query_params.get("key"), **request.path_params}
    source_url, url = _found(request, "gallery_made_picture", **named)
    return _fetched(request, source_url if request.query_params.get("photo") else url)


def _found(request: Request, name: str, **parameters: Any) -> Any:
    with sessions_of(request).reading() as connection:
        row = connection.execute(query(name), parameters).fetchone()
    if row is None:
        raise HTTPException(404, "There is no such picture.")
    return row[0] if len(row) == 1 else row


def _fetched(request: Request, url: str) -> Response:
    try:
        return _picture(state_of(request).fetcher.fetch(url))
    except JobFailure as error:
        raise HTTPException(404, f"The picture cannot be read. {error}") from None


def _picture(content: bytes) -> Response:
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise HTTPException(404, "The file is not a picture that browsers show.")
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=60"})
