"""Judging pair after pair, and two models blind."""

import re
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.integration.gallery.conftest import Open, token_of
from matching_pipeline_tests.integration.marketplace import MODEL, Marketplace
from matching_pipeline_tests.integration.school import School


@pytest.fixture
def marketplace(connection: Connection, database_url: str) -> Marketplace:
    """A project with two matches, of which each has a picture."""
    marketplace = Marketplace(connection)
    project = marketplace.add("project")
    marketplace.add_image("project", project, (1, 0, 0))
    for vector in ((1, 0.1, 0), (1, 0.5, 0)):
        marketplace.add_image("product", marketplace.add("product"), vector)
    marketplace.process(database_url)
    return marketplace


def test_each_pair_is_asked_for_until_all_are_judged(marketplace: Marketplace, gallery: TestClient) -> None:
    seen = set()
    page = gallery.get("/judge/project").text
    for _ in range(2):
        left, right = (re.findall(rf'name="{side}" value="([^"]+)"', page)[0] for side in ("left", "right"))
        seen.add(right)
        fields = {"token": token_of(page), "matcher": "project", "left": left, "right": right, "verdict": "good"}
        page = gallery.post("/label", data={**fields, "back": "/judge/project"}).text
    assert len(seen) == 2
    assert "You have judged every pair of this matcher." in page


def test_a_person_judges_what_another_has_judged(marketplace: Marketplace, open_gallery: Open) -> None:
    client = open_gallery(gallery_user_header="X-User")
    marketplace.connection.execute(
        "insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict, by) "
        "select matcher, left_key, right_key, 3, 'ann' from matching_pipeline.matches"
    )
    judged = {user: client.get("/judge/project", headers={"X-User": user}).text for user in ("ann", "bob")}
    assert ["You have judged" in page for page in judged.values()] == [True, False]


def test_a_pair_that_was_judged_in_the_other_order_is_not_asked_for(
    connection: Connection, database_url: str, open_gallery: Open
) -> None:
    school = School(connection, database_url)
    for gender in ("male", "female"):
        school.face(school.user(gender, "UIT"))
    school.process()
    client = open_gallery(gallery_user_header="X-User")
    connection.execute(
        "insert into matching_pipeline.match_labels (matcher, left_key, right_key, verdict, by) "
        "select matcher, right_key, left_key, 3, 'ann' from matching_pipeline.matches"
    )
    judged = {user: client.get("/judge/face", headers={"X-User": user}).text for user in ("ann", "bob")}
    assert ["You have judged" in page for page in judged.values()] == [True, False]


def test_two_models_stand_side_by_side_without_their_names(
    connection: Connection, marketplace: Marketplace, gallery: TestClient
) -> None:
    assert gallery.get("/blind/project").status_code == 404
    connection.execute(
        "insert into matching_pipeline.embedding_models (name, modality, dimensions) values ('newcomer', 'image', 3)"
    )
    images = connection.execute("select source, key from matching_pipeline.items order by source, key").fetchall()
    for number, (source, key) in enumerate(images):
        # the newcomer finds the second product only
        marketplace.embed(source, UUID(key), (1, 0, 0) if number else (0, 1, 0), model="newcomer")
    page = gallery.get("/blind/project").text
    columns = page.split("<h2 ")[1:]
    lengths = sorted(len(re.findall("<li>", column)) for column in columns)
    assert lengths == [1, 2]
    assert MODEL not in page
    assert "newcomer" not in page
    (path,) = re.findall(r'href="(/blind/project/[^"]+reveal=1)"', page)
    revealed = gallery.get(path).text
    assert f"is of {MODEL}" in revealed
    assert "is of newcomer" in revealed
