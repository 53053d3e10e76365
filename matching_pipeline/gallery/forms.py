"""Forms that write: each has a token that no foreign page can know."""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs
from uuid import UUID

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from matching_pipeline.gallery.rendering import state_of

MOST_BYTES = 2**20


class Form:
    """The fields of a form, each with all its values."""

    def __init__(self, body: bytes) -> None:
        self._fields = parse_qs(body.decode(errors="replace"), keep_blank_values=True)

    def all(self, name: str) -> list[str]:
        return self._fields.get(name, [])

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if not values:
            raise HTTPException(400, f"The form lacks {name}.")
        return values[0]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)


def writes(path: str, act: Callable[[Request, Form], Response], name: str) -> Route:
    """A route for POST only, which refuses a request without the token."""

    async def endpoint(request: Request) -> Response:
        form = Form(await _body(request))
        expected = state_of(request).token_of(request.state.user)
        if not hmac.compare_digest(expected.encode(), (form.get("token") or "").encode()):
            raise HTTPException(403, "This form does not belong to a page that you have open. Load the page again.")
        return await run_in_threadpool(act, request, form)

    handler: Callable[[Request], Awaitable[Response]] = endpoint
    return Route(path, handler, methods=["POST"], name=name)


def uuid_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise HTTPException(400, f"{text!r} is not an id.") from None


def back(form: Form) -> RedirectResponse:
    """Redirects to the page that the form was on or names, never to another site."""
    path = form.get("back") or "/"
    is_own = path.startswith("/") and not path.startswith(("//", "/\\"))
    return RedirectResponse(path if is_own else "/", 303)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise HTTPException(413, "The form is too large.")
    return body
