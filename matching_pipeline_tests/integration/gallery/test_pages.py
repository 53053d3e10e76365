"""What the pages show."""

import re

from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.integration.marketplace import Marketplace


def test_an_entity_is_found_from_the_first_page_with_its_matches(
    connection: Connection, database_url: str, gallery: TestClient
) -> None:
    marketplace = Marketplace(connection)
    project, product, other = marketplace.add("project"), marketplace.add("product"), marketplace.add("product")
    for kind, entity, vector in (("project", project, (1, 0, 0)), ("product", product, (1, 0.5, 0))):
        marketplace.add_image(kind, entity, vector)
    marketplace.add_image("product", other, (0, 0, 1))
    marketplace.process(database_url)
    assert 'href="/sources/project"' in gallery.get("/").text
    browsed = gallery.get("/sources/project").text
    (path,) = set(re.findall(r'href="(/entities/[^"]+)"', browsed))
    page = gallery.get(path).text
    assert str(project) in page
    assert str(product) in page
    assert str(other) not in page


def test_markup_in_a_title_is_text(connection: Connection, database_url: str, gallery: TestClient) -> None:
    JobBoard(connection).post("<script>alert(1)</script>")
    work_postings(database_url)
    for path in ("/", "/sources/posting"):
        page = gallery.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_a_page_that_is_not_there_says_so(gallery: TestClient) -> None:
    assert gallery.get("/sources/none").status_code == 404
    assert "There is no source none." in gallery.get("/sources/none").text
