"""Pictures over http and https."""

import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from matching_pipeline.errors import PermanentFailure, TransientFailure
from matching_pipeline.pictures.network import CheckedNetwork
from matching_pipeline.pictures.printable_url import printable
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


class Web:
    """Follows redirects itself, to check each target before the request. It sets no time limit."""

    def __init__(self, *, max_bytes: int, max_redirects: int, allow_private_hosts: bool) -> None:
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._client = httpx.AsyncClient(
            transport=_Transport(CheckedNetwork(allow_private_hosts=allow_private_hosts)),
            headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "matching-pipeline"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=None,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def read(self, url: str) -> bytes:
        try:
            return await self._follow(self._client.build_request("GET", url))
        except MALFORMED_URL as error:
            raise PermanentFailure(f"malformed URL: {error}") from error
        except UNREACHABLE as error:
            raise TransientFailure(str(error) or type(error).__name__) from error

    async def _follow(self, request: httpx.Request) -> bytes:
        for _ in range(self._max_redirects + 1):
            async with aclosing(await self._client.send(request, stream=True)) as response:
                if response.next_request is None:
                    return await self._body(response)
                request = response.next_request
            if request.url.scheme not in HTTP_SCHEMES:
                raise PermanentFailure(f"redirects to {printable(str(request.url))}, which is not followed")
        raise PermanentFailure(f"redirects more often than IMAGE_MAX_REDIRECTS ({self._max_redirects})")

    async def _body(self, response: httpx.Response) -> bytes:
        _refuse_status(response)
        refuse_oversize(int(response.headers.get("Content-Length", 0)), self._max_bytes)
        body = await collect(response.aiter_raw(), self._max_bytes)
        encoding = response.headers.get("Content-Encoding", "").strip().lower()
        return body if encoding in ("", "identity") else _decompress(body, encoding, self._max_bytes)


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


def _refuse_status(response: httpx.Response) -> None:
    if response.is_success:
        return
    status = response.status_code
    reason = f"the server answered {status} {response.reason_phrase}"
    raise TransientFailure(reason) if is_transient(status) else PermanentFailure(reason)


def is_transient(status: int) -> bool:
    """Whether the same request may get a better answer than this later."""
    return status >= 500 or status in TRANSIENT_STATUSES


def _decompress(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Decompresses a body that the server compressed unasked; refuses one of more than `max_bytes`."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise PermanentFailure(f"the server sent content encoding {encoding}, which was not asked for")
    decompressor = zlib.decompressobj(zlib.MAX_WBITS | 32)  # 32: gzip or zlib, by the header
    try:
        content = decompressor.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise PermanentFailure(f"damaged {encoding} content: {error}") from error
    refuse_oversize(len(content), max_bytes)
    if not decompressor.eof:
        raise PermanentFailure(f"truncated {encoding} content")
    return content
