"""The product as scenes take it: pixels with a soft edge, free of the old background."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image, ImageDraw
from threadpoolctl import threadpool_limits

from matching_pipeline.providers.local.studio.arrays import Mask, Values
from matching_pipeline.providers.local.studio.cutout import cut_out
from matching_pipeline.providers.local.studio.matte import soft_edge, without_background

LONGEST: Final = 900  # pixels of the subject's longer side
ANALYSED: Final = 288  # pixels of the photo's longer side, for telling product and background apart
SMALLEST_PHOTO: Final = 48  # pixels of the shorter side, for an outline to mean anything
SLENDEREST_PHOTO: Final = 4.0  # longer by shorter side, likewise
SLENDEREST_PRINT: Final = 1.9  # longer by shorter side of a whole photo; more is cropped
MARGIN: Final = 0.03  # around the product, as a share of its longer side


@dataclass(frozen=True)
class Subject:
    """`alpha` is 1 on the product. `outlined` is False if the product is the whole photo, with its background."""

    colour: Values
    alpha: Values
    outlined: bool
    zoom: float
    """Pixels for one pixel of the photo."""


def find_subject(photo: Image.Image) -> Subject:
    photo = on_white(photo)
    shorter, longer = sorted(photo.size)
    if shorter >= SMALLEST_PHOTO and longer / shorter <= SLENDEREST_PHOTO:
        small = scaled_to(photo, ANALYSED)
        # the vectors are short: several threads of BLAS would mostly wait for each other
        with threadpool_limits(1, user_api="blas"):
            cutout = cut_out(in_lab(small))
        if cutout.trusted:
            return outlined(photo, small, cutout.mask)
    return whole(photo)


def whole(photo: Image.Image) -> Subject:
    """The photo itself, as a print with slightly rounded corners; only the middle of a very long photo."""
    longest = round(min(photo.size) * SLENDEREST_PRINT)
    width, height = min(photo.width, longest), min(photo.height, longest)
    left, top = (photo.width - width) // 2, (photo.height - height) // 2
    picture = scaled_to(photo.crop((left, top, left + width, top + height)), LONGEST)
    corners = Image.new("L", (picture.width * 2, picture.height * 2))
    ImageDraw.Draw(corners).rounded_rectangle((0, 0, corners.width - 1, corners.height - 1), LONGEST // 45, fill=255)
    return Subject(pixels(picture), pixels(corners.reduce(2)), outlined=False, zoom=picture.width / width)


def outlined(photo: Image.Image, small: Image.Image, mask: Mask) -> Subject:
    """The product alone; the mask is of the small copy of the photo."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    longest = max(columns[-1] - columns[0], rows[-1] - rows[0]) + 1
    margin, zoom = MARGIN * longest, LONGEST / longest
    left, right = max(0.0, columns[0] - margin), min(small.width, columns[-1] + 1 + margin)
    top, bottom = max(0.0, rows[0] - margin), min(small.height, rows[-1] + 1 + margin)
    size = round((right - left) * zoom), round((bottom - top) * zoom)
    across, down = photo.width / small.width, photo.height / small.height
    place = (left * across, top * down, min(photo.width, right * across), min(photo.height, bottom * down))
    colour = pixels(photo.resize(size, Image.Resampling.BICUBIC, box=place))
    alpha = soft_edge(colour, small, mask, (left, top, right, bottom))
    colour = without_background(colour, alpha, zoom / across)
    seen = tight(alpha)
    return Subject(colour[seen], alpha[seen], outlined=True, zoom=zoom / across)


def tight(alpha: Values) -> tuple[slice, slice]:
    """The rows and columns with something of the product in them."""
    rows, columns = np.flatnonzero((alpha > 0.02).any(axis=1)), np.flatnonzero((alpha > 0.02).any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def on_white(photo: Image.Image) -> Image.Image:
    """RGB, on white where it is transparent."""
    if not photo.has_transparency_data:
        return photo.convert("RGB")
    white = Image.new("RGBA", photo.size, "white")
    return Image.alpha_composite(white, photo.convert("RGBA")).convert("RGB")


def scaled_to(picture: Image.Image, longest: int) -> Image.Image:
    factor = longest / max(picture.size)
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)


def in_lab(picture: Image.Image) -> Values:
    from skimage.color import rgb2lab

    return np.asarray(rgb2lab(np.asarray(picture)))


def pixels(picture: Image.Image) -> Values:
    return np.asarray(picture, dtype=np.float32) / 255
