"""Each kind of picture becomes sRGB by its profile, as browsers show it."""

from typing import Any

import pytest
from PIL import Image, ImageCms

from matching_pipeline.pictures.decode import decode
from matching_pipeline_tests.fixtures.icc import (
    ADOBE_RGB,
    DISPLAY_P3,
    PROPHOTO,
    SRGB_CURVE,
    cmyk_profile,
    grey_profile,
    rgb_profile,
)
from matching_pipeline_tests.unit.pictures.test_decode import close_to, encoded

PROFILES = {
    "Display P3": rgb_profile(DISPLAY_P3, *SRGB_CURVE),
    "Adobe RGB": rgb_profile(ADOBE_RGB, 2.19921875),
    "ProPhoto": rgb_profile(PROPHOTO, 1.8),
}
INKS = cmyk_profile({(0, 0, 0, 0): (100, 0, 0), (0, 1, 0, 0): (60, 60, 0), (1, 0, 0, 0): (60, -40, -40)})
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BEST: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 100},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 100},
}


@pytest.mark.parametrize(("file_format", "options"), BEST.items())
@pytest.mark.parametrize(
    ("profile", "stored", "seen"),
    [
        ("Display P3", (234, 51, 35), (255, 0, 0)),
        ("Display P3", (117, 251, 76), (0, 255, 0)),
        ("Adobe RGB", (219, 0, 0), (255, 0, 0)),
        ("Adobe RGB", (144, 255, 60), (0, 255, 0)),
        ("ProPhoto", (179, 70, 26), (255, 0, 0)),
        ("ProPhoto", (128, 128, 128), (145, 145, 145)),
    ],
)
def test_a_wide_colour_becomes_the_srgb_colour_that_it_is(
    file_format: str,
    options: dict[str, Any],
    profile: str,
    stored: tuple[int, int, int],
    seen: tuple[int, int, int],
) -> None:
    data = encoded(Image.new("RGB", (16, 16), stored), file_format, icc_profile=PROFILES[profile], **options)
    assert decode(data).getpixel((8, 8)) == close_to(seen, 7)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
@pytest.mark.parametrize(
    ("inks", "seen"),
    [
        ((0, 0, 0, 0), (255, 255, 255)),
        ((0, 255, 0, 0), (236, 92, 147)),
        ((255, 0, 0, 0), (0, 164, 214)),
        ((0, 0, 0, 255), (0, 0, 0)),
    ],
)
def test_inks_become_the_colour_that_the_profile_says(
    file_format: str, inks: tuple[int, int, int, int], seen: tuple[int, int, int]
) -> None:
    data = encoded(Image.new("CMYK", (16, 16), inks), file_format, icc_profile=INKS)
    assert decode(data).getpixel((8, 8)) == close_to(seen)


@pytest.mark.parametrize(
    ("profile", "seen"), [(grey_profile(1.0), 188), (grey_profile(2.2), 128), (SRGB, 128), (INKS, 128)]
)
def test_grey_follows_a_profile_of_grey_or_rgb(profile: bytes, seen: int) -> None:
    data = encoded(Image.new("L", (8, 8), 128), "PNG", icc_profile=profile)
    assert decode(data).getpixel((4, 4)) == close_to((seen, seen, seen), 2)


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_a_palette_and_alpha_follow_the_profile_too(mode: str) -> None:
    picture = Image.new("RGB", (8, 8), (234, 51, 35)).convert(mode, palette=Image.Palette.ADAPTIVE)
    if mode == "RGBA":
        picture.putpixel((0, 0), (0, 0, 0, 0))
    result = decode(encoded(picture, "PNG", icc_profile=PROFILES["Display P3"]))
    assert result.getpixel((4, 4)) == close_to((255, 0, 0), 3)
    assert mode == "P" or result.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("profile", [b"", b"no profile", PROFILES["Adobe RGB"][:200], INKS, grey_profile(1.0)])
def test_a_profile_that_is_damaged_or_of_other_colours_is_ignored(profile: bytes) -> None:
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    assert decode(encoded(picture, "PNG", icc_profile=profile)).getpixel((4, 4)) == (200, 100, 50)


def test_srgb_stays_as_it_is() -> None:
    picture = Image.new("RGB", (8, 8), (200, 100, 50))
    assert decode(encoded(picture, "PNG", icc_profile=SRGB)).getpixel((4, 4)) == (200, 100, 50)
