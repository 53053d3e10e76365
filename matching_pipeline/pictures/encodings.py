"""Decompresses the body of an HTTP response."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import brotli
from backports import zstd

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.size_limit import refuse_oversize

GZIP_BEGIN: Final = b"\x1f\x8b"
ZSTD_WINDOW: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""A larger window is refused; browsers have the same limit."""


def decoded(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Undoes the encodings that the header names, the last one first.

    An encoding that DECODERS does not have is ignored, as browsers do: some object stores send `base64`, `utf-8` or
    `aws-chunked`. Raises PermanentFailure if the body is damaged, truncated, or larger than `max_bytes`.
    """
    for encoding in reversed(content_encoding.lower().split(",")):
        decode = DECODERS.get(encoding.strip())
        if decode is None:
            continue
        try:
            body = decode(body, max_bytes + 1)
        except (zlib.error, brotli.error, zstd.ZstdError) as error:
            raise PermanentFailure(f"damaged {encoding.strip()} content: {error}") from error
        except EOFError as error:
            raise PermanentFailure(f"truncated {encoding.strip()} content") from error
        refuse_oversize(len(body), max_bytes)
    return body


def _members(start: Callable[[], Any], begin: bytes, body: bytes, limit: int) -> bytes:
    """The content of the first member, and of those that follow it and begin with `begin`."""
    content = bytearray()
    while True:
        decompressor = start()
        content += decompressor.decompress(body, limit - len(content))
        if len(content) >= limit:
            return bytes(content)
        if not decompressor.eof:
            raise EOFError
        body = decompressor.unused_data
        if not body or not body.startswith(begin):
            return bytes(content)


# 32: gzip or zlib, as the header says
_zlib_or_gzip = partial(_members, lambda: zlib.decompressobj(zlib.MAX_WBITS | 32), GZIP_BEGIN)
_zstd = partial(_members, lambda: zstd.ZstdDecompressor(options=ZSTD_WINDOW), b"")


def _deflate(body: bytes, limit: int) -> bytes:
    try:
        return _zlib_or_gzip(body, limit)
    except zlib.error:  # some servers leave out zlib's header
        return _members(lambda: zlib.decompressobj(-zlib.MAX_WBITS), GZIP_BEGIN, body, limit)


def _brotli(body: bytes, limit: int) -> bytes:
    decompressor = brotli.Decompressor()
    content = bytearray(decompressor.process(body, output_buffer_limit=limit))
    while len(content) < limit and not decompressor.is_finished():
        more = decompressor.process(b"", output_buffer_limit=limit - len(content))
        if not more:
            raise EOFError
        content += more
    return bytes(content)


DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _zlib_or_gzip,
    "x-gzip": _zlib_or_gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
"""Each takes the body and the most bytes that it returns; it raises EOFError if the body is truncated."""
