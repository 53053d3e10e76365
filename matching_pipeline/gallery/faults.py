"""A sentence for each fault that a page can meet."""

from collections.abc import Callable, Mapping
from typing import Any

import psycopg
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.gallery.rendering import render


def _page(status: int, title: str, say: Callable[[Any], str]) -> Callable[[Request, Exception], Response]:
    def handler(request: Request, error: Exception) -> Response:
        return render(request, "fault.html", status=status, title=title, message=say(error))

    return handler


def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    title = {404: "Not found", 403: "Refused"}.get(error.status_code, "Not possible")
    return render(request, "fault.html", status=error.status_code, title=title, message=error.detail)


FAULTS: Mapping[Any, Callable[[Request, Exception], Response]] = {
    HTTPException: _http,
    psycopg.errors.QueryCanceled: _page(
        503, "Too slow", lambda error: "The database took longer than ten seconds. Try again when it has less to do."
    ),
    psycopg.errors.InsufficientPrivilege: _page(
        403, "Not allowed", lambda error: f"The database role lacks a right: {error.diag.message_primary}."
    ),
    psycopg.OperationalError: _page(
        503,
        "The database is away",
        lambda error: "The gallery cannot reach Postgres. The page works again when the server does.",
    ),
    psycopg.DataError: _page(
        400, "Not possible", lambda error: f"The database refuses a value: {error.diag.message_primary or error}."
    ),
    ConfigurationError: _page(503, "Not set up", lambda error: f"{error}."),
}
