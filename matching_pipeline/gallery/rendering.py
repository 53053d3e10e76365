"""Pages out of rows: what all of them share."""

import hashlib
import hmac
import secrets
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from psycopg.conninfo import conninfo_to_dict
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse

from matching_pipeline.gallery import words
from matching_pipeline.gallery.sessions import Sessions
from matching_pipeline.handlers.registry import fetch_limits
from matching_pipeline.pictures.fetch import ImageFetcher
from matching_pipeline.settings import Settings

TEMPLATES = Path(__file__).parent / "templates"

PAGES = (
    ("sources", "Sources"),
    ("freshness", "Freshness and costs"),
    ("dead_letters", "Dead letters"),
    ("packs", "Product pictures"),
)


def _shared_secret(settings: Settings, database_url: str) -> bytes:
    """Comes from the passwords of the deployment: a load balancer may send one gallery the form of another.

    A form shows a digest of it to a visitor, who must not find out the database's password by trying many.
    """
    own = settings.gallery_password.get_secret_value() if settings.gallery_password else ""
    passwords = own + str(conninfo_to_dict(database_url).get("password") or "")
    return hashlib.scrypt(passwords.encode(), salt=b"matching_pipeline", n=2**14, r=8, p=1) if passwords else b""


class State:
    """What the pages of one application have in common."""

    def __init__(self, settings: Settings, database_url: str) -> None:
        self.settings = settings
        self.database_url = database_url
        self.sessions = Sessions(database_url)
        self._open = ExitStack()
        self._secret = _shared_secret(settings, database_url) or secrets.token_bytes()

    def token_of(self, user: str) -> str:
        """What a form of this user must hold."""
        return hmac.digest(self._secret, user.encode(), "sha256").hex()

    @cached_property
    def fetcher(self) -> ImageFetcher:
        """Fetches the pictures that no browser can fetch."""
        return self._open.enter_context(ImageFetcher(fetch_limits(self.settings)))

    def close(self) -> None:
        self._open.close()
        self.sessions.close()

    @cached_property
    def templates(self) -> Environment:
        environment = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.globals |= {"link": link, "token": token, "here": here, "pages": PAGES}
        environment.globals["face_picture"] = self.settings.gallery_face_picture
        environment.filters |= words.FILTERS
        return environment


def state_of(request: Request) -> State:
    state: State = request.app.state.gallery
    return state


def sessions_of(request: Request) -> Sessions:
    return state_of(request).sessions


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    page = state_of(request).templates.get_template(template)
    return HTMLResponse(page.render(request=request, **context), status)


def redirect(request: Request, name: str, /, **parameters: Any) -> RedirectResponse:
    return RedirectResponse(path_to(request, name, **parameters), 303)


@pass_context
def link(context: Context, name: str, /, **parameters: Any) -> str:
    """The path of a page, also below a proxy's prefix; parameters that the path lacks become its query."""
    return path_to(context["request"], name, **parameters)


@pass_context
def token(context: Context) -> str:
    request = context["request"]
    return state_of(request).token_of(request.state.user)


@pass_context
def here(context: Context) -> str:
    """The path and query of the page itself."""
    url = context["request"].url
    return f"{url.path}?{url.query}" if url.query else str(url.path)


def path_to(request: Request, name: str, /, **parameters: Any) -> str:
    route = next(route for route in request.app.routes if getattr(route, "name", None) == name)
    of_path = {key: value for key, value in parameters.items() if key in getattr(route, "param_convertors", {})}
    path = request.app.url_path_for(name, **of_path)
    query = {key: value for key, value in parameters.items() if key not in of_path and value is not None}
    prefix = request.scope.get("root_path", "")
    return f"{prefix}{path}" + (f"?{urlencode(query)}" if query else "")
