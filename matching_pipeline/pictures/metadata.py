"""A picture's file without the metadata that a decoder could stumble over, and what of them counts."""

from dataclasses import dataclass

from PIL import ExifTags, Image


@dataclass(frozen=True)
class Stripped:
    data: bytes
    """what a decoder needs, and nothing else"""
    profile: bytes | None = None
    """the ICC profile of its colours"""
    orientation: int = 1
    """as EXIF numbers it"""


def orientation_of(exif: object) -> int:
    """1, which is upright, if the EXIF data are damaged or do not say."""
    if not isinstance(exif, bytes) or not exif:
        return 1
    try:
        # not by Image.getexif: it asks XMP data too, which browsers ignore
        found = Image.Exif()
        found.load(exif)
        orientation = found.get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1
