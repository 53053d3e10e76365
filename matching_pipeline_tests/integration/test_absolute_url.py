from unicodedata import category

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.pictures.address import _is_invisible, address


@pytest.mark.parametrize("base", ["https://shop.example/storage/", "HTTP://shop.example", "s3://bucket/prefix"])
def test_a_source_s_base_url_makes_the_same_urls_as_the_setting(connection: Connection, base: str) -> None:
    stored = [
        *("bucket/a.jpg", "/bucket/a b#1.jpg", "a.jpg?width=200", "//cdn.example/a.jpg", "https://cdn.example/a#b"),
        *(
            "data:image/png;base64,AAAA",
            "\ufeffhttps://cdn.example/a.jpg",
            "\u200b bucket/a.jpg",
            "\u00a0//cdn.example/a",
        ),
        *("\u00a0//cdn.example/a", "localhost:3000/a.jpg", "", " "),
    ]
    statement = "select matching_pipeline.absolute_url(%s, %s)"
    urls = [url for each in stored for (url,) in connection.execute(statement, (each, base))]
    # the fetcher trims what the function leaves as it is
    assert [address(url, None) for url in urls] == [address(each, base) for each in stored]


def test_what_is_invisible_in_python_is_blank_in_sql(connection: Connection) -> None:
    ((blanks,),) = connection.execute("select matching_pipeline.blanks()").fetchall()
    assert {character for code in range(1, 0x110000) if _is_invisible(character := chr(code))} <= set(blanks)
    # an older Python does not know all of them
    assert all(_is_invisible(each) or category(each) == "Cn" for each in blanks)
