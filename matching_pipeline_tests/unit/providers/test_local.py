import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer

analyzer = LocalImageAnalyzer()


def thing_on_a_wall(colour: str, outline: str = "ellipse") -> Image.Image:
    picture = Image.new("RGB", (320, 240), (225, 222, 215))
    drawing = ImageDraw.Draw(picture)
    if outline == "ellipse":
        drawing.ellipse((90, 60, 230, 190), fill=colour)
    else:
        drawing.polygon([(160, 20), (190, 200), (240, 220), (80, 220), (130, 200)], fill=colour)
    return picture


def cosine(first: Image.Image, second: Image.Image) -> float:
    return float(analyzer.analyze(first).embedding @ analyzer.analyze(second).embedding)


def reencoded(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=50)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize("colour", ["black", "white", "red"])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 900), (900, 1), (64, 64), (3000, 2000)])
def test_a_picture_of_one_colour_gets_a_finite_unit_vector(size: tuple[int, int], colour: str) -> None:
    embedding = analyzer.analyze(Image.new("RGB", size, colour)).embedding
    assert embedding.shape == (analyzer.dimensions,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


def test_noise_gets_a_finite_unit_vector() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (97, 131, 3), dtype=np.uint8)
    assert np.linalg.norm(analyzer.analyze(Image.fromarray(pixels)).embedding) == pytest.approx(1, abs=1e-5)


def test_the_same_pixels_give_the_same_vector() -> None:
    picture = thing_on_a_wall("teal")
    assert np.array_equal(analyzer.analyze(picture).embedding, analyzer.analyze(picture.copy()).embedding)


def test_the_picture_handed_in_is_left_as_it_was() -> None:
    picture = thing_on_a_wall("teal")
    analyzer.analyze(picture)
    assert picture == thing_on_a_wall("teal")


@pytest.mark.parametrize(
    "altered",
    [
        reencoded(thing_on_a_wall("teal", "tower")),
        thing_on_a_wall("teal", "tower").resize((192, 144)),
        thing_on_a_wall("teal", "tower").crop((12, 8, 312, 234)),
        ImageEnhance.Brightness(thing_on_a_wall("teal", "tower")).enhance(0.9),
    ],
    ids=["re-encoded", "scaled", "cropped", "darkened"],
)
def test_a_near_identical_picture_scores_high(altered: Image.Image) -> None:
    assert cosine(thing_on_a_wall("teal", "tower"), altered) > 0.85


def test_things_of_other_shape_and_colour_score_low() -> None:
    assert cosine(thing_on_a_wall("teal", "tower"), thing_on_a_wall("red")) < 0.5


def test_colour_tells_things_of_one_shape_apart() -> None:
    assert cosine(thing_on_a_wall("teal"), thing_on_a_wall("red")) < 0.97


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("red", "red"),
        ("green", "green"),
        ("mediumblue", "blue"),
        ("midnightblue", "navy"),
        ("gold", "yellow"),
        ("purple", "purple"),
        ("hotpink", "pink"),
        ("black", "black"),
        ("saddlebrown", "brown"),
        ("darkorange", "orange"),
        ("darkcyan", "teal"),
        ("tan", "beige"),
        ("grey", "grey"),
    ],
)
def test_colors_name_the_thing_and_not_its_plain_background(colour: str, name: str) -> None:
    attributes = analyzer.analyze(thing_on_a_wall(colour)).attributes
    assert attributes["colors"] == [name]
    assert attributes["background"] == "plain"


@pytest.mark.parametrize(
    ("size", "orientation"), [((90, 160), "portrait"), ((160, 90), "landscape"), ((99, 100), "square")]
)
def test_orientation_follows_the_sides(size: tuple[int, int], orientation: str) -> None:
    assert analyzer.analyze(Image.new("RGB", size, "grey")).attributes["orientation"] == orientation


@pytest.mark.parametrize(
    ("colour", "brightness", "saturation"),
    [("#101010", "dark", "muted"), ("#777777", "medium", "muted"), ("#ffff40", "bright", "vivid")],
)
def test_brightness_and_saturation_follow_the_colour(colour: str, brightness: str, saturation: str) -> None:
    attributes = analyzer.analyze(Image.new("RGB", (80, 60), colour)).attributes
    assert (attributes["brightness"], attributes["saturation"]) == (brightness, saturation)


def test_texture_tells_flat_colour_fine_detail_and_large_patches_apart() -> None:
    def checks(pitch: int) -> Image.Image:
        y, x = np.mgrid[:192, :192] // pitch
        return Image.fromarray(((x + y) % 2 * 200).astype(np.uint8)).convert("RGB")

    found = [analyzer.analyze(picture).attributes["texture"] for picture in (checks(192), checks(2), checks(16))]
    assert found == ["smooth", "fine", "coarse"]


def test_a_background_of_many_colours_is_busy() -> None:
    blocks = np.random.default_rng(2).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(blocks).resize((320, 240), Image.Resampling.NEAREST)
    assert analyzer.analyze(picture).attributes["background"] == "busy"


def test_attributes_are_json() -> None:
    attributes = analyzer.analyze(thing_on_a_wall("teal")).attributes
    assert json.loads(json.dumps(attributes)) == attributes
