"""Fetches a picture's bytes from its URL, within limits of size, time and place."""

import asyncio
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, ExitStack, aclosing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from weakref import finalize

import anyio
from anyio.from_thread import start_blocking_portal

from matching_pipeline.errors import HostBusy, JobFailure, PermanentFailure, TransientFailure
from matching_pipeline.pictures.address import address, read_data
from matching_pipeline.pictures.hosts import Hosts, host_of
from matching_pipeline.pictures.local_file import read_file
from matching_pipeline.pictures.object_storage import OBJECT_STORAGE_SCHEMES, ObjectStorage
from matching_pipeline.pictures.printable_url import one_line, printable
from matching_pipeline.pictures.web import HTTP_SCHEMES, Content, Web

NOT_A_URL = "not a URL; with IMAGE_BASE_URL, or the source's base_url, a path becomes one"


@dataclass(frozen=True)
class FetchLimits:
    max_bytes: int = 64 * 2**20
    timeout_seconds: float = 30
    """For the whole fetch: name servers, redirects and the body."""
    max_redirects: int = 5
    concurrency: int = 8
    """Fetches at once."""
    host_concurrency: int = 6
    """Requests at once to one host, as browsers do."""
    user_agent: str = "Mozilla/5.0 (compatible; matching-pipeline)"
    base_url: str | None = None
    """The setting IMAGE_BASE_URL."""
    allow_private_hosts: bool = False
    """The setting IMAGE_ALLOW_PRIVATE_HOSTS."""
    file_roots: tuple[Path, ...] = ()
    """The setting IMAGE_FILE_ROOTS. Without one, `file://` is refused."""


class ImageFetcher:
    """Fetches for any number of threads at once.

    All fetches run on one event loop in a thread of its own. There a time limit ends every wait: for a name server,
    for a header, or for a slow body.
    """

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._hosts = Hosts(limits.host_concurrency)
        self._object_storage = ObjectStorage(
            max_bytes=limits.max_bytes, timeout_seconds=limits.timeout_seconds, hosts=self._hosts
        )
        self._web = Web(
            max_bytes=limits.max_bytes,
            max_redirects=limits.max_redirects,
            allow_private_hosts=limits.allow_private_hosts,
            user_agent=limits.user_agent,
            hosts=self._hosts,
        )
        self._turns = anyio.Semaphore(limits.concurrency)
        resources = ExitStack()
        self._portal = resources.enter_context(start_blocking_portal(name="image-fetcher"))
        resources.enter_context(self._portal.wrap_async_context_manager(aclosing(self._web)))
        # Without `finalize`, a fetcher that was not closed would keep the interpreter from exiting.
        self._close = finalize(self, resources.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def submit(self, url: str, version: str | None = None) -> "Future[Content]":
        """Begins to fetch. The content has no data if the host says that this version of the picture is the newest.

        The future raises PermanentFailure or TransientFailure with the URL, without its secrets, and the reason.
        It raises HostBusy while the host asks to wait.
        """
        return self._portal.start_task_soon(self._fetch, address(url, self._limits.base_url), version)

    def fetch(self, url: str) -> bytes:
        """The bytes, at least one; `decode` checks them. Raises the same as the future."""
        data = self.submit(url).result().data
        assert data is not None
        return data

    async def _fetch(self, url: str, version: str | None) -> Content:
        try:
            # a fetch that waits for its host takes no place from other hosts' fetches
            async with self._turn(url), self._turns:
                with anyio.fail_after(self._limits.timeout_seconds):
                    content = await self._read(url, version)
            if content.data == b"":
                raise PermanentFailure("empty, zero bytes")
            return content
        except HostBusy:
            raise
        except JobFailure as failure:
            raise type(failure)(one_line(f"{printable(url)}: {failure}")) from failure
        except TimeoutError as error:
            limit = f"IMAGE_TIMEOUT_SECONDS ({self._limits.timeout_seconds:g})"
            raise TransientFailure(one_line(f"{printable(url)}: not complete within {limit}")) from error

    def _turn(self, url: str) -> AbstractAsyncContextManager[None]:
        host = host_of(url)
        return self._hosts.turn(host) if host else nullcontext()

    async def _read(self, url: str, version: str | None) -> Content:
        if not url:
            raise PermanentFailure("the URL is empty")
        try:
            scheme = urlsplit(url).scheme
        except ValueError as error:
            raise PermanentFailure(f"malformed URL: {error}") from error
        if scheme in HTTP_SCHEMES:
            return await self._web.read(url, version)
        if scheme in OBJECT_STORAGE_SCHEMES:
            return Content(await self._object_storage.read(url))
        if scheme == "data":
            return Content(read_data(url, self._limits.max_bytes))
        if scheme == "file":
            # Not anyio's threads: they would keep the interpreter from exiting if the fetcher was not closed.
            return Content(await asyncio.to_thread(read_file, url, self._limits.file_roots, self._limits.max_bytes))
        raise PermanentFailure(f"a URL of scheme {scheme!r} is not fetched" if scheme else NOT_A_URL)
