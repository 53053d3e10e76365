"""The limit on a picture's size in bytes, the same for every source."""

from collections.abc import AsyncIterable

from matching_pipeline.errors import PermanentFailure


def refuse_oversize(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PermanentFailure(f"larger than IMAGE_MAX_BYTES ({max_bytes})")


async def collect(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    """The chunks as one, given up as soon as there are too many of them."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        refuse_oversize(len(body), max_bytes)
    return bytes(body)
