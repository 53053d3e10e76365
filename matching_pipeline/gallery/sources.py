"""The first page: every source, how much of it is done, and the matchers."""

from starlette.requests import Request
from starlette.responses import Response

from matching_pipeline.db.queries import named_rows
from matching_pipeline.gallery.browsing import newest
from matching_pipeline.gallery.cards import cards_of
from matching_pipeline.gallery.rendering import render, sessions_of

NEWEST = 8


def all_sources(request: Request) -> Response:
    with sessions_of(request).reading() as connection:
        sources = named_rows(connection, "gallery_sources")
        for source in sources:
            source["newest"] = cards_of(connection, source["name"], newest(connection, source["name"], NEWEST))
        matchers = named_rows(connection, "gallery_matchers")
    return render(request, "sources.html", sources=sources, matchers=matchers)
