"""Pictures in object storage, by the library obstore; credentials come from its environment variables."""

import mimetypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from matching_pipeline.errors import ConfigurationError, ProviderUnavailable
from matching_pipeline.pictures.object_storage import MAX_RETRIES, reason_of
from matching_pipeline.pictures.web import is_transient

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore, RetryConfig

RETRY_AFTER: Final = timedelta(minutes=2)
RETRY_SECONDS: Final = 30
CONFLICT: Final = 409  # with another writer, at the same moment
YOUNG: Final = timedelta(hours=1)  # an object's age can be renewed only by writing it again


class PictureBucket:
    def __init__(self, url: str) -> None:
        scheme, _, place = url.partition("://")
        bucket, _, prefix = place.partition("/")
        if not bucket:
            raise ConfigurationError(f"GENERATED_IMAGES_URL: {url!r} does not name a bucket as s3://bucket/prefix")
        bucket_url = f"{scheme.lower()}://{bucket}"
        self._prefix = f"{prefix.strip('/')}/".lstrip("/")
        self.url = f"{bucket_url}/{self._prefix}".rstrip("/")
        self._store = _open(bucket_url)

    def renew(self, name: str, size: int) -> bool:
        found = self._look_at(name)
        return found is not None and found["size"] == size and found["last_modified"] > datetime.now(UTC) - YOUNG

    def write(self, name: str, data: bytes) -> None:
        from obstore import put

        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with self._failures():
            put(self._store, self._prefix + name, data, attributes={"Content-Type": kind}, use_multipart=False)

    def remove(self, name: str) -> None:
        from obstore import delete

        with self._failures():
            try:
                delete(self._store, self._prefix + name)
            except FileNotFoundError:
                return

    def remove_old(self, name: str, latest: datetime) -> bool:
        found = self._look_at(name)
        if found is None or found["last_modified"] > latest:
            return False
        self.remove(name)
        return True

    def files(self) -> Iterator[tuple[str, datetime]]:
        from obstore import list as batches

        with self._failures():
            for batch in batches(self._store, self._prefix or None, chunk_size=1000):
                for found in batch:
                    yield found["path"].removeprefix(self._prefix), found["last_modified"]

    def _look_at(self, name: str) -> "ObjectMeta | None":
        from obstore import head

        with self._failures():
            try:
                return head(self._store, self._prefix + name)
            except FileNotFoundError:
                return None

    @contextmanager
    def _failures(self) -> Iterator[None]:
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            reason = reason_of(error)
            message = f"GENERATED_IMAGES_URL: {self.url} cannot be used: {reason}"
            refused = isinstance(error, (FileNotFoundError, PermissionDeniedError, UnauthenticatedError, ValueError))
            status = re.search(r"status code: (\d{3})", reason)
            hopeless = status and int(status[1]) != CONFLICT and not is_transient(int(status[1]))
            if refused or hopeless:
                raise ConfigurationError(message) from error
            raise ProviderUnavailable(message, RETRY_AFTER) from error


def _open(bucket_url: str) -> "ObjectStore":
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    retries: RetryConfig = {"max_retries": MAX_RETRIES, "retry_timeout": timedelta(seconds=RETRY_SECONDS)}
    try:
        # No client options: given any, obstore ignores those of the environment (AWS_ALLOW_HTTP, …).
        return from_url(bucket_url, retry_config=retries)
    except (BaseError, ValueError) as error:
        raise ConfigurationError(f"GENERATED_IMAGES_URL: object storage is not set up: {reason_of(error)}") from error
