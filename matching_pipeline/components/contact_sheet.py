"""Many pictures as one, small enough for the UI."""

from collections.abc import Sequence
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from matching_pipeline.errors import PermanentFailure
from matching_pipeline.pictures.decode import decode

MAX_BYTES = 105_000  # as a data URI it grows by a third
QUALITIES = (85, 75, 60, 45, 30, 15)
GAP = 8
LABEL = 22


def contact_sheet(pictures: Sequence[tuple[str, bytes]], *, columns: int = 3, side: int = 260) -> bytes:
    """A JPEG of labelled tiles, row by row; a picture that cannot be read leaves its tile empty and says so."""
    rows = -(-len(pictures) // columns)
    width = min(columns, max(1, len(pictures))) * (side + GAP) + GAP
    sheet = Image.new("RGB", (width, max(1, rows) * (side + LABEL + GAP) + GAP), "#f3f4f6")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for number, (label, data) in enumerate(pictures):
        left = GAP + number % columns * (side + GAP)
        top = GAP + number // columns * (side + LABEL + GAP)
        tile = _tile(data, side)
        sheet.paste(tile, (left + (side - tile.width) // 2, top + (side - tile.height) // 2))
        draw.text((left + side / 2, top + side + LABEL / 2), label, fill="#374151", font=font, anchor="mm")
    return _small_jpeg(sheet)


def _tile(data: bytes, side: int) -> Image.Image:
    try:
        tile = decode(data)
    except PermanentFailure as failure:
        tile = Image.new("RGB", (side, side), "white")
        ImageDraw.Draw(tile).text((side / 2, side / 2), str(failure), fill="#b91c1c", anchor="mm")
    tile.thumbnail((side, side))
    return tile


def _small_jpeg(picture: Image.Image) -> bytes:
    """Encodes the picture in the best quality that fits into MAX_BYTES, or a smaller picture if none does."""
    for quality in QUALITIES:
        file = BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() <= MAX_BYTES:
            return file.getvalue()
    return _small_jpeg(picture.resize((max(1, picture.width // 2), max(1, picture.height // 2))))
