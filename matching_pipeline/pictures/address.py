"""Turns what an app stores for a picture into the URL to fetch: a URL, a storage path, a data URI."""

import base64
import binascii
import re
import unicodedata
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.size_limit import refuse_oversize

ABSOLUTE: Final = re.compile(r"[a-z][a-z0-9+.-]*://|data:|file:", re.IGNORECASE)
LINE_ENDS: Final = re.compile(r"[\t\r\n]")
DATA: Final = re.compile(r"data:(?P<type>[^,]*),", re.IGNORECASE)


def address(stored: str, base_url: str | None) -> str:
    """The URL without invisible characters around it; a path follows `base_url`, as in the SQL function
    `absolute_url`."""
    url = LINE_ENDS.sub("", stored)
    begin, end = 0, len(url)
    while begin < end and _is_invisible(url[begin]):
        begin += 1
    while begin < end and _is_invisible(url[end - 1]):
        end -= 1
    url = url[begin:end]
    if ABSOLUTE.match(url) or not url:
        return url
    if url.startswith("//"):
        scheme = urlsplit(base_url or "").scheme
        return f"{scheme if scheme in ('http', 'https') else 'https'}:{url}"
    if base_url is None:
        return url
    path = url.lstrip("/")
    if base_url.lower().startswith("http"):
        path = path.replace("#", "%23")  # of a file's name
    return f"{base_url.rstrip('/')}/{path}"


def read_data(uri: str, max_bytes: int) -> bytes:
    """The content of a data URI, decoded as browsers do."""
    head = DATA.match(uri)
    if head is None:
        raise PermanentFailure("malformed data URI: it has no comma")
    refuse_oversize(len(uri) // 4, max_bytes)  # before it is copied; %-encoding takes up to three times the bytes
    content = unquote_to_bytes(uri[head.end() :])
    if head["type"].rstrip().lower().endswith(";base64"):
        packed = b"".join(content.split()).rstrip(b"=")
        try:
            content = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except binascii.Error as error:
            raise PermanentFailure(f"malformed data URI: {error}") from error
    refuse_oversize(len(content), max_bytes)
    return content


def _is_invisible(character: str) -> bool:
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")
