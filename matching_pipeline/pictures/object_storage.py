"""Pictures from object storage, by the library obstore; credentials come from its environment variables."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from matching_pipeline.errors import JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.pictures.printable_url import printable
from matching_pipeline.pictures.size_limit import collect, refuse_oversize
from matching_pipeline.pictures.web import is_transient

if TYPE_CHECKING:
    from obstore.store import ObjectStore, RetryConfig

OBJECT_STORAGE_SCHEMES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
MAX_RETRIES = 2  # for a hiccup; an outage is left to the retries of the item


class ObjectStorage:
    """Reads objects from any number of buckets; the connections to each are kept."""

    def __init__(self, *, max_bytes: int, timeout_seconds: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timedelta(seconds=timeout_seconds)
        self._stores: dict[str, ObjectStore] = {}

    async def read(self, url: str) -> bytes:
        """The object at `scheme://bucket/key`; the key is taken as it stands, `%` and `?` included."""
        from obstore import get_async
        from obstore.exceptions import BaseError

        scheme, _, place = url.partition("://")
        bucket, _, key = place.partition("/")
        if not bucket or not key:
            raise PermanentFailure("malformed URL: an object is named as scheme://bucket/key")
        store = self._store(f"{scheme.lower()}://{bucket}")
        try:
            answer = await get_async(store, key)
            refuse_oversize(answer.meta["size"], self._max_bytes)
            return await collect((bytes(chunk) async for chunk in answer.stream()), self._max_bytes)
        except (BaseError, OSError, ValueError) as error:
            raise _failure(error) from error

    def _store(self, bucket_url: str) -> "ObjectStore":
        from obstore.exceptions import BaseError
        from obstore.store import from_url

        if bucket_url not in self._stores:
            retries: RetryConfig = {"max_retries": MAX_RETRIES, "retry_timeout": self._timeout}
            try:
                # No client options: given any, obstore ignores those of the environment (AWS_ALLOW_HTTP, …).
                self._stores[bucket_url] = from_url(bucket_url, retry_config=retries)
            except (BaseError, ValueError) as error:
                raise PermanentFailure(f"object storage is not set up: {reason_of(error)}") from error
        return self._stores[bucket_url]


def _failure(error: Exception) -> JobFailure:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    reason = reason_of(error)
    permanent = isinstance(error, (FileNotFoundError, PermissionDeniedError, UnauthenticatedError, ValueError))
    status = re.search(r"status code: (\d{3})", reason)  # obstore gives the other statuses in words only
    if permanent or (status and not is_transient(int(status[1]))):
        return PermanentFailure(reason)
    return TransientFailure(reason)


def reason_of(error: Exception) -> str:
    """The error's first line (a debugging dump follows), without the secrets of the URLs in it."""
    first_line = str(error).partition("\n")[0]
    return re.sub(r"\S+://\S+", lambda url: printable(url[0]), first_line)
