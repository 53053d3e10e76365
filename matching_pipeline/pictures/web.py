"""Pictures over http and https."""

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import NoReturn

import anyio
import httpcore
import httpx

from matching_pipeline.errors import HostBusy, PermanentFailure, TransientFailure
from matching_pipeline.pictures.encodings import decoded
from matching_pipeline.pictures.hosts import Hosts, host_of
from matching_pipeline.pictures.network import CheckedNetwork
from matching_pipeline.pictures.printable_url import one_line, printable
from matching_pipeline.pictures.refusals import MAX_BODY, reason_in
from matching_pipeline.pictures.size_limit import collect, refuse_oversize

HTTP_SCHEMES = frozenset({"http", "https"})
TRANSIENT_STATUSES = frozenset({408, 425, 429})  # beside all from 500 on
MALFORMED_URL = (httpx.InvalidURL, httpcore.UnsupportedProtocol, httpcore.LocalProtocolError)
UNREACHABLE = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpx.RemoteProtocolError,  # a redirect to a malformed URL
    OSError,  # TLS that breaks during the answer
)
IDLE_CONNECTIONS = 20
IDLE_SECONDS = 5
REASON_SECONDS = 2  # for the body of a refusal


@dataclass(frozen=True)
class Content:
    data: bytes | None
    """None if the host says that the known version is the newest"""
    version: str | None = None
    """what the host calls it: an ETag, which has quotes, or a date"""


class Web:
    """Follows redirects itself, to check each target before the request. It sets no time limit."""

    def __init__(
        self, *, max_bytes: int, max_redirects: int, allow_private_hosts: bool, user_agent: str, hosts: Hosts
    ) -> None:
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._hosts = hosts
        self._client = httpx.AsyncClient(
            transport=_Transport(CheckedNetwork(allow_private_hosts=allow_private_hosts)),
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": user_agent},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def read(self, url: str, version: str | None = None) -> Content:
        """Returns no data if the host says that this version is the newest."""
        known = {} if version is None else {"If-None-Match" if '"' in version else "If-Modified-Since": version}
        try:
            return await self._follow(self._client.build_request("GET", url, headers=known), version)
        except MALFORMED_URL as error:
            raise PermanentFailure(f"malformed URL: {error}") from error
        except UNREACHABLE as error:
            raise TransientFailure(str(error) or type(error).__name__) from error

    async def _follow(self, request: httpx.Request, version: str | None) -> Content:
        for _ in range(self._max_redirects + 1):
            async with aclosing(await self._client.send(request, stream=True)) as response:
                if response.next_request is None:
                    if response.status_code == 304 and version is not None:
                        self._hosts.note_answer(host_of(str(request.url)))
                        return Content(None, version)
                    return Content(await self._body(response), _version(response))
                request = response.next_request
            self._hosts.refuse_busy(host_of(str(request.url)))
            if request.url.scheme not in HTTP_SCHEMES:
                raise PermanentFailure(f"redirects to {printable(str(request.url))}, which is not followed")
        raise PermanentFailure(f"redirects more often than IMAGE_MAX_REDIRECTS ({self._max_redirects})")

    async def _body(self, response: httpx.Response) -> bytes:
        host = host_of(str(response.request.url))
        if not response.is_success:
            await self._refuse(response, host)
        self._hosts.note_answer(host)
        refuse_oversize(int(response.headers.get("Content-Length", 0)), self._max_bytes)
        body = await collect(response.aiter_raw(), self._max_bytes)
        return decoded(body, response.headers.get("Content-Encoding", ""), self._max_bytes)

    async def _refuse(self, response: httpx.Response, host: str) -> NoReturn:
        status, retry_after = response.status_code, response.headers.get("Retry-After")
        given = response.headers.get("X-Cld-Error") or await _reason(response)
        reason = f"the server answered {status} {response.reason_phrase}" + (f": {given}" if given else "")
        if status == 429 or (status == 503 and retry_after):
            raise HostBusy(
                one_line(f"{printable(str(response.request.url))}: {reason}"),
                self._hosts.note_refusal(host, retry_after),
            )
        raise TransientFailure(reason) if is_transient(status) else PermanentFailure(reason)


class _Transport(httpx.AsyncBaseTransport):
    """Sends httpx's requests through a network of our own; httpx's own transport has no parameter for one.

    It raises httpcore's errors as they are.
    """

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=network,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        response = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._response.aiter_stream()

    async def aclose(self) -> None:
        await self._response.aclose()


def _version(response: httpx.Response) -> str | None:
    etag: str = response.headers.get("ETag", "")
    # an ETag has quotes and a date has none, so one can tell them apart
    date: str | None = response.headers.get("Last-Modified")
    return etag if etag.endswith('"') else date


async def _reason(response: httpx.Response) -> str:
    body = bytearray()
    with anyio.move_on_after(REASON_SECONDS), suppress(*UNREACHABLE):
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= MAX_BODY:
                break
    return reason_in(bytes(body))


def is_transient(status: int) -> bool:
    """Whether the same request may get a better answer than this later."""
    return status >= 500 or status in TRANSIENT_STATUSES
