"""The ids of entities and items, as `key_id` of sql/repeatable/3_sources.sql makes them."""

import hashlib
import re
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def key_id(key: str) -> UUID:
    """A key that is a uuid is its own id. Any other id begins with the key's first eight bytes, and sorts by them."""
    if _UUID.fullmatch(key):
        return UUID(key)
    data = key.encode()
    return UUID(bytes=data[:8].ljust(8, b"\0") + hashlib.sha256(data).digest()[:8])
