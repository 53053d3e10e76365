"""The thumbnails that the pipeline keeps."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import query
from matching_pipeline.gallery.rendering import sessions_of


def thumbnail(request: Request) -> Response:
    with sessions_of(request).reading() as connection:
        row = connection.execute(query("gallery_thumbnail"), request.path_params).fetchone()
    if row is None:
        raise HTTPException(404, "There is no such picture.")
    (data,) = row
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return Response(data, media_type=f"image/{kind}", headers={"Cache-Control": "private, max-age=60"})
