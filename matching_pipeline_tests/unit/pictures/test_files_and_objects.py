import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from matching_pipeline.errors import HostBusy, PermanentFailure, TransientFailure
from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline_tests.unit.pictures.conftest import Fetch, Server


@pytest.fixture
def root(tmp_path: Path, picture_bytes: bytes) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "one picture.png").write_bytes(picture_bytes)
    (tmp_path / "secret.png").write_bytes(picture_bytes)
    return folder


@pytest.fixture
def file_fetch(root: Path) -> Iterator[Fetch]:
    with ImageFetcher(FetchLimits(max_bytes=10_000, timeout_seconds=3, file_roots=(root,))) as fetcher:
        yield fetcher.fetch


def test_a_file_below_a_root_is_read(file_fetch: Fetch, root: Path, picture_bytes: bytes) -> None:
    assert file_fetch(f"file://{root}/one%20picture.png") == picture_bytes
    assert file_fetch(f"file://localhost{root}/one%20picture.png") == picture_bytes


def test_a_link_that_stays_below_the_root_is_followed(file_fetch: Fetch, root: Path, picture_bytes: bytes) -> None:
    (root / "link.png").symlink_to(root / "one picture.png")
    assert file_fetch(f"file://{root}/link.png") == picture_bytes


@pytest.mark.parametrize("path", ["../secret.png", "%2e%2e/secret.png", "out.png", "out/secret.png"])
def test_a_file_elsewhere_is_refused(file_fetch: Fetch, root: Path, path: str) -> None:
    (root / "out.png").symlink_to(root.parent / "secret.png")
    (root / "out").symlink_to(root.parent)
    with pytest.raises(PermanentFailure, match="IMAGE_FILE_ROOTS"):
        file_fetch(f"file://{root}/{path}")


def test_no_file_is_read_without_roots(public_fetch: Fetch, root: Path) -> None:
    with pytest.raises(PermanentFailure, match="IMAGE_FILE_ROOTS"):
        public_fetch((root / "one picture.png").as_uri())


def test_a_file_that_cannot_be_read_is_permanent(file_fetch: Fetch, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "large").write_bytes(bytes(10_001))
    (root / "circle").symlink_to(root / "circle")
    for path in ["missing.png", "", "pipe", "large", "circle", "a%00b", "one%20picture.png/below"]:
        with pytest.raises(PermanentFailure):
            file_fetch(f"file://{root}/{path}")
    with pytest.raises(PermanentFailure):
        file_fetch("file://elsewhere/picture.png")


@pytest.fixture
def s3_fetch(monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[Fetch]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ImageFetcher(FetchLimits(max_bytes=10_000, timeout_seconds=3)) as fetcher:
        yield fetcher.fetch


def test_an_object_is_read_from_its_bucket(s3_fetch: Fetch, server: Server, picture_bytes: bytes) -> None:
    assert s3_fetch("s3://bucket/folder/one picture.png") == picture_bytes
    assert s3_fetch("S3://bucket/100%?.png") == picture_bytes
    assert [path for path, _ in server.requests] == [
        "/bucket/folder/one%20picture.png",
        "/bucket/100%25%3F.png",
    ]


def test_objects_are_read_by_many_threads(s3_fetch: Fetch, picture_bytes: bytes) -> None:
    with ThreadPoolExecutor(8) as threads:
        contents = list(threads.map(s3_fetch, [f"s3://bucket/{number}" for number in range(40)]))
    assert contents == [picture_bytes] * 40


@pytest.mark.parametrize("key", ["400", "401", "403", "404"])
def test_an_object_that_is_not_to_be_had_is_permanent(s3_fetch: Fetch, key: str) -> None:
    with pytest.raises(PermanentFailure):
        s3_fetch(f"s3://status/{key}")


def test_an_object_store_s_refusal_says_the_reason_of_its_body(s3_fetch: Fetch, server: Server) -> None:
    server.refusal = (
        b"<?xml version='1.0'?>\n<Error>\n<Code>AccessDenied</Code>\n<Message>Request has expired</Message></Error>"
    )
    for status in (400, 403, 404):
        with pytest.raises(PermanentFailure, match=rf"{status} [\w ]+: AccessDenied: Request has expired$"):
            s3_fetch(f"s3://refused/{status}")


def test_an_object_store_that_has_too_many_requests_is_left_alone(s3_fetch: Fetch, server: Server) -> None:
    for _ in range(3):
        with pytest.raises(HostBusy):
            s3_fetch("s3://status/429")
    asked = len(server.requests)
    assert asked < 6
    with pytest.raises(PermanentFailure):
        s3_fetch("s3://refused/404")


def test_an_object_store_that_fails_is_transient(s3_fetch: Fetch) -> None:
    with pytest.raises(TransientFailure, match="503"):
        s3_fetch("s3://status/503")


def test_an_object_key_without_a_meaning_is_permanent(s3_fetch: Fetch) -> None:
    with pytest.raises(PermanentFailure):
        s3_fetch("s3://bucket/../key")


def test_an_object_store_that_is_not_set_up_is_permanent(
    public_fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(PermanentFailure, match="not set up"):
        public_fetch("az://container/key")


def test_time_is_limited_for_object_storage(s3_fetch: Fetch) -> None:
    begin = time.monotonic()
    with pytest.raises(TransientFailure, match="IMAGE_TIMEOUT_SECONDS"):
        s3_fetch("s3://hang/key")
    assert time.monotonic() - begin < 8
