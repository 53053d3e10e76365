import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import pytest

from matching_pipeline.failures import ConfigurationError, ProviderUnavailable
from matching_pipeline.images.fetch import FetchLimits, ImageFetcher
from matching_pipeline.images.picture_store import PictureStore

ROOT = str(Path(__file__).resolve().parents[3])
NOW = timedelta(0)
AN_HOUR = timedelta(hours=1)


class Bucket(ThreadingHTTPServer):
    """As much of S3 as the store asks for, on loopback."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), BucketHandler)
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.kinds: dict[str, str | None] = {}
        self.writes = 0
        self.status = 200
        """what every request is answered with, if not 200"""


class BucketHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            self.server.writes += 1
            self.server.objects[self.key] = body, datetime.now(UTC)
            self.server.kinds[self.key] = self.headers["Content-Type"]
        self.answer(200, ETag='"1"')

    def do_HEAD(self) -> None:
        if self.key in self.server.objects:
            body, changed = self.server.objects[self.key]
            self.answer(200, body, Last_Modified=format_datetime(changed, usegmt=True), ETag='"1"')
        else:
            self.answer(404)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if "list-type" not in parts.query:
            return self.do_HEAD()
        prefix = parse_qs(parts.query).get("prefix", [""])[0]
        contents = "".join(
            f"<Contents><Key>{key}</Key><Size>{len(body)}</Size><ETag>1</ETag>"
            f"<LastModified>{changed.isoformat()}</LastModified></Contents>"
            for key, (body, changed) in sorted(self.server.objects.items())
            if key.startswith(prefix)
        )
        result = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
        return self.answer(200, result.encode())

    def do_POST(self) -> None:
        request = ElementTree.fromstring(self.rfile.read(int(self.headers["Content-Length"])))
        keys = [element.text or "" for element in request.iter() if element.tag.endswith("Key")]
        for key in keys:
            self.server.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{key}</Key></Deleted>" for key in keys)
        self.answer(200, f"<DeleteResult>{deleted}</DeleteResult>".encode())

    @property
    def key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket/")

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        if self.server.status != 200:
            status, body = self.server.status, b""
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Silent."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with Bucket() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
        monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return (tmp_path / "made pictures").as_uri()
    request.getfixturevalue("bucket")
    return "s3://bucket/made pictures"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pictures"


@pytest.fixture
def store(folder: Path) -> PictureStore:
    return PictureStore(folder.as_uri())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_picture_is_named_by_its_content_in_folders_of_two_levels(url: str) -> None:
    digest = sha256(b"picture").hexdigest()
    assert PictureStore(url).put(b"picture", "jpg") == f"{url}/{digest[:2]}/{digest[2:4]}/{digest}.jpg"


def test_a_probe_leaves_nothing_behind(url: str) -> None:
    store = PictureStore(url)
    store.probe()
    assert list(store.list(NOW)) == []


def test_what_was_put_is_what_the_fetcher_reads(url: str, tmp_path: Path) -> None:
    written = PictureStore(url).put(b"picture", "png")
    with ImageFetcher(FetchLimits(file_roots=(tmp_path,))) as fetcher:
        assert fetcher.fetch(written) == b"picture"


def test_a_slash_at_the_end_of_the_url_makes_no_difference(url: str) -> None:
    assert PictureStore(f"{url}/").put(b"picture", "jpg") == PictureStore(url).put(b"picture", "jpg")


def test_a_deleted_picture_is_gone_and_deleting_it_again_is_no_failure(url: str) -> None:
    store = PictureStore(url)
    first, second = store.put(b"first", "jpg"), store.put(b"second", "jpg")
    assert store.delete(first, NOW)
    assert not store.delete(first, NOW)
    assert list(store.list(NOW)) == [second]


def test_only_pictures_of_the_stated_age_are_listed(url: str) -> None:
    store = PictureStore(url)
    assert list(store.list(NOW)) == []
    written = {store.put(name, "jpg") for name in (b"first", b"second")}
    assert set(store.list(NOW)) == written
    assert list(store.list(AN_HOUR)) == []


def test_nothing_but_its_own_pictures_can_be_deleted(url: str) -> None:
    store = PictureStore(url)
    digest = sha256(b"").hexdigest()
    for other in (
        f"{url}/notes.txt",
        f"{url}/../{digest[:2]}/{digest[2:4]}/{digest}.jpg",
        f"{url}elsewhere/{digest[:2]}/{digest[2:4]}/{digest}.jpg",
        f"{digest[:2]}/{digest[2:4]}/{digest}.jpg",
    ):
        with pytest.raises(ValueError, match="no picture below"):
            store.delete(other, NOW)


def test_the_same_bytes_are_written_to_a_folder_once(store: PictureStore, folder: Path) -> None:
    first = store.put(b"picture", "jpg")
    (path,) = files(folder)
    written = path.stat().st_ino
    assert store.put(b"picture", "jpg") == first
    assert path.stat().st_ino == written


def test_the_same_bytes_are_written_to_a_bucket_once(bucket: Bucket) -> None:
    first = PictureStore("s3://bucket").put(b"picture", "jpg")
    assert PictureStore("s3://bucket").put(b"picture", "jpg") == first
    assert bucket.writes == 1
    assert list(bucket.kinds.values()) == ["image/jpeg"]


def test_a_picture_that_is_put_again_is_young_again(store: PictureStore, folder: Path, bucket: Bucket) -> None:
    in_bucket = PictureStore("s3://bucket")
    store.put(b"picture", "jpg")
    in_bucket.put(b"picture", "jpg")
    (path,) = files(folder)
    os.utime(path, (0, 0))
    bucket.objects = {key: (body, datetime(2020, 1, 1, tzinfo=UTC)) for key, (body, _) in bucket.objects.items()}
    for place in (store, in_bucket):
        assert len(list(place.list(AN_HOUR))) == 1
        place.put(b"picture", "jpg")
        assert list(place.list(AN_HOUR)) == []


def test_a_picture_that_is_put_again_while_old_ones_are_deleted_stays(
    store: PictureStore, folder: Path, bucket: Bucket
) -> None:
    in_bucket = PictureStore("s3://bucket")
    urls = [place.put(b"picture", "jpg") for place in (store, in_bucket)]
    for place, url in zip((store, in_bucket), urls, strict=True):
        assert not place.delete(url, AN_HOUR)
        assert list(place.list(NOW)) == [url]


@pytest.mark.parametrize("step", ["rename", "unlink"])
def test_a_picture_that_is_put_into_a_folder_at_the_very_moment_of_its_deletion_stays(
    store: PictureStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    url = store.put(b"picture", "jpg")
    (path,) = files(folder)
    os.utime(path, (0, 0))
    take = getattr(Path, step)

    def put_just_before(self: Path, *target: Path) -> None:
        monkeypatch.undo()
        store.put(b"picture", "jpg")
        take(self, *target)

    monkeypatch.setattr(Path, step, put_just_before)
    store.delete(url, AN_HOUR)
    assert list(store.list(NOW)) == [url]
    assert path.read_bytes() == b"picture"


def test_an_unfinished_file_is_deleted_when_it_is_old(store: PictureStore, folder: Path) -> None:
    url = store.put(b"picture", "jpg")
    (path,) = files(folder)
    path.rename(path.with_name(f"{path.name}.0123.part"))
    (unfinished,) = store.list(NOW)
    assert unfinished == f"{url}.0123.part"
    assert store.delete(unfinished, NOW)
    assert files(folder) == []


def test_files_of_others_are_not_listed(store: PictureStore, folder: Path, bucket: Bucket) -> None:
    store.put(b"picture", "jpg")
    (folder / "notes.txt").write_text("theirs")
    bucket.objects["made/notes.txt"] = b"theirs", datetime(2020, 1, 1, tzinfo=UTC)
    assert len(list(store.list(NOW))) == 1
    assert list(PictureStore("s3://bucket/made").list(NOW)) == []


def test_a_damaged_file_of_the_same_name_is_replaced(store: PictureStore, folder: Path) -> None:
    store.put(b"picture", "jpg")
    (path,) = files(folder)
    path.write_bytes(b"pic")
    store.put(b"picture", "jpg")
    assert path.read_bytes() == b"picture"


def test_many_writers_of_one_picture_do_not_disturb_each_other(store: PictureStore, folder: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        urls = set(threads.map(lambda _: store.put(b"picture" * 10_000, "jpg"), range(40)))
    assert len(urls) == 1
    assert len(files(folder)) == 1


KILLED = """
import os, signal, sys
from matching_pipeline.images.picture_store import PictureStore

