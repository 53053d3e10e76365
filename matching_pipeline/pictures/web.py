"""Pictures over http and https."""

import zlib
from contextlib import aclosing
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpcore
import httpx

from matching_pipeline.errors import PermanentFailure, TransientFailure
from matching_pipeline.pictures.network import CheckedNetwork
from matching_pipeline.pictures.printable_url import printable
from matching_pipeline.pictures.size_limit import collect, refuse_oversize

HTTP_SCHEMES = frozenset({"http", "https"})
TRANSIENT_STATUSES = frozenset({408, 425, 429})  # those of 500 and over aside
IDLE_CONNECTIONS = 20
IDLE_SECONDS = 5


class Web:
    """Follows redirects itself, so that each one is judged before it is asked; has no time limit itself."""

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
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            raise PermanentFailure(f"malformed URL: {error}") from error
        except (httpx.TransportError, OSError) as error:  # OSError: TLS that breaks later on
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


class _Transport(httpx.AsyncHTTPTransport):
    """httpx's transport with a network of one's own, for which httpx has no parameter."""

    def __init__(self, network: httpcore.AsyncNetworkBackend) -> None:
        # The pool is all that the parent's __init__ sets up.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=httpx.create_ssl_context(),
            max_connections=None,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=network,
        )


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
    """What a server compressed unasked, never larger in memory than the limit."""
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
