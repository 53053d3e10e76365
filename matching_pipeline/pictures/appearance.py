"""Names what bytes look like that cannot be decoded as a picture. A person reads that in the failure's message."""

import re

NOT_A_PICTURE = "not an image"
DAMAGED = "a damaged or truncated {} image"
UNSUPPORTED = "{}, a format that is not supported"

START = 1024
# What may come before the first element. Possessive: otherwise many comments take exponential time.
MARKUP = rb"(?:\xef\xbb\xbf|\s|<!--.*?-->|<\?.*?\?>)*+"

APPEARANCES: tuple[tuple[re.Pattern[bytes], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), meaning)
    for pattern, meaning in (
        (rb"\xff\xd8", DAMAGED.format("JPEG")),
        (rb"\x89PNG", DAMAGED.format("PNG")),
        (rb"RIFF.{4}WEBP", DAMAGED.format("WebP")),
        (rb"GIF8", DAMAGED.format("GIF")),
        (rb"BM.{4}\0\0\0\0", DAMAGED.format("BMP")),
        (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", DAMAGED.format("TIFF")),
        (rb".{4}ftypavi[fs]", DAMAGED.format("AVIF")),
        (rb".{4}ftyp(hei|hev|mif1|msf1)", DAMAGED.format("HEIC or AVIF")),
        (rb".{4}ftypcrx ", UNSUPPORTED.format("raw camera picture")),
        (rb".{4}JXL |\xff\x0a", UNSUPPORTED.format("JPEG XL picture")),
        (rb".{4}jP\x20\x20|\xff\x4f\xff\x51", UNSUPPORTED.format("JPEG 2000 picture")),
        (rb"8BPS", UNSUPPORTED.format("PSD drawing of Photoshop")),
        (rb".{4}ftyp", f"MP4 video or sound, {NOT_A_PICTURE}"),
        (rb"\x00\x00\x01\x00", UNSUPPORTED.format("ICO icon")),
        (rb"%PDF-", f"PDF document, {NOT_A_PICTURE}"),
        (rb"PK\x03\x04", f"ZIP archive, {NOT_A_PICTURE}"),
        (
            MARKUP + rb"<(!doctype html|html|head|body|meta|title|script|div|h\d|p)\b",
            f"HTML page, {NOT_A_PICTURE}",
        ),
        (MARKUP + rb"<(!doctype svg|svg)\b", UNSUPPORTED.format("SVG drawing")),
        (rb"\s*<\?xml", f"XML document, {NOT_A_PICTURE}"),
        (rb"\s*[{\[]", f"JSON, {NOT_A_PICTURE}"),
        (rb"[^\x00-\x08\x0e-\x1f]+\Z", f"text, {NOT_A_PICTURE}"),
    )
)


def looks_like(data: bytes) -> str:
    if not data:
        return f"empty, zero bytes, {NOT_A_PICTURE}"
    start = data[:START]
    for pattern, meaning in APPEARANCES:
        if pattern.match(start):
            return meaning
    return f"{NOT_A_PICTURE} of any known format"
