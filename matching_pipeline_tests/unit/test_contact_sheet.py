from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.components.contact_sheet import contact_sheet


def jpeg(pixels: Image.Image) -> bytes:
    file = BytesIO()
    pixels.save(file, "JPEG", quality=95)
    return file.getvalue()


def plain(colour: str) -> bytes:
    return jpeg(Image.new("RGB", (400, 300), colour))


def noise(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    return jpeg(Image.fromarray(pixels))


def sheet_of(pictures: list[tuple[str, bytes]]) -> Image.Image:
    return Image.open(BytesIO(contact_sheet(pictures, columns=2, side=100))).convert("RGB")


def test_the_pictures_stand_row_by_row_with_their_labels_below() -> None:
    sheet = sheet_of([("one", plain("red")), ("two", plain("blue")), ("three", plain("green"))])
    pixels = np.asarray(sheet)
    assert [pixels[y, x].argmax() for x, y in ((58, 58), (166, 58), (58, 188))] == [0, 2, 1]
    label = np.asarray(sheet.convert("L"))[110:128, 30:90]
    assert label.min() < 160


def test_a_picture_that_cannot_be_read_leaves_the_others() -> None:
    sheet = sheet_of([("broken", b"no picture"), ("whole", plain("blue"))])
    assert np.asarray(sheet)[58, 166].argmax() == 2


@pytest.mark.parametrize("count", [0, 1, 6, 60])
def test_the_sheet_stays_small_whatever_is_on_it(count: int) -> None:
    data = contact_sheet([(f"picture {number}", noise(number)) for number in range(count)])
    assert len(data) * 4 / 3 < 150_000
    assert min(Image.open(BytesIO(data)).size) > 1
