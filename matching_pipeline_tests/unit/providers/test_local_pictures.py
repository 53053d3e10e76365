import time
from collections.abc import Callable
from functools import cache
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from matching_pipeline.providers.local.generator import LocalImageGenerator
from matching_pipeline.providers.local.studio.scenes import SCENES
from matching_pipeline.providers.local.studio.subject import find_subject
from matching_pipeline.providers.protocols import GeneratedPicture
from matching_pipeline.sample_data.listings import sample_marketplace

SIDE = 1080
TYPES = list(SCENES)

generator = LocalImageGenerator()


def opened(made: GeneratedPicture) -> Image.Image:
    return Image.open(BytesIO(made.data))


def made(photo: Image.Image, image_type: str = "white_background") -> Image.Image:
    return opened(generator.generate(photo, image_type, ""))


def levels(picture: Image.Image) -> NDArray[np.int64]:
    return np.asarray(picture.convert("RGB"), dtype=np.int64)


@cache
def mug_on_a_table(size: tuple[int, int] = (640, 480)) -> Image.Image:
    """A cup with a handle that one can see through, on a surface with a gradient of light, a little blurred."""
    photo = Image.new("RGB", (640, 480))
    photo.putdata([(200 + x // 32, 190 + x // 32, 170 + y // 16) for y in range(480) for x in range(640)])
    draw = ImageDraw.Draw(photo)
    draw.rounded_rectangle((220, 120, 400, 380), 30, fill="crimson")
    draw.ellipse((370, 170, 490, 320), outline="crimson", width=26)
    return photo.filter(ImageFilter.GaussianBlur(0.8)).resize(size)


@cache
def made_of_the_mug(image_type: str = "white_background") -> GeneratedPicture:
    return generator.generate(mug_on_a_table(), image_type, "a prompt")


@cache
def noise() -> Image.Image:
    blocks = np.random.default_rng(5).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((640, 480), Image.Resampling.NEAREST)


@pytest.mark.parametrize("image_type", TYPES)
def test_every_type_is_a_square_jpeg_of_the_stated_size(image_type: str) -> None:
    result = made_of_the_mug(image_type)
    picture = opened(result)
    assert picture.format == "JPEG"
    assert result.media_type == "image/jpeg"
    assert picture.size == (result.width, result.height) == (SIDE, SIDE)


def test_the_types_of_one_photo_are_six_different_pictures() -> None:
    assert len({made_of_the_mug(image_type).data for image_type in TYPES}) == 6


@pytest.mark.parametrize("image_type", ["lifestyle", "detail_close_up"])
def test_the_same_photo_gives_the_same_bytes_and_is_left_as_it_was(image_type: str) -> None:
    photo = mug_on_a_table().copy()
    assert LocalImageGenerator().generate(photo, image_type, "") == made_of_the_mug(image_type)
    assert photo == mug_on_a_table()


def test_a_type_of_the_users_own_is_the_product_on_white() -> None:
    assert generator.generate(mug_on_a_table(), "on_the_moon", "on the moon") == made_of_the_mug()


@pytest.mark.parametrize("make", [made_of_the_mug, lambda: generator.generate(noise(), "white_background", "")])
def test_a_white_background_is_white_along_every_side(make: Callable[[], GeneratedPicture]) -> None:
    pixels = levels(opened(make()))
    for side in (pixels[:30], pixels[-30:], pixels[:, :30], pixels[:, -30:]):
        assert side.min() == 255


def test_the_old_background_is_gone_through_the_handle_too() -> None:
    pixels = levels(opened(made_of_the_mug()))
    backdrop = (np.abs(pixels - [210, 200, 185]) < 16).all(axis=2)
    assert backdrop.mean() < 0.002


@pytest.mark.parametrize(
    "image_type", ["white_background", "lifestyle", "scale", "packaging_flat_lay", "social_square"]
)
def test_the_product_keeps_its_colour_and_its_proportions(image_type: str) -> None:
    pixels = levels(opened(made_of_the_mug(image_type)))
    product = (np.abs(pixels - [220, 20, 60]) < 30).all(axis=2)
    rows, columns = np.flatnonzero(np.any(product, axis=1)), np.flatnonzero(np.any(product, axis=0))
    assert product.mean() > 0.1
    assert np.ptp(columns) / np.ptp(rows) == pytest.approx((490 - 220) / (380 - 120), rel=0.06)


def test_a_close_up_shows_the_product_and_little_else() -> None:
    pixels = levels(opened(made_of_the_mug("detail_close_up")))
    assert (np.abs(pixels - [220, 20, 60]) < 40).all(axis=2).mean() > 0.6


def test_a_close_up_finds_where_the_detail_is() -> None:
    photo = Image.new("RGB", (600, 600), "white")
    draw = ImageDraw.Draw(photo)
    draw.rectangle((100, 60, 500, 540), fill="navy")
    for x in range(120, 300, 12):
        draw.line((x, 360, x, 520), fill="gold", width=5)
    pixels = levels(made(photo, "detail_close_up"))
    assert ((pixels[..., 0] > 150) & (pixels[..., 2] < 120)).mean() > 0.15


def test_a_photo_full_of_texture_is_shown_whole() -> None:
    subject = find_subject(noise())
    assert not subject.outlined
    assert subject.alpha[5:-5, 30:-30].min() == 1


def test_most_sample_products_are_told_from_their_backdrop() -> None:
    # a quarter of the products, for speed: of all 24, 19 are outlined
    photos = [product.pictures[0].file for product in sample_marketplace().products[2::4]]
    assert sum(find_subject(Image.open(photo)).outlined for photo in photos) >= 0.75 * len(photos)


@pytest.mark.parametrize(
    "photo",
    [
        Image.new("RGB", (640, 480), "teal"),
        Image.new("RGB", (640, 480), "white"),
        Image.new("RGB", (640, 480), "black"),
        Image.new("RGB", (1, 1), "teal"),
        mug_on_a_table(size=(24, 18)),
        mug_on_a_table(size=(64, 48)),
        Image.new("RGB", (3, 2000), "teal"),
        Image.new("RGB", (2000, 3), "teal"),
        mug_on_a_table().convert("L"),
        mug_on_a_table().convert("1"),
        mug_on_a_table().convert("P"),
        mug_on_a_table().convert("CMYK"),
        Image.new("RGBA", (300, 200), (0, 0, 0, 0)),
        noise(),
    ],
    ids=[
        *("one colour", "white", "black", "one pixel", "tiny", "small", "tall", "wide"),
        *("grey", "two colours", "palette", "cmyk", "transparent", "noise"),
    ],
)
def test_any_photo_becomes_a_picture(photo: Image.Image) -> None:
    subject = find_subject(photo)
    for image_type in ("white_background", "detail_close_up", "scale"):
        assert SCENES[image_type](subject).size == (SIDE, SIDE)


def test_what_is_transparent_counts_as_white() -> None:
    photo = Image.new("RGBA", (640, 480), (0, 0, 0, 0))
    ImageDraw.Draw(photo).ellipse((200, 100, 440, 400), fill="darkgreen")
    pixels = levels(made(photo))
    assert pixels[540, 540].tolist() == pytest.approx([0, 100, 0], abs=6)
    assert pixels[:40].min() == 255


def test_a_photo_of_a_megapixel_takes_a_moment() -> None:
    photo = mug_on_a_table(size=(1200, 900))
    started = time.process_time()
    generator.generate(photo, "packaging_flat_lay", "")
    assert time.process_time() - started < 6  # about one on an idle core


def test_a_huge_photo_takes_little_longer() -> None:
    photo = mug_on_a_table(size=(8000, 5000))
    started = time.process_time()
    generator.generate(photo, "white_background", "")
    assert time.process_time() - started < 8
