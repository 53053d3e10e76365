"""The limit on a picture's size in bytes, the same for web, object storage and files."""

from collections.abc import AsyncIterable

from matching_pipeline.errors import PermanentFailure


def refuse_oversize(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PermanentFailure(f"larger than IMAGE_MAX_BYTES ({max_bytes})")


async def collect(chunks: AsyncIterable[bytes], max_bytes: int) -> bytes:
    """Joins the chunks. Raises PermanentFailure as soon as they exceed the limit."""
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        refuse_oversize(len(body), max_bytes)
    return bytes(body)
