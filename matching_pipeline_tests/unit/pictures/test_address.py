import base64

import pytest

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.address import address, read_data
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline_tests.unit.pictures.conftest import Server

STORAGE = "https://shop.example/storage/v1/object/public/"


@pytest.mark.parametrize(
    ("stored", "base_url", "url"),
    [
        ("bucket/a.jpg", STORAGE, f"{STORAGE}bucket/a.jpg"),
        ("/bucket/a.jpg", STORAGE, f"{STORAGE}bucket/a.jpg"),
        ("bucket/a b#1.jpg", "https://shop.example", "https://shop.example/bucket/a b%231.jpg"),
        ("a.jpg?width=200", "https://shop.example/", "https://shop.example/a.jpg?width=200"),
        ("folder/a#1.jpg", "s3://bucket", "s3://bucket/folder/a#1.jpg"),
        ("a.jpg", "file:///srv/pictures", "file:///srv/pictures/a.jpg"),
        ("https://cdn.example/a.jpg", STORAGE, "https://cdn.example/a.jpg"),
        ("data:image/png;base64,AAAA", STORAGE, "data:image/png;base64,AAAA"),
        ("//cdn.example/a.jpg", None, "https://cdn.example/a.jpg"),
        ("//cdn.example/a.jpg", "http://shop.example", "http://cdn.example/a.jpg"),
        ("//cdn.example/a.jpg", "s3://bucket", "https://cdn.example/a.jpg"),
        ("bucket/a.jpg", None, "bucket/a.jpg"),
        ("\ufeffhttps://cdn.example/a.jpg", None, "https://cdn.example/a.jpg"),
        ("\u200b https://cdn.example/a.jpg\u00a0\u2060", None, "https://cdn.example/a.jpg"),
        ("https://cdn.example/\n  a.jpg", None, "https://cdn.example/  a.jpg"),
        ("\u200ebucket/a.jpg", STORAGE, f"{STORAGE}bucket/a.jpg"),
        (" \u200b", STORAGE, ""),
    ],
)
def test_what_an_app_stores_becomes_a_url(stored: str, base_url: str | None, url: str) -> None:
    assert address(stored, base_url) == url


@pytest.mark.parametrize(
    ("uri", "content"),
    [
        ("data:image/png;base64,aGVsbG8=", b"hello"),
        ("data:image/png;base64,aGVsbG8", b"hello"),
        ("data:image/png;base64,aGVs\n bG8%3D", b"hello"),
        ("DATA:;BASE64,aGVsbG8=", b"hello"),
        ("data:,hel%6Co", b"hello"),
        ("data:image/svg+xml;charset=utf-8,<svg/>", b"<svg/>"),
    ],
)
def test_a_data_uri_is_decoded_as_browsers_do(uri: str, content: bytes) -> None:
    assert read_data(uri, 100) == content


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        (f"data:image/png;base64,{base64.b64encode(bytes(1000)).decode()}", "IMAGE_MAX_BYTES"),
        (f"data:image/png,{'x' * 101}", "IMAGE_MAX_BYTES"),
        ("data:image/png;base64,a-b_", "malformed data URI"),
        ("data:image/png;base64", "no comma"),
    ],
)
def test_a_data_uri_that_is_too_large_or_malformed_is_refused(uri: str, reason: str) -> None:
    with pytest.raises(PermanentFailure, match=reason):
        read_data(uri, 100)


def test_a_path_is_fetched_below_the_base_url(server: Server, picture_bytes: bytes) -> None:
    with ImageFetcher(FetchLimits(allow_private_hosts=True, base_url=server.url)) as fetcher:
        assert fetcher.fetch("picture/of a cat.png") == picture_bytes
        assert fetcher.fetch(f"//127.0.0.1:{server.server_port}/picture") == picture_bytes
        assert fetcher.fetch(f"data:image/png;base64,{base64.b64encode(picture_bytes).decode()}") == picture_bytes


@pytest.mark.parametrize("stored", ["bucket/a.jpg", "/a.jpg", "a cat"])
def test_a_path_without_a_base_url_names_the_setting(public_fetch: object, stored: str) -> None:
    assert callable(public_fetch)
    with pytest.raises(PermanentFailure, match="not a URL; with IMAGE_BASE_URL"):
        public_fetch(stored)


def test_a_message_does_not_repeat_the_picture_of_a_data_uri(public_fetch: object) -> None:
    assert callable(public_fetch)
    with pytest.raises(PermanentFailure) as caught:
        public_fetch("data:image/png;base64,!!!!" + "A" * 10_000)
    assert str(caught.value).startswith("data:image/png;base64,…: malformed")
