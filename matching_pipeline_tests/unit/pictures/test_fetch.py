import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.pictures.decode import decode
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.printable_url import printable
from matching_pipeline_tests.unit.pictures.conftest import Fetch, Server

LIMITS = FetchLimits(max_bytes=10_000, timeout_seconds=3, max_redirects=3, allow_private_hosts=True)


@pytest.fixture
def fetch() -> Iterator[Fetch]:
    """Fetches from the loopback server too, with low limits."""
    with ImageFetcher(LIMITS) as fetcher:
        yield fetcher.fetch


@pytest.fixture
def hasty_fetch() -> Iterator[Fetch]:
    """Does not wait long for what is slow."""
    with ImageFetcher(replace(LIMITS, timeout_seconds=0.5)) as fetcher:
        yield fetcher.fetch


def test_returns_the_bytes_that_the_server_sends(fetch: Fetch, server: Server, picture_bytes: bytes) -> None:
    assert fetch(f" {server.url}/picture\n") == picture_bytes


def test_follows_redirects(fetch: Fetch, server: Server, picture_bytes: bytes) -> None:
    assert fetch(f"{server.url}/hop/hop/hop/picture") == picture_bytes


def test_sends_the_password_of_the_url_but_not_to_another_host(
    fetch: Fetch, server: Server, picture_bytes: bytes
) -> None:
    elsewhere = f"http://localhost:{server.server_port}/picture"
    assert fetch(f"http://me:secret@127.0.0.1:{server.server_port}/redirect/{elsewhere}") == picture_bytes
    assert ["Authorization" in headers for _, headers in server.requests] == [True, False]


def test_keeps_connections(fetch: Fetch, server: Server) -> None:
    fetch(f"{server.url}/picture")
    fetch(f"{server.url}/picture")
    assert server.connections == 1


def test_keeps_no_cookies(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure):
        fetch(f"{server.url}/loop")
    assert not any("Cookie" in headers for _, headers in server.requests)


def test_ignores_the_proxies_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: Server, picture_bytes: bytes
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with ImageFetcher(FetchLimits(allow_private_hosts=True)) as fetcher:
        assert fetcher.fetch(f"{server.url}/picture") == picture_bytes


def test_serves_eight_threads_at_once(server: Server, picture_bytes: bytes) -> None:
    limits = FetchLimits(timeout_seconds=2, allow_private_hosts=True)
    paths = ["picture", "hop/picture", "status/404", "hang"] * 16

    def kind(path: str) -> object:
        try:
            return fetcher.fetch(f"{server.url}/{path}")
        except JobFailure as failure:
            return type(failure)

    with ImageFetcher(limits) as fetcher, ThreadPoolExecutor(8) as threads:
        results = list(threads.map(kind, [path for path in paths if path != "hang"] + ["hang"] * 4))
    expected = [picture_bytes, picture_bytes, PermanentFailure] * 16 + [TransientFailure] * 4
    assert results == expected


