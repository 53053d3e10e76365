"""Pictures and tables for the UI: Dagster renders Markdown with images as data URIs."""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO

from PIL import Image, ImageDraw


def picture(data: bytes, name: str = "") -> str:
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"![{name}](data:image/{kind};base64,{base64.b64encode(data).decode()})"


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def histogram(counts: Sequence[int], lowest: float, highest: float) -> bytes:
    """Bars of equal width over [lowest, highest], as PNG, each with its count."""
    width, height, margin = 640, 220, 24
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    step = (width - 2 * margin) / len(counts)
    tallest = max(*counts, 1)
    for number, count in enumerate(counts):
        left, top = margin + number * step, height - margin - (height - 3 * margin) * count / tallest
        draw.rectangle((left + 1, top, left + step - 1, height - margin), fill="#4f46e5")
        draw.text((left + step / 2, top - 12), str(count), fill="#374151", anchor="mt")
        draw.text(
            (left, height - margin + 6),
            f"{lowest + number * (highest - lowest) / len(counts):.2f}",
            fill="#6b7280",
            anchor="mt",
        )
    draw.text((width - margin, height - margin + 6), f"{highest:.2f}", fill="#6b7280", anchor="mt")
    buffer = BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
