"""The page of the jobs that failed for good."""

import re
from html import unescape

from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.integration.gallery.conftest import token_of
from matching_pipeline_tests.integration.marketplace import Marketplace


def test_dead_letters_stand_by_reason_and_are_tried_again(connection: Connection, gallery: TestClient) -> None:
    assert "No job has failed for good." in gallery.get("/dead-letters").text
    marketplace = Marketplace(connection)
    product = marketplace.add("product")
    for _ in range(3):
        marketplace.add_image("product", product, (1, 0, 0))
    connection.execute(
        "update matching_pipeline.jobs set status = 'failed', completed_at = now(), "
        "error_message = format('404 of https://example.com/%s.jpg', key) where queue = 'image_ai'"
    )
    listed = gallery.get("/dead-letters").text
    (path,) = re.findall(r'href="(/dead-letters\?[^"]+)"', listed)
    page = gallery.get(unescape(path)).text
    assert f"/entities/product/{product}" in page
    jobs = re.findall(r'name="job" value="([^"]+)"', page)
    assert len(jobs) == 3
    fields = {"token": token_of(page), "queue": "image_ai", "reason": "404 of ..."}
    gallery.post("/retry", data={**fields, "job": jobs[:1]})
    assert failed(connection) == 2
    gallery.post("/retry", data={**fields, "all": "yes"})
    assert failed(connection) == 0
    assert gallery.post("/retry", data={**fields, "job": "none"}).status_code == 400


def failed(connection: Connection) -> int:
    return len(connection.execute("select from matching_pipeline.jobs where status = 'failed'").fetchall())
