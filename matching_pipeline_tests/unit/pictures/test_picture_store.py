import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from matching_pipeline.pictures.fetch import FetchLimits, ImageFetcher
from matching_pipeline.pictures.store import PictureStore
from matching_pipeline_tests.fixtures.bucket import Bucket
from matching_pipeline_tests.unit.pictures.conftest import files

NOW = timedelta(0)
AN_HOUR = timedelta(hours=1)


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return (tmp_path / "made pictures").as_uri()
    request.getfixturevalue("bucket")
    return "s3://bucket/made pictures"


def test_a_picture_is_named_by_its_content_in_folders_of_two_levels(url: str) -> None:
    digest = sha256(b"picture").hexdigest()
    assert PictureStore(url).put(b"picture", "jpg") == f"{url}/{digest[:2]}/{digest[2:4]}/{digest}.jpg"


def test_a_probe_leaves_nothing_behind(url: str) -> None:
    store = PictureStore(url)
    store.probe()
    assert list(store.list(NOW)) == []


def test_the_fetcher_reads_the_bytes_that_were_put(url: str, tmp_path: Path) -> None:
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
        with pytest.raises(ValueError, match="not a picture below"):
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
