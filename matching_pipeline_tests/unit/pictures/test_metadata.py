"""Metadata neither fail a picture nor change what is derived of it, and nothing of them is handed on."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.decode import decode, thumbnail
from matching_pipeline_tests.unit.pictures.test_decode import ORANGE, WHITE, close_to, drawing, encoded, noise

TURNED_BY_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def with_chunk(png: bytes, name: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """The chunk follows the header."""
    right = zlib.crc32(name + content)
    tail = struct.pack(">I", right if checksum is None else checksum)
    return png[:33] + struct.pack(">I", len(content)) + name + content + tail + png[33:]


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """The segment is the first."""
    return jpeg[:2] + struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content + jpeg[2:]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_xmp_does_not_turn_a_picture(file_format: str) -> None:
    if file_format == "PNG":
        data = with_chunk(encoded(drawing(), "PNG"), b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + TURNED_BY_XMP)
    else:
        data = encoded(drawing(), file_format, xmp=TURNED_BY_XMP)
    assert decode(data).size == (48, 32)


def test_exif_decides_where_xmp_says_otherwise() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    picture = decode(encoded(drawing(), "JPEG", exif=exif, xmp=TURNED_BY_XMP))
    assert picture.size == (48, 32)
    assert picture.getpixel((45, 29)) == close_to((0, 0, 0), 30)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"zTXt", b"comment\0\0" + zlib.compress(bytes(3 * 2**20))),
        (b"tEXt", b"comment\0" + b"x" * (2 * 2**20)),
        (b"iTXt", b"comment\0\1\0\0\0" + zlib.compress(b"x" * (2 * 2**20))),
        (b"tEXt", b"transparency\0yes"),
        (b"tEXt", b"icc_profile\0none"),
        (b"tEXt", b"exif\0none"),
        (b"eXIf", b"MM"),
        (b"iCCP", b"broken\0\0no profile"),
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
        (b"acTL", b"\0\0"),
    ],
)
def test_no_ancillary_chunk_fails_a_png(name: bytes, content: bytes) -> None:
    assert decode(with_chunk(encoded(drawing(), "PNG"), name, content)).getpixel((40, 24)) == ORANGE


@pytest.mark.parametrize("name", [b"tEXt", b"iCCP", b"tRNS", b"eXIf"])
def test_an_ancillary_chunk_with_a_bad_checksum_is_ignored(name: bytes) -> None:
    data = with_chunk(encoded(drawing(), "PNG"), name, b"anything", checksum=1)
    assert decode(data).getpixel((40, 24)) == ORANGE


def test_a_critical_chunk_with_a_bad_checksum_is_refused() -> None:
    data = bytearray(encoded(noise(), "PNG"))
    data[45] ^= 1
    with pytest.raises(PermanentFailure, match="damaged or truncated PNG"):
        decode(bytes(data))


@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF\0"),
        (0xE1, b"Exif\0\0" + b"\xff" * 100),
        (0xE1, b""),
        (0xE2, b"ICC_PROFILE\0\2\1"),
        (0xE2, b"MPF\0" + b"\xff" * 30),
        (0xED, b"Photoshop 3.0\0008BIM"),
        (0xEE, b"Adobe"),
        (0xFE, b"a long comment" * 4000),
    ],
)
def test_no_segment_of_metadata_fails_a_jpeg(marker: int, content: bytes) -> None:
    data = with_segment(encoded(drawing(), "JPEG", quality=95), marker, content)
    assert decode(data).getpixel((40, 24)) == close_to(ORANGE)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("lacking", [1, 2, 3, 10])
def test_a_jpeg_without_its_last_bytes_is_decoded(options: dict[str, Any], lacking: int) -> None:
    data = encoded(noise((64, 64)), "JPEG", **options)
    cut = np.asarray(decode(data[:-lacking]), dtype=int)
    assert np.abs(cut - np.asarray(decode(data), dtype=int)).mean() < 3


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.6])
def test_a_jpeg_that_is_cut_off_in_the_middle_is_refused(options: dict[str, Any], share: float) -> None:
    data = encoded(noise((256, 256)), "JPEG", **options)
    with pytest.raises(PermanentFailure, match="truncated JPEG"):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("lacking", [1, 4, 12, 16])
def test_a_png_without_its_end_is_decoded(lacking: int) -> None:
    assert decode(encoded(drawing(), "PNG")[:-lacking]).getpixel((40, 24)) == ORANGE


def test_a_comment_of_a_gif_reaches_neither_picture_nor_thumbnail() -> None:
    picture = decode(encoded(drawing(), "GIF", comment=b"secret" * 20_000))
    assert picture.info == {}
    assert b"secret" not in thumbnail(picture)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_nothing_of_the_metadata_is_handed_on(file_format: str) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = "secret"
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "secret")
    comments: dict[str, dict[str, Any]] = {"PNG": {"pnginfo": text}, "JPEG": {"comment": b"secret"}}
    options = comments.get(file_format, {})
    picture = decode(encoded(drawing(), file_format, exif=exif, xmp=b"secret", **options))
    again = BytesIO()
    picture.save(again, "PNG")
    assert picture.info == {}
    assert b"secret" not in thumbnail(picture) + again.getvalue()


def grey_png(depth: int, levels: list[int], transparent: int) -> bytes:
    """One line, whose samples have that many bits."""
    bits = "".join(f"{level:0{depth}b}" for level in levels)
    line = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", len(levels), 1, depth, 0, 0, 0, 0)),
        (b"tRNS", struct.pack(">H", transparent)),
        (b"IDAT", zlib.compress(b"\0" + line)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_level_of_grey_is_white_in_any_depth(depth: int) -> None:
    most = 2**depth - 1
    shown = decode(grey_png(depth, [0, most, 0], transparent=0))
    assert [shown.getpixel((x, 0)) for x in range(3)] == [WHITE] * 3
    if depth > 1:
        lightest_but_one = decode(grey_png(depth, [1, most - 1, most], transparent=1))
        assert lightest_but_one.getpixel((0, 0)) == WHITE
        level = (most - 1) * 255 // most
        assert lightest_but_one.getpixel((1, 0)) == close_to((level, level, level), 1)


def test_the_transparent_colour_of_sixteen_bits_is_white() -> None:
    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    pixels = struct.pack(">6H", 0x1234, 0x5678, 0x9ABC, 0xFF00, 0, 0)
    data = bytearray(grey_png(8, [0], 0))
    base = bytes(data[:8])
    for name, content in (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">3H", 0x1234, 0x5678, 0x9ABC)),
        (b"IDAT", zlib.compress(b"\0" + pixels)),
        (b"IEND", b""),
    ):
        base += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    picture = decode(base)
    assert (picture.getpixel((0, 0)), picture.getpixel((1, 0))) == (WHITE, (255, 0, 0))
