"""The chunks of a PNG."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from matching_pipeline.pictures.metadata import Stripped, orientation_of

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
END: Final = b"\0\0\0\0IEND\xaeB`\x82"
MAX_PROFILE: Final = 16 * 2**20


def strip(data: bytes) -> Stripped:
    """Keeps the chunks that make up the first frame. As browsers do, ignores any other chunk with a bad checksum."""
    kept: list[bytes | memoryview] = [SIGNATURE]
    profile, orientation = None, 1
    for name, content, chunk in _chunks(data):
        if name[0] < ord("a") and name != b"IEND":  # a critical chunk
            kept.append(chunk)
        elif chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4])):
            if name == b"tRNS":
                kept.append(chunk)
            elif name == b"iCCP":
                profile = _profile(bytes(content))
            elif name == b"eXIf":
                orientation = orientation_of(bytes(content))
    return Stripped(b"".join([*kept, END]), profile, orientation)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview, memoryview | bytes]]:
    """Name, content and the whole of each chunk. If the file is cut off, the last chunk is shorter than it says."""
    position, view = len(SIGNATURE), memoryview(data)
    while position + 8 < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name = data[position + 4 : position + 8]
        content = view[position + 8 : position + 8 + length]
        end = position + 12 + length
        if end <= len(data):
            yield name, content, view[position:end]
        else:
            named = name + content
            yield name, content, struct.pack(">I", len(content)) + named + struct.pack(">I", zlib.crc32(named))
        if name == b"IEND":
            return
        position = end


def _profile(content: bytes) -> bytes | None:
    _, _, compressed = content.partition(b"\0")
    try:
        return zlib.decompressobj().decompress(compressed[1:], MAX_PROFILE)
    except zlib.error:
        return None


def transparent_colour(data: bytes, transparency: object) -> object:
    """The transparent colour, in as many bits as Pillow gives the pixels.

    Pillow gives the colour in the file's two, four or sixteen bits, and the pixels in eight, except of grey with
    sixteen.
    """
    depth, colours = data[24], data[25]
    if colours == 0 and depth in (2, 4) and isinstance(transparency, int):
        return transparency * 255 // (2**depth - 1)
    if colours == 2 and depth == 16 and isinstance(transparency, tuple):
        return tuple(value >> 8 for value in transparency)
    return transparency