def test_a_fetcher_that_was_not_closed_lets_the_program_end(server: Server) -> None:
    program = f"""
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
fetcher = ImageFetcher(FetchLimits(allow_private_hosts=True))
fetcher.fetch("{server.url}/picture")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=10)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 418, 300, 304])
def test_an_answer_that_will_not_change_is_permanent(fetch: Fetch, server: Server, status: int) -> None:
    with pytest.raises(PermanentFailure, match=str(status)):
        fetch(f"{server.url}/status/{status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_answer_that_may_change_is_transient(fetch: Fetch, server: Server, status: int) -> None:
    with pytest.raises(TransientFailure, match=str(status)):
        fetch(f"{server.url}/status/{status}")


@pytest.mark.parametrize("path", ["reset", "ends-early", "garbage"])
def test_a_broken_connection_is_transient(fetch: Fetch, server: Server, path: str) -> None:
    with pytest.raises(TransientFailure) as caught:
        fetch(f"{server.url}/{path}")
    assert "IMAGE_TIMEOUT_SECONDS" not in str(caught.value)


def test_a_closed_port_is_transient(fetch: Fetch) -> None:
    with socket.socket() as bound_but_not_listening:
        bound_but_not_listening.bind(("127.0.0.1", 0))
        with pytest.raises(TransientFailure):
            fetch(f"http://127.0.0.1:{bound_but_not_listening.getsockname()[1]}/")


def test_an_unknown_host_is_transient(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(TransientFailure, match=r"nowhere\.example cannot be resolved"):
        fetch("http://nowhere.example/picture.png")


@pytest.mark.parametrize("path", ["hang", "drip/body", "drip/header", "hop/drip/body"])
def test_time_is_limited_whatever_is_slow(hasty_fetch: Fetch, server: Server, path: str) -> None:
    begin = time.monotonic()
    with pytest.raises(TransientFailure, match="IMAGE_TIMEOUT_SECONDS"):
        hasty_fetch(f"{server.url}/{path}")
    assert time.monotonic() - begin < 4


def test_time_is_limited_for_a_name_server_too(hasty_fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: done.wait(5))
    begin = time.monotonic()
    with pytest.raises(TransientFailure, match="IMAGE_TIMEOUT_SECONDS"):
        hasty_fetch("http://slow.example/picture.png")
    assert time.monotonic() - begin < 4
    done.set()


@pytest.mark.parametrize("path", ["declared/10001", "without-length/1000", "bomb", "bomb/br", "bomb/zstd"])
def test_size_is_limited_declared_or_not(fetch: Fetch, server: Server, path: str) -> None:
    with pytest.raises(PermanentFailure, match="IMAGE_MAX_BYTES"):
        fetch(f"{server.url}/{path}")


def test_unasked_compression_is_undone(fetch: Fetch, server: Server, picture_bytes: bytes) -> None:
    for name in ["gzip", "br", "zstd", "deflate", "raw-deflate", "gzip,br", "gzip-members", "zstd-frames"]:
        assert fetch(f"{server.url}/encoded/{name}") == picture_bytes
    assert server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("cut-gzip", "truncated gzip"),
        ("cut/br", "truncated br"),
        ("cut/zstd", "truncated zstd"),
        ("cut/deflate", "truncated deflate"),
        ("wrong/br", "damaged br"),
        ("wrong/zstd", "damaged zstd"),
        ("wrong/gzip", "damaged gzip"),
    ],
)
def test_compression_that_cannot_be_undone_is_permanent(fetch: Fetch, server: Server, path: str, reason: str) -> None:
    with pytest.raises(PermanentFailure, match=reason):
        fetch(f"{server.url}/{path}")


@pytest.mark.parametrize("word", ["base64", "utf-8", "aws-chunked", "none", "binary", "identity", "", "UTF8,none"])
def test_a_word_that_names_no_encoding_means_nothing(
    fetch: Fetch, server: Server, picture_bytes: bytes, word: str
) -> None:
    assert fetch(f"{server.url}/labelled/{word}") == picture_bytes


def test_an_empty_body_is_permanent(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure, match="zero bytes"):
        fetch(f"{server.url}/empty")


def test_an_html_page_is_found_out_when_it_is_decoded(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure, match="HTML page, not an image"):
        decode(fetch(f"{server.url}/html"))


def test_a_redirect_loop_is_permanent(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure, match="IMAGE_MAX_REDIRECTS"):
        fetch(f"{server.url}/loop")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "s3://bucket/key", "gopher://127.0.0.1/"])
def test_redirects_lead_to_the_web_only(fetch: Fetch, server: Server, target: str) -> None:
    with pytest.raises(PermanentFailure, match="not followed"):
        fetch(f"{server.url}/redirect/{target}")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "picture.png",
        "http://",
        "http:///a",
        "http://[::1",
        "http://a:b:c/",
        "http://..../",
        "ftp://example.com/a",
        "data:image/png;base64",
        "data:image/png;base64,A",
        "javascript:alert(1)",
        "http://a\x00b/",
        "http://127.0.0.1:70000/",
        "http://127.0.0.1:-1/",
        f"http://{'a' * 70}.example/",
        "s3://",
        "s3://bucket",
        "s3:///key",
        "file:relative.png",
    ],
)
def test_a_url_that_cannot_be_fetched_is_permanent(public_fetch: Fetch, url: str) -> None:
    with pytest.raises(PermanentFailure):
        public_fetch(url)


def test_messages_name_the_url_without_its_secrets(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure) as caught:
        fetch(f"http://me:secret@127.0.0.1:{server.server_port}/status/404?signature=secret#secret")
    assert str(caught.value).startswith(f"{server.url}/status/404?…: ")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.com/a.png", "https://example.com/a.png"),
        ("https://me:pass@word@example.com/@a?b=c", "https://example.com/@a?…"),
        ("https://example.com/a#token", "https://example.com/a?…"),
        ("not a url?secret\nsecret", "not a url?…"),
        ("data:" + "A" * 1000, "data:" + "A" * 295 + "…"),
    ],
)
def test_a_url_is_shown_without_user_and_query(url: str, shown: str) -> None:
    assert printable(url) == shown


@given(st.sampled_from(["", "http://", "https://", "file:///", "http://[", "http://x:"]), st.text())
def test_any_text_at_all_fails_with_a_job_failure(public_fetch: Fetch, beginning: str, text: str) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(socket, "getaddrinfo", lambda *arguments, **options: [])
        with pytest.raises(JobFailure) as caught:
            public_fetch(beginning + text)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (
            400,
            '{"statusCode":"404","error":"not_found","message":"Object not found"}',
            "400 Bad Request: Object not found",
        ),
        (400, '{"statusCode":"404","error":"Bucket not found","message":"Bucket not found"}', ": Bucket not found"),
        (400, '{"error":"InvalidJWT","message":"\\"exp\\" claim timestamp check failed"}', ': "exp" claim timestamp'),
        (
            403,
            "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>",
            ": AccessDenied: Request",
        ),
        (404, "<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "404 Not Found: NoSuchKey"),
        (403, '{"error": {"code": 403, "message": "Permission denied."}}', ": Permission denied."),
        (403, "hotlinking is not allowed\nsecond line", ": hotlinking is not allowed"),
        (404, "<!doctype html><title>Not found</title>", "404 Not Found"),
        (404, "", "404 Not Found"),
    ],
)
def test_a_refusal_says_the_reason_of_its_body(
    fetch: Fetch, server: Server, status: int, body: str, reason: str
) -> None:
    server.refusal = body.encode()
    with pytest.raises(PermanentFailure) as caught:
        fetch(f"{server.url}/refused/{status}?token=secret")
    assert reason in str(caught.value)
    assert str(caught.value).endswith(reason) or not reason.endswith("Not Found")


def test_a_refusal_tells_no_secret(fetch: Fetch, server: Server) -> None:
    token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJlc2lnbmF0dXJl"
    server.refusal = f'{{"message": "no https://me:{token}@host/a?token={token} for {token}"}}'.encode()
    with pytest.raises(PermanentFailure) as caught:
        fetch(f"{server.url}/refused/403")
    assert "eyJ" not in str(caught.value)
    assert "no https://host/a?… for …" in str(caught.value)


def test_a_refusal_whose_body_does_not_come_is_permanent_all_the_same(fetch: Fetch, server: Server) -> None:
    with pytest.raises(PermanentFailure, match="404 Not Found"):
        fetch(f"{server.url}/refused-without-end")


def test_the_user_agent_is_a_setting(server: Server) -> None:
    with ImageFetcher(FetchLimits(allow_private_hosts=True, user_agent="a shop's crawler")) as fetcher:
        fetcher.fetch(f"{server.url}/picture")
    assert server.requests[0][1]["User-Agent"] == "a shop's crawler"
