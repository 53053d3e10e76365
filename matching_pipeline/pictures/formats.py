"""Finds a picture's format from its first bytes."""

from typing import Final

SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
AVIF: Final = frozenset({b"avif", b"avis"})
HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def format_of(data: bytes) -> str | None:
    """None if it is not one that is decoded."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp":
        size = min(int.from_bytes(data[:4], "big"), 1024)
        brands = {data[place : place + 4] for place in range(8, size, 4)}
        return "AVIF" if brands & AVIF else "HEIC" if brands & HEIC else None
    return next((name for signature, name in SIGNATURES if data.startswith(signature)), None)


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the header. A file without a known header cannot be decoded."""
    kind, header = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:10], "little") + 1
    if kind == b"VP8L":
        packed = int.from_bytes(header[1:5], "little")
        return (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1
    return int.from_bytes(header[6:8], "little") & 0x3FFF, int.from_bytes(header[8:10], "little") & 0x3FFF
