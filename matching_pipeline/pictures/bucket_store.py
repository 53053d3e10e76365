"""Files in object storage, by the library obstore."""

import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

import obstore
from obstore.exceptions import BaseError

from matching_pipeline.pictures.object_storage import is_permanent, open_bucket, reason_of, split_object_url

RETRY_TIMEOUT: Final = timedelta(seconds=30)
CONFLICT: Final = 409  # with another writer, at the same moment
YOUNG: Final = timedelta(hours=1)  # a bucket renews an object's age only when the object is written again


class BucketStore:
    """Keeps files in a bucket, below a prefix. The methods do what those of FolderStore do."""

    def __init__(self, url: str) -> None:
        bucket_url, prefix = split_object_url(url)
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self.url = f"{bucket_url}/{self._prefix}".rstrip("/")
        self._bucket = open_bucket(bucket_url, RETRY_TIMEOUT)

    def renew(self, name: str, size: int) -> bool:
        found, changed = self._look_up(name)
        return found == size and changed > datetime.now(UTC) - YOUNG

    def write(self, name: str, data: bytes) -> None:
        attributes = {"Content-Type": mimetypes.guess_type(name)[0] or "application/octet-stream"}
        obstore.put(self._bucket, self._prefix + name, data, attributes=attributes, use_multipart=False)

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            obstore.delete(self._bucket, self._prefix + name)

    def remove_old(self, name: str, latest: datetime) -> bool:
        size, changed = self._look_up(name)
        if size is None or changed > latest:
            return False
        self.remove(name)
        return True

    def files(self) -> Iterator[tuple[str, datetime]]:
        for batch in obstore.list(self._bucket, self._prefix or None, chunk_size=1000):
            for found in batch:
                yield found["path"].removeprefix(self._prefix), found["last_modified"]

    def explain(self, error: Exception) -> tuple[str, bool] | None:
        if not isinstance(error, (BaseError, OSError, ValueError)):
            return None
        return reason_of(error), is_permanent(error, transient_status=CONFLICT)

    def _look_up(self, name: str) -> tuple[int | None, datetime]:
        """Size and time of last change. The size is None if there is no such object."""
        try:
            found = obstore.head(self._bucket, self._prefix + name)
            return found["size"], found["last_modified"]
        except FileNotFoundError:
            return None, datetime.max.replace(tzinfo=UTC)
