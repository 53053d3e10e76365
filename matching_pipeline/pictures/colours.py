"""Turns the colours of a picture into those of sRGB, and lays it on white."""

from functools import lru_cache
from io import BytesIO
from typing import Final

from PIL import Image, ImageCms

SRGB: Final = ImageCms.createProfile("sRGB")
MODES: Final = {"GRAY": "L", "RGB": "RGB", "CMYK": "CMYK"}
"""By the colour space of a profile."""
UNSEEN: Final = 2
"""Levels of 255. A profile that changes no colour by more is taken as sRGB."""

Conversion = tuple[str, ImageCms.ImageCmsTransform | None]


def in_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """Converts the picture to sRGB, in mode RGB and without metadata."""
    colours = picture
    alpha = picture.getchannel("A") if picture.mode in ("LA", "RGBA") else None
    if alpha:
        colours = picture.convert("L" if picture.mode == "LA" else "RGB")
    if isinstance(profile, bytes) and (conversion := _conversion(profile)):
        mode, transform = conversion
        if mode == "RGB" and colours.mode == "L":
            colours = colours.convert("RGB")
        if mode == colours.mode and transform:
            colours = transform.apply(colours)
    result = Image.new("RGB", picture.size, "white")
    result.paste(colours.convert("RGB"), mask=alpha)
    return result


@lru_cache(16)
def _conversion(profile: bytes) -> Conversion | None:
    """The mode of pictures that have this profile, and how they become sRGB. None if the profile is damaged."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = MODES[source.profile.xcolor_space.strip()]
        transform = ImageCms.buildTransform(source, SRGB, mode, "RGB", ImageCms.Intent.PERCEPTUAL)
        return mode, transform if mode == "CMYK" or _changes(transform, mode) else None
    except (ImageCms.PyCMSError, KeyError, OSError, ValueError):
        return None


def _changes(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    if mode == "L":
        sample = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        levels = range(0, 256, 15)
        sample = Image.new("RGB", (len(levels) ** 3, 1))
        sample.putdata([(red, green, blue) for red in levels for green in levels for blue in levels])
    before, after = sample.convert("RGB").tobytes(), transform.apply(sample).tobytes()
    return any(abs(one - other) > UNSEEN for one, other in zip(before, after, strict=True))
