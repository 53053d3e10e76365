"""Object storage by the library obstore, which takes credentials from its environment variables."""

import re
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, from_url

from matching_pipeline.errors import HostBusy, PermanentFailure, TransientFailure
from matching_pipeline.pictures.hosts import Hosts, host_of
from matching_pipeline.pictures.printable_url import with_printable_urls
from matching_pipeline.pictures.refusals import reason_in
from matching_pipeline.pictures.size_limit import collect, refuse_oversize
from matching_pipeline.pictures.web import is_transient

OBJECT_STORAGE_SCHEMES = frozenset({"s3", "s3a", "gs", "az", "azure", "adl", "abfs", "abfss"})
TOO_MANY_REQUESTS = 429
MAX_RETRIES = 2  # for a short failure; the job's own retries are for an outage


class ObjectStorage:
    """Reads objects from any number of buckets and keeps the connections to each."""

    def __init__(self, *, max_bytes: int, timeout_seconds: float, hosts: Hosts) -> None:
        self._hosts = hosts
        self._max_bytes = max_bytes
        self._timeout = timedelta(seconds=timeout_seconds)
        self._buckets: dict[str, ObjectStore] = {}

    async def read(self, url: str) -> bytes:
        """Reads the object at `scheme://bucket/key`. `%` and `?` in the key stand for themselves."""
        try:
            bucket_url, key = split_object_url(url)
            if not key:
                raise ValueError("malformed URL: an object is named as scheme://bucket/key")
            if bucket_url not in self._buckets:
                self._buckets[bucket_url] = open_bucket(bucket_url, self._timeout)
            answer = await obstore.get_async(self._buckets[bucket_url], key)
            self._hosts.note_answer(host_of(url))
            refuse_oversize(answer.meta["size"], self._max_bytes)
            return await collect((bytes(chunk) async for chunk in answer.stream()), self._max_bytes)
        except (BaseError, OSError, ValueError) as error:
            if _status(error) == TOO_MANY_REQUESTS:
                raise HostBusy(reason_of(error), self._hosts.note_refusal(host_of(url), None)) from error
            raise (PermanentFailure if is_permanent(error) else TransientFailure)(reason_of(error)) from error


def split_object_url(url: str) -> tuple[str, str]:
    """The bucket's URL and the key. Raises ValueError if there is no bucket."""
    scheme, _, place = url.partition("://")
    bucket, _, key = place.partition("/")
    if not bucket:
        raise ValueError("malformed URL: a bucket is named as scheme://bucket")
    return f"{scheme.lower()}://{bucket}", key


def open_bucket(bucket_url: str, retry_timeout: timedelta) -> ObjectStore:
    """Raises ValueError if obstore's settings are wrong."""
    try:
        # No client options, as with any obstore ignores those of the environment (AWS_ALLOW_HTTP, …).
        return from_url(bucket_url, retry_config={"max_retries": MAX_RETRIES, "retry_timeout": retry_timeout})
    except (BaseError, ValueError) as error:
        raise ValueError(f"object storage is not set up: {reason_of(error)}") from error


def is_permanent(error: Exception, *, transient_status: int | None = None) -> bool:
    """Whether the same request would meet the error again. `transient_status` is one more that passes by itself."""
    if isinstance(error, (FileNotFoundError, PermissionDeniedError, UnauthenticatedError, ValueError)):
        return True
    status = _status(error)
    return status is not None and status != transient_status and not is_transient(status)


def _status(error: Exception) -> int | None:
    """The HTTP status, if obstore's message has it."""
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else None


def reason_of(error: Exception) -> str:
    """The error's first line, and the reason in the body of the store's answer, without secrets."""
    text, _, _ = str(error).partition("\n\nDebug source")
    answer = re.match(r"(.*status code: \d{3} [^:\n]*): (.*)", text, re.DOTALL)
    if answer is None:
        return with_printable_urls(text.partition("\n")[0])
    return ": ".join(filter(None, (with_printable_urls(answer[1]), reason_in(answer[2].encode()))))
