"""Who may see the gallery: on this machine everybody, from elsewhere people with the password or named by a proxy."""

import getpass
import os
import secrets
from base64 import b64decode
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' https: http: data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # a browser must not keep what may be erased later
    "Cache-Control": "no-store",
}


def require_protection(settings: Settings, host: str) -> None:
    """Raises ConfigurationError if everyone who reaches the address could read everything."""
    if settings.gallery_password and settings.gallery_user_header:
        raise ConfigurationError(
            "GALLERY_PASSWORD: with GALLERY_USER_HEADER a proxy names the user, and no password is asked: set one"
        )
    if host not in LOOPBACK and not (settings.gallery_password or settings.gallery_user_header):
        raise ConfigurationError(
            f"GALLERY_PASSWORD: at {host} others can reach the gallery: set a password, or GALLERY_USER_HEADER where "
            "a proxy names the user"
        )


class Access:
    """Names the user of each request in its state, or refuses it.

    Without password and proxy the server is bound to the loopback address. A foreign page could let its own name lead
    to that address and then read everything. So the name that the browser asked for must be one of this machine.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._password = settings.gallery_password
        self._user_header = settings.gallery_user_header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        user = self._user_of(Headers(scope=scope))
        if isinstance(user, PlainTextResponse):
            await user(scope, receive, send_with_headers)
            return
        scope.setdefault("state", {})["user"] = user
        await self._app(scope, receive, send_with_headers)

    def _user_of(self, headers: Headers) -> str | PlainTextResponse:
        if self._user_header:
            named = headers.get(self._user_header, "").strip()
            return named or PlainTextResponse(f"The proxy names no user in {self._user_header}.", 403)
        if self._password:
            user, _, password = _basic(headers.get("authorization", "")).partition(":")
            if secrets.compare_digest(password.encode(), self._password.get_secret_value().encode()):
                return user or "somebody"
            challenge = {"WWW-Authenticate": 'Basic realm="Matches", charset="UTF-8"'}
            return PlainTextResponse("Your name and the password of the gallery.", 401, challenge)
        if urlsplit(f"//{headers.get('host', '')}").hostname not in LOOPBACK:
            return PlainTextResponse("The gallery answers at http://127.0.0.1 only.", 403)
        return _user_of_this_process()


def _user_of_this_process() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # a container may run as a number that has no name
        return str(os.getuid())


def _basic(authorization: str) -> str:
    scheme, _, encoded = authorization.partition(" ")
    try:
        return b64decode(encoded).decode() if scheme.lower() == "basic" else ""
    except ValueError:
        return ""
