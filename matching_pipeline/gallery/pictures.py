"""Pictures from this server: the thumbnails that the pipeline keeps, and files that the pipeline may read.

A picture with a web address comes from there, without a detour by the gallery.
"""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import query
from matching_pipeline.errors import JobFailure
from matching_pipeline.gallery.rendering import sessions_of, state_of
from matching_pipeline.pictures.local_file import read_file

KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
"""By the first bytes of the file. A browser shows no other file, such as SVG, which could hold a script."""


def thumbnail(request: Request) -> Response:
    return _picture(_found(request, "gallery_thumbnail"))


def picture(request: Request) -> Response:
    settings = state_of(request).settings
    try:
        return _picture(
            read_file(_found(request, "gallery_picture"), settings.readable_folders, settings.image_max_bytes)
        )
    except JobFailure as error:
        raise HTTPException(404, f"The picture {error}.") from None


def _found(request: Request, name: str) -> Any:
    with sessions_of(request).reading() as connection:
        row = connection.execute(query(name), request.path_params).fetchone()
    if row is None:
        raise HTTPException(404, "There is no such picture.")
    return row[0]


def _picture(content: bytes) -> Response:
    kind = next((kind for start, kind in KINDS.items() if content.startswith(start)), None)
    if kind is None:
        raise HTTPException(404, "The file is no picture that browsers show.")
    return Response(content, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=60"})
