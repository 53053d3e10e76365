"""A role that may only read sees every page and writes nothing."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.files import ROOT
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.integration.gallery.conftest import Open, token_of
from matching_pipeline_tests.integration.marketplace import Marketplace


@pytest.fixture
def reader(connection: Connection, database_url: str, open_gallery: Open) -> Iterator[TestClient]:
    connection.execute((ROOT / "sql/reader.sql").read_bytes())
    connection.execute((ROOT / "sql/reader.sql").read_bytes())
    connection.execute("alter role matching_pipeline_reader login")
    yield open_gallery(url=f"{database_url}&user=matching_pipeline_reader")
    # the role is the whole server's
    connection.execute("drop owned by matching_pipeline_reader; drop role matching_pipeline_reader")


def test_a_reader_sees_every_page_and_writes_nothing(
    connection: Connection, database_url: str, reader: TestClient
) -> None:
    marketplace = Marketplace(connection)
    project, product = marketplace.add("project"), marketplace.add("product")
    marketplace.add_image("project", project, (1, 0, 0))
    marketplace.add_image("product", product, (1, 0, 0))
    marketplace.process(database_url)
    JobBoard(connection).post("Night baker")
    work_postings(database_url)
    pair = f"/pairs/project/{project}/{product}"
    pages = ["/", "/sources/project", "/sources/product?order=most", "/sources/product?words=x", "/freshness"]
    for path in [*pages, f"/entities/project/{project}", pair, "/judge/project", "/dead-letters", "/packs"]:
        assert reader.get(path).status_code == 200, path
    assert str(product) in reader.get("/sources/product").text
    assert "Night baker" in reader.get("/sources/posting").text
    page = reader.get(pair).text
    assert "It is number 1 of the list" in page
    fields = {"token": token_of(page), "matcher": "project", "left": "a", "right": "b", "verdict": "good"}
    refused = reader.post("/label", data=fields)
    assert (refused.status_code, "lacks a right" in refused.text) == (403, True)
    assert connection.execute("select from matching_pipeline.match_labels").fetchall() == []
