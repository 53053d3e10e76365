"""Inserts the samples into the app's tables."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.sample_data.listings import SampleListing, sample_marketplace
from matching_pipeline.sample_data.people import sample_users
from matching_pipeline.sample_data.postings import POSTINGS

STUDIO_PROJECTS = ("gourd lamp, ochre shade", "striped mug, sky blue")
"""The demo has a pack of product pictures made of each of these products."""


class Insertion(NamedTuple):
    """What the rows are, in the plural; the statement that inserts one of them; the parameters of each row."""

    what: str
    statement: bytes
    rows: Sequence[dict[str, Any]]


def insert_sample_data(connection: Connection) -> str:
    """Inserts the missing rows, and says what is there and how many rows were missing."""
    insertions = _insertions()
    added = 0
    with connection.transaction(), connection.cursor() as cursor:
        for insertion in insertions:
            cursor.executemany(insertion.statement, insertion.rows)
            added += cursor.rowcount
    counts: Counter[str] = Counter()
    for insertion in insertions:
        counts[insertion.what] += len(insertion.rows)
    what = ", ".join(f"{count} {name}" for name, count in counts.items())
    if not added:
        return f"sample data, there already: {what}"
    if added == counts.total():
        return f"sample data inserted: {what}"
    return f"sample data: {what}; {added} of these rows were missing and are inserted"


def _insertions() -> list[Insertion]:
    market, users = sample_marketplace(), sample_users()
    studio = [product for product in market.products if product.name in STUDIO_PROJECTS]
    return [
        Insertion("projects", query("insert_sample_project"), [{"id": project.id} for project in market.projects]),
        Insertion("products", query("insert_sample_product"), [{"id": product.id} for product in market.products]),
        Insertion("images", query("insert_sample_project_image"), _pictures(market.projects)),
        Insertion("images", query("insert_sample_product_image"), _pictures(market.products)),
        Insertion(
            "users",
            query("insert_sample_user"),
            [{"id": user.id, "school": user.school, "gender": user.gender} for user in users],
        ),
        Insertion(
            "faces",
            query("insert_sample_face"),
            [
                {"id": face_id, "user_id": user.id, "embedding": embedding}
                for user in users
                for face_id, embedding in user.faces
            ],
        ),
        Insertion(
            "postings", query("insert_sample_posting"), [{"id": posting.id, **vars(posting)} for posting in POSTINGS]
        ),
        Insertion(
            "packs",
            query("insert_sample_studio_project"),
            [{"id": product.id, "url": product.pictures[0].url} for product in studio],
        ),
    ]


def _pictures(listings: Sequence[SampleListing]) -> list[dict[str, Any]]:
    return [
        {"id": picture.id, "listing_id": listing.id, "url": picture.url}
        for listing in listings
        for picture in listing.pictures
    ]
