"""The segments of a JPEG."""

import random
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from PIL import Image, ImageChops
from PIL.JpegImagePlugin import JpegImageFile

from matching_pipeline.pictures.metadata import Stripped, orientation_of

START: Final = b"\xff\xd8"
END: Final = b"\xff\xd9"
SCAN: Final = 0xDA
WITHOUT_CONTENT: Final = frozenset({0x01, *range(0xD0, 0xD9)})
TABLES: Final = frozenset({*range(0xC0, 0xD0), 0xDB, 0xDD})
"""frames, tables and the restart interval"""
FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
PROFILE: Final = b"ICC_PROFILE\0"
EXIF: Final = b"Exif\0\0"

ENOUGH: Final = 0.9
"""If a JPEG lacks its last bytes, this share of the picture must be there."""
BLOCK_LINES: Final = 2
"""of an eighth of the picture's size, in which most JPEGs come"""
FILLINGS: Final = (b"", random.Random(0).randbytes(1024).replace(b"\xff", b"\x7f"))


@dataclass(frozen=True)
class Segment:
    marker: int
    begin: int
    content: bytes
    end: int


@dataclass(frozen=True)
class Frame:
    """How the pixels are stored."""

    is_progressive: bool
    is_buffered: bool
    """whether a decoder holds all coefficients before it gives the first line"""
    coefficients: float
    """for each pixel"""


def strip(data: bytes) -> tuple[Stripped, Frame]:
    """Keeps what the pixels need. Unlike Pillow, fails at no metadata, however damaged."""
    kept: list[bytes | memoryview] = [START]
    profile, exif, frame = [], b"", Frame(False, False, 3)
    marker, samplings = 0, [(1, 1)]
    rest = len(data)
    for segment in _segments(data):
        content = segment.content
        if segment.marker in FRAMES:
            marker, samplings = segment.marker, [(each >> 4, each & 15) for each in content[7::3]] or samplings
        if segment.marker in TABLES or _tells_colours(segment):
            kept.append(data[segment.begin : segment.end])
        elif segment.marker == 0xE1 and content.startswith(EXIF):
            exif = exif or content
        elif segment.marker == 0xE2 and content.startswith(PROFILE) and len(content) > 14:
            profile.append(content)
        elif segment.marker == SCAN:
            rest = segment.begin
            frame = _frame(marker, samplings, content[0] if content else 0)
    kept.append(memoryview(data)[rest:])
    return Stripped(b"".join(kept), _joined(profile), orientation_of(exif)), frame


def completed(data: bytes, frame: Frame) -> bytes | None:
    """The file with an end, if it lacks only its last bytes. None if it lacks more of the picture."""
    data = data.rstrip(b"\xff")
    is_whole = _has_all_scans(data) if frame.is_progressive else _has_enough(data)
    return data + END if is_whole else None


def _has_all_scans(data: bytes) -> bool:
    """Whether the last scan of a progressive JPEG has begun. What is missing of that scan is not visible."""
    components: set[int] = set()
    exact: set[tuple[int, int]] = set()
    for place in re.finditer(b"\xff\xda", data):
        header = data[place.end() + 2 :]
        named = set(header[1 : 1 + 2 * header[0] : 2])
        first, last, precision = header[1 + 2 * header[0] :][:3]
        components |= named
        if not precision & 15:
            exact |= {(component, band) for component in named for band in range(first, last + 1)}
    return len(exact) == len(components) * 64


def _has_enough(data: bytes) -> bool:
    """Decodes it with two continuations. The pictures differ from the block on at which the file was cut off."""
    decoded = [_decoded(data + filling + END) for filling in FILLINGS]
    difference = ImageChops.difference(*decoded)
    width, height = difference.size
    box = difference.getbbox()
    if box is None:
        return True
    top = box[1]
    (left, *_) = difference.crop((0, top, width, top + 1)).getbbox() or (0,)
    there = top + min(BLOCK_LINES, height - top) * left / width
    return there >= ENOUGH * height


def _decoded(data: bytes) -> Image.Image:
    with JpegImageFile(BytesIO(data)) as picture:
        picture.draft(None, (max(picture.width // 8, 1), max(picture.height // 8, 1)))
        return picture.convert("RGB")


def _segments(data: bytes) -> Iterator[Segment]:
    """The segments up to the start of the first scan. It skips bytes between two segments."""
    position = len(START)
    while (begin := data.find(b"\xff", position)) >= 0:
        position = begin + 1
        while data[position : position + 1] == b"\xff":
            position += 1
        if position + 3 > len(data):
            return
        marker, begin, position = data[position], position - 1, position + 1
        if marker == 0 or marker in WITHOUT_CONTENT:
            continue
        (length,) = struct.unpack_from(">H", data, position)
        end = position + max(length, 2)
        yield Segment(marker, begin, data[position + 2 : end], end)
        if marker == SCAN:
            return
        position = end


def _tells_colours(segment: Segment) -> bool:
    return (segment.marker == 0xE0 and segment.content.startswith(b"JFIF\0") and len(segment.content) >= 14) or (
        segment.marker == 0xEE and segment.content.startswith(b"Adobe") and len(segment.content) >= 12
    )


def _frame(marker: int, samplings: list[tuple[int, int]], components_in_scan: int) -> Frame:
    largest = max(across for across, _ in samplings) * max(down for _, down in samplings)
    return Frame(
        marker in PROGRESSIVE,
        marker in PROGRESSIVE or components_in_scan < len(samplings),
        sum(across * down for across, down in samplings) / max(largest, 1),
    )


def _joined(parts: list[bytes]) -> bytes | None:
    """The profile, whose parts are numbered."""
    parts = sorted(parts, key=lambda part: part[12])
    is_whole = [part[12] for part in parts] == list(range(1, len(parts) + 1))
    return b"".join(part[14:] for part in parts) if parts and is_whole else None