os.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
PictureStore(sys.argv[1]).put(b"picture", "jpg")
"""


def test_a_writer_killed_before_the_end_leaves_no_picture_but_something_to_collect(
    store: PictureStore, folder: Path
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", KILLED, folder.as_uri()], env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert child.returncode == -signal.SIGKILL
    (leftover,) = store.list(NOW)
    assert not leftover.endswith(".jpg")
    complete = store.put(b"picture", "jpg")
    store.delete(leftover, NOW)
    assert list(store.list(NOW)) == [complete]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_a_folder_that_is_full_or_away_is_tried_later_and_keeps_no_part(
    store: PictureStore, folder: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(reason, os.strerror(reason))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ProviderUnavailable, match="IMAGES_URL"):
            store.put(b"picture", "jpg")
    assert files(folder) == []
    store.put(b"picture", "jpg")


@pytest.fixture
def unprivileged() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.mark.usefixtures("unprivileged")
def test_a_folder_that_is_forbidden_is_a_matter_of_configuration() -> None:
    with pytest.raises(ConfigurationError, match=r"IMAGES_URL.*Permission denied"):
        PictureStore("file:///forbidden").put(b"picture", "jpg")


def test_a_file_where_the_folder_should_be_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="IMAGES_URL"):
        PictureStore((tmp_path / "file").as_uri()).put(b"picture", "jpg")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pictures",
        "/pictures",
        "file://elsewhere/pictures",
        "file:///",
        "file:///a?b",
        "file:///a#b",
        "s3://",
        "https://a/b",
    ],
)
def test_a_url_that_names_no_place_is_a_matter_of_configuration(url: str) -> None:
    with pytest.raises(ConfigurationError, match="IMAGES_URL"):
        PictureStore(url)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_bucket_that_refuses_or_is_not_there_is_a_matter_of_configuration(bucket: Bucket, status: int) -> None:
    bucket.status = status
    with pytest.raises(ConfigurationError, match="IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")


@pytest.mark.parametrize("status", [409, 429, 503, 507])
def test_a_bucket_that_is_full_or_away_is_tried_later(bucket: Bucket, status: int) -> None:
    bucket.status = status
    with pytest.raises(ProviderUnavailable, match="IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")
    with pytest.raises(ProviderUnavailable, match="IMAGES_URL"):
        list(PictureStore("s3://bucket/made").list(NOW))


def test_a_store_that_cannot_be_reached_is_tried_later(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderUnavailable, match="IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")


def test_a_store_that_lacks_its_own_settings_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigurationError, match="IMAGES_URL"):
        PictureStore("az://container/made")
