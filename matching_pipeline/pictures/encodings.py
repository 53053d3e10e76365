"""Undoes the compression of an answer's body."""

import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Final

import brotli
import zstandard

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.size_limit import refuse_oversize

MAX_WINDOW: Final = 8 * 2**20
"""of zstd, as browsers have it"""


def decoded(body: bytes, content_encoding: str, max_bytes: int) -> bytes:
    """Undoes each encoding that the header names, the last first, up to `max_bytes`.

    As in browsers, a word that names no encoding means nothing: stores send `base64`, `utf-8`, `aws-chunked`, …
    """
    for encoding in reversed(content_encoding.lower().split(",")):
        decode = DECODERS.get(encoding.strip())
        if decode is None:
            continue
        try:
            body = decode(body, max_bytes + 1)
        except (zlib.error, brotli.error, zstandard.ZstdError) as error:
            raise PermanentFailure(f"damaged {encoding.strip()} content: {error}") from error
        except EOFError as error:
            raise PermanentFailure(f"truncated {encoding.strip()} content") from error
        refuse_oversize(len(body), max_bytes)
    return body


def _gzip(body: bytes, size: int) -> bytes:
    return _inflated(zlib.decompressobj(zlib.MAX_WBITS | 32), body, size)  # 32: gzip or zlib, by the header


def _deflate(body: bytes, size: int) -> bytes:
    try:
        return _gzip(body, size)
    except zlib.error:  # some servers leave out zlib's header
        return _inflated(zlib.decompressobj(-zlib.MAX_WBITS), body, size)


def _inflated(decompressor: "zlib._Decompress", body: bytes, size: int) -> bytes:
    content = decompressor.decompress(body, size)
    if len(content) < size and not decompressor.eof:
        raise EOFError
    return content


def _brotli(body: bytes, size: int) -> bytes:
    decompressor = brotli.Decompressor()
    content = bytearray(decompressor.process(body, output_buffer_limit=size))
    while len(content) < size and not decompressor.is_finished():
        more = decompressor.process(b"", output_buffer_limit=size - len(content))
        if not more:
            raise EOFError
        content += more
    return bytes(content)


def _zstd(body: bytes, size: int) -> bytes:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    with decompressor.stream_reader(BytesIO(body), read_across_frames=True) as reader:
        content = bytearray()
        while len(content) < size and (chunk := reader.read(min(size - len(content), 2**20))):
            content += chunk
    return bytes(content)


DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
