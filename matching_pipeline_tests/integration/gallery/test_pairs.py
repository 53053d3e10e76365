"""The page of a pair, its label, and the way from an entity to the ones that it does not list."""

import re
from typing import NamedTuple
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.integration.gallery.conftest import token_of
from matching_pipeline_tests.integration.marketplace import Marketplace


class Shop(NamedTuple):
    project: UUID
    near: UUID
    below: UUID
    far: UUID

    def pair(self, product: UUID) -> str:
        return f"/pairs/project/{self.project}/{product}"


@pytest.fixture
def shop(connection: Connection, database_url: str) -> Shop:
    """A project with one match; another product is just below the threshold of 0.5, a third is far."""
    marketplace = Marketplace(connection)
    project = marketplace.add("project")
    marketplace.add_image("project", project, (1, 0, 0))
    products = []
    for vector in ((1, 0.5, 0), (0.6, 0.8, 0), (0, 0, 1)):
        products.append(marketplace.add("product"))
        marketplace.add_image("product", products[-1], vector)
    marketplace.process(database_url)
    return Shop(project, *products)


def test_an_entity_shows_the_first_that_was_not_kept(shop: Shop, gallery: TestClient) -> None:
    page = gallery.get(f"/entities/project/{shop.project}").text
    kept, _, near = page.partition("Not kept")
    assert (str(shop.near) in kept, str(shop.below) in kept) == (True, False)
    assert (str(shop.below) in near, str(shop.far) in near) == (True, False)
    # 0.8 times the cosine of 0.6
    assert "misses the threshold by 0.020" in near


def test_a_pair_says_why(shop: Shop, gallery: TestClient) -> None:
    assert "It is number 1 of the list" in gallery.get(shop.pair(shop.near)).text
    assert "It misses by 0.020." in gallery.get(shop.pair(shop.below)).text
    assert gallery.get(f"/pairs/project/{shop.project}/{UUID(int=99)}").status_code == 404


def test_why_not_this_one_leads_to_the_pair_from_either_side(shop: Shop, gallery: TestClient) -> None:
    for source, own, other in (("project", shop.project, shop.far), ("product", shop.far, shop.project)):
        asked = {"matcher": "project", "source": source, "id": str(own), "key": str(other)}
        found = gallery.get("/why-not", params=asked, follow_redirects=False)
        assert found.headers["Location"] == shop.pair(shop.far)
    assert gallery.get("/why-not", params={**asked, "key": "none"}).status_code == 404
    assert gallery.get("/why-not", params={**asked, "id": "none"}).status_code == 400


def test_a_label_is_given_changed_and_taken_back(connection: Connection, shop: Shop, gallery: TestClient) -> None:
    page = gallery.get(shop.pair(shop.near)).text
    fields = {"token": token_of(page), "matcher": "project", "left": str(shop.project), "right": str(shop.near)}
    labels = "select verdict, by = 'block' from matching_pipeline.match_labels"
    for verdict, kept in (("good", [(3, False)]), ("bad", [(0, False)]), ("block", [(0, True)]), ("none", [])):
        answer = gallery.post("/label", data={**fields, "verdict": verdict, "back": shop.pair(shop.near)})
        assert answer.status_code == 200
        assert connection.execute(labels).fetchall() == kept
        pressed = re.findall(r'value="(\w+)" class="\w+" aria-pressed="true"', answer.text)
        assert pressed == ([verdict] if kept else [])


def test_a_form_without_its_token_writes_nothing(connection: Connection, shop: Shop, gallery: TestClient) -> None:
    fields = {"matcher": "project", "left": str(shop.project), "right": str(shop.near), "verdict": "good"}
    for token in ({}, {"token": ""}, {"token": "0" * 64}):
        assert gallery.post("/label", data={**fields, **token}).status_code == 403
    assert gallery.get("/label").status_code == 405
    assert connection.execute("select from matching_pipeline.match_labels").fetchall() == []


def test_a_form_leads_back_to_this_site_only(shop: Shop, gallery: TestClient) -> None:
    fields = {"token": token_of(gallery.get(shop.pair(shop.near)).text), "matcher": "project", "verdict": "none"}
    for back in ("https://evil.example/", "//evil.example/", "/\\evil.example/"):
        data = {**fields, "left": "a", "right": "b", "back": back}
        answer = gallery.post("/label", data=data, follow_redirects=False)
        assert answer.headers["Location"] == "/"
