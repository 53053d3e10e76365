"""A picture store that is full, forbidden, out of reach or misnamed, and writers that are killed."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline_tests.fixtures.bucket import Bucket
from matching_pipeline_tests.unit.pictures.conftest import files

ROOT = str(Path(__file__).resolve().parents[3])
NOW = timedelta(0)


KILLED = """
import os, signal, sys
from matching_pipeline.pictures.store import PictureStore

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
        with pytest.raises(ProviderUnavailable, match="GENERATED_IMAGES_URL"):
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
    with pytest.raises(ConfigurationError, match=r"GENERATED_IMAGES_URL.*Permission denied"):
        PictureStore("file:///forbidden").put(b"picture", "jpg")


def test_a_file_where_the_folder_should_be_is_a_matter_of_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="GENERATED_IMAGES_URL"):
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
    with pytest.raises(ConfigurationError, match="GENERATED_IMAGES_URL"):
        PictureStore(url)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_bucket_that_refuses_or_is_not_there_is_a_matter_of_configuration(bucket: Bucket, status: int) -> None:
    bucket.status = status
    with pytest.raises(ConfigurationError, match="GENERATED_IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")


@pytest.mark.parametrize("status", [409, 429, 503, 507])
def test_a_bucket_that_is_full_or_away_is_tried_later(bucket: Bucket, status: int) -> None:
    bucket.status = status
    with pytest.raises(ProviderUnavailable, match="GENERATED_IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")
    with pytest.raises(ProviderUnavailable, match="GENERATED_IMAGES_URL"):
        list(PictureStore("s3://bucket/made").list(NOW))


def test_a_store_that_cannot_be_reached_is_tried_later(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(ProviderUnavailable, match="GENERATED_IMAGES_URL"):
        PictureStore("s3://bucket/made").put(b"picture", "jpg")


def test_a_store_that_lacks_its_own_settings_is_a_matter_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigurationError, match="GENERATED_IMAGES_URL"):
        PictureStore("az://container/made")
