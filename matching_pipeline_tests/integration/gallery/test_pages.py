"""What the pages show."""

import re
from html import unescape

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
