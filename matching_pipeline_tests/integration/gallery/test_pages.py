"""What the pages show."""

import re
from base64 import b64encode
from html import unescape
from pathlib import Path

from starlette.testclient import TestClient

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import registry
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.app import App
from matching_pipeline_tests.fixtures.pictures import picture
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.integration.gallery.conftest import Open, token_of
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


def links(page: str, begin: str) -> list[str]:
    return list(dict.fromkeys(unescape(path) for path in re.findall(rf'href="({begin}[^"]*)"', page)))


def test_a_source_is_browsed_page_by_page_in_each_order(connection: Connection, gallery: TestClient) -> None:
    """Each entity once, whichever order it is; of one moment by id."""
    with connection.transaction():
        connection.execute(
            """insert into matching_pipeline.entities (source, id, key, mirrored_at)
            select 'product', matching_pipeline.key_id(number::text), number,
                '2026-01-01'::timestamptz + number / 3 * interval '1 second'
            from generate_series(1, 60) as number"""
        )
        connection.execute(
            """insert into matching_pipeline.matches
                (matcher, left_id, right_id, left_key, right_key, left_item, right_item, similarity, left_rank, model)
            select 'project', matching_pipeline.key_id('p' || number % 7), id, '', key, id, id, 0.9, 1, ''
            from matching_pipeline.entities cross join lateral (select key::integer as number) as numbered
            where source = 'product' and number > 5"""
        )
    for order, count in (("newest", 60), ("unmatched", 5), ("most", 55)):
        path, seen = f"/sources/product?order={order}", list[str]()
        while path:
            page = gallery.get(path).text
            seen += links(page, "/entities/")
            path = next((each for each in links(page, r"/sources/product\?") if "before=" in each), "")
        assert len(seen) == len(set(seen)) == count


def test_a_search_finds_keys_words_and_properties(
    connection: Connection, database_url: str, gallery: TestClient
) -> None:
    marketplace = Marketplace(connection)
    products = [marketplace.add("product") for _ in range(2)]
    for product, color in zip(products, ("red", "blue"), strict=True):
        marketplace.add_image("product", product, (1, 0, 0), [color])
    assert [str(products[0]) in gallery.get(f"/sources/product?words={words}").text for words in ("red", "blue")] == [
        True,
        False,
    ]
    found = gallery.get(f"/sources/product?words={products[1]}", follow_redirects=False)
    assert found.headers["Location"] == f"/entities/product/{products[1]}"
    assert "holds «100%»" in gallery.get("/sources/product?words=100%25").text
    connection.execute(
        "insert into matching_pipeline.entities (source, id, key, properties) values "
        """('face', matching_pipeline.key_id('a'), 'a', '{"school": "Old Harbour"}')"""
    )
    assert len(links(gallery.get("/sources/face?words=Old+Harbour").text, "/entities/")) == 1


def test_a_place_that_is_none_is_refused(gallery: TestClient) -> None:
    assert gallery.get("/sources/product?before=never").status_code == 400
    assert gallery.get("/sources/product?after=x").status_code == 400


def test_a_sentence_finds_texts_and_a_picture_finds_pictures(
    connection: Connection, database_url: str, tmp_path: Path, open_gallery: Open
) -> None:
    gallery = open_gallery()
    board, app = JobBoard(connection), App(connection)
    for title in ("Head baker of bread", "Welder of steel pipes"):
        board.post(title)
    for color in ("red", "blue"):
        (tmp_path / f"{color}.png").write_bytes(picture(color))
        app.product_image(app.product(), (tmp_path / f"{color}.png").as_uri())
    settings = Settings(database_url=database_url, image_file_roots=(tmp_path,))
    for queue in ("image_ai", "job_embeddings"):
        registry.process_due(settings, database_url, EXAMPLES, queue)
    page = gallery.get("/sources/posting").text
    fields = {"token": token_of(page), "source": "posting"}
    found = gallery.post("/search", data={**fields, "words": "bread baker"}).text
    assert re.findall(r'class="name">(\w+)', found) == ["Head", "Welder"]
    data = "data:image/png;base64," + b64encode(picture("red")).decode()
    found = gallery.post("/search", data={**fields, "source": "product", "picture": data}).text
    assert re.findall(r"cosine (\d\.\d+)", found)[0] == "1.000"
    of_both = {"source": "product", "words": "red", "picture": data}
    at_an_address = {"source": "product", "picture": (tmp_path / "red.png").as_uri()}
    without_model = {"source": "face", "words": "red"}
    for asked in (
        {},
        {"picture": data},
        {"source": "product", "words": "red"},
        of_both,
        at_an_address,
        without_model,
    ):
        assert gallery.post("/search", data={**fields, **asked}).status_code == 400


def test_a_face_is_shown_only_where_a_setting_names_its_picture(connection: Connection, open_gallery: Open) -> None:
    connection.execute(
        "insert into matching_pipeline.entities (source, id, key, properties) values "
        """('face', matching_pipeline.key_id('a'), 'a', '{"photo": "https://example.com/face.jpg"}')"""
    )
    shown = [open_gallery(**asked).get("/sources/face").text for asked in ({}, {"gallery_face_picture": "photo"})]
    assert ['src="https://example.com/face.jpg"' in page for page in shown] == [False, True]
