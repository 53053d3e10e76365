"""Files in object storage, by the library obstore."""

import mimetypes
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from matching_pipeline.pictures.object_storage import is_permanent, open_bucket, reason_of, split_object_url

if TYPE_CHECKING:
    from obstore import ObjectMeta

RETRY_TIMEOUT: Final = timedelta(seconds=30)
CONFLICT: Final = 409  # with another writer, at the same moment
YOUNG: Final = timedelta(hours=1)  # a bucket renews an object's age only when the object is written again


class BucketStore:
    """A FileStore in a bucket, below a prefix."""

    def __init__(self, url: str) -> None:
        bucket_url, prefix = split_object_url(url)
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self.url = f"{bucket_url}/{self._prefix}".rstrip("/")
        self._bucket = open_bucket(bucket_url, RETRY_TIMEOUT)

    def renew(self, name: str, size: int) -> bool:
        found = self._look_up(name)
        return found is not None and found["size"] == size and found["last_modified"] > datetime.now(UTC) - YOUNG

    def write(self, name: str, data: bytes) -> None:
        from obstore import put

        media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        put(self._bucket, self._prefix + name, data, attributes={"Content-Type": media_type}, use_multipart=False)

    def remove(self, name: str) -> None:
        from obstore import delete

        with suppress(FileNotFoundError):
            delete(self._bucket, self._prefix + name)

    def remove_old(self, name: str, latest: datetime) -> bool:
        found = self._look_up(name)
        if found is None or found["last_modified"] > latest:
            return False
        self.remove(name)
        return True

    def files(self) -> Iterator[tuple[str, datetime]]:
        from obstore import list as list_objects

        for batch in list_objects(self._bucket, self._prefix or None, chunk_size=1000):
            for found in batch:
                yield found["path"].removeprefix(self._prefix), found["last_modified"]

    def explain(self, error: Exception) -> tuple[str, bool] | None:
        from obstore.exceptions import BaseError

        if not isinstance(error, (BaseError, OSError, ValueError)):
            return None
        return reason_of(error), is_permanent(error, transient_status=CONFLICT)

    def _look_up(self, name: str) -> "ObjectMeta | None":
        from obstore import head

        try:
            return head(self._bucket, self._prefix + name)
        except FileNotFoundError:
            return None
