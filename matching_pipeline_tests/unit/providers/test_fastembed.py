"""The library fastembed runs real models from a folder: MiniLM of a package, and a tiny network of pictures."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from matching_pipeline.errors import ConfigurationError, PermanentFailure
from matching_pipeline.providers.factory import embeds_words, image_analyzer, text_embedder
from matching_pipeline.providers.fastembed import WORDS
from matching_pipeline.providers.local import text
from matching_pipeline.providers.local.onnx_file import Graph
from matching_pipeline.providers.protocols import Divides, EmbedsWords
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.model_folders import MINILM, write_texts

CLIP = "Qdrant/clip-ViT-B-32-vision"


def settings(folder: Path, **choice: str) -> Settings:
    return Settings.model_validate({"fastembed_folder": folder, **choice})


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    write_texts(tmp_path / MINILM, text.WEIGHTS.read())
    return tmp_path


def pictures(folder: Path, dimensions: int) -> None:
    """A network that averages each colour, and mixes the three averages."""
    place = folder / CLIP
    place.mkdir(parents=True)
    graph = Graph({"pixel_values": (1, 3, 224, 224)})
    averages = graph.node("Flatten", graph.node("GlobalAveragePool", "pixel_values"))
    mix = np.random.default_rng(0).standard_normal((3, dimensions)).astype(np.float32)
    (place / "model.onnx").write_bytes(graph.model([graph.node("MatMul", averages, graph.constant(mix))]))
    steps = {
        "image_processor_type": "CLIPImageProcessor",
        **{"do_resize": True, "size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 224},
        **{"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": False, "do_convert_rgb": True},
    }
    (place / "preprocessor_config.json").write_text(json.dumps(steps))


def words(folder: Path, dimensions: int) -> None:
    """Makes waves of the mean number of the tokens, in the place of the model that shares a space with CLIP."""
    graph = Graph({"input_ids": None})
    mean = graph.node("ReduceMean", graph.node("Cast", "input_ids", to=1), axes=[1])
    waves = graph.node("Cos", graph.node("MatMul", mean, graph.constant(np.linspace(0, 1, dimensions)[None])))
    # the input has whole numbers, type 7, in the place of floats
    model = re.sub(
        rb"(input_ids\x12.\x0a.\x08)\x01", lambda found: found[1] + b"\x07", graph.model([waves]), flags=re.DOTALL
    )
    write_texts(folder / WORDS[CLIP], model)


def test_texts_have_the_vectors_of_the_same_model_run_otherwise(texts: Path) -> None:
    sentences = ["Senior Python developer, remote", "A walnut sideboard with brass handles"]
    with text_embedder(settings(texts, text_model=f"fastembed:{MINILM}"), "nowhere", "job_embeddings") as embedder:
        assert (embedder.model, embedder.dimensions) == (f"fastembed:{MINILM}", 384)
        *found, empty = embedder.embed([*sentences, " "])
    assert isinstance(empty, PermanentFailure)
    for one, other in zip(found, text.LocalTextEmbedder().embed(sentences), strict=True):
        assert isinstance(one, np.ndarray)
        assert isinstance(other, np.ndarray)
        assert one @ other == pytest.approx(1, abs=1e-4)


def test_a_picture_has_a_vector_and_the_attributes_of_its_pixels(tmp_path: Path) -> None:
    pictures(tmp_path, 512)
    with image_analyzer(settings(tmp_path, image_model=f"fastembed:{CLIP}"), "nowhere", "image_ai") as analyzer:
        red, pink, blue = (analyzer.analyze(Image.new("RGB", (90, 60), each)) for each in ("red", "#ff4060", "blue"))
    assert red.embedding.shape == (512,)
    assert red.embedding @ pink.embedding > red.embedding @ blue.embedding
    assert red.attributes["orientation"] == "landscape"


def test_words_search_the_pictures_of_a_model_with_a_twin_for_texts(tmp_path: Path) -> None:
    pictures(tmp_path, 512)
    words(tmp_path, 512)
    with image_analyzer(settings(tmp_path, image_model=f"fastembed:{CLIP}"), "nowhere", "image_ai") as analyzer:
        assert isinstance(analyzer, EmbedsWords)
        lamp, chair = analyzer.embed_words("a lamp"), analyzer.embed_words("a red chair")
        with pytest.raises(PermanentFailure, match="the text is empty"):
            analyzer.embed_words(" ")
    assert lamp.shape == analyzer.analyze(Image.new("RGB", (9, 9), "red")).embedding.shape
    assert np.linalg.norm(lamp) == pytest.approx(1)
    assert lamp @ chair < 1 - 1e-6


def test_a_model_says_by_its_name_whether_it_embeds_words() -> None:
    assert all(map(embeds_words, (f"fastembed:{CLIP}", "multimodal:a/b:8", "v/describe-1/e:8@float16")))
    assert not any(map(embeds_words, ("fastembed:Qdrant/resnet50-onnx", "local-visual-2", "local-visual-2@float16")))


def test_a_long_text_is_divided_by_the_tokens_of_the_model(texts: Path) -> None:
    sentence = "A walnut sideboard with brass handles, made in Denmark. "
    with text_embedder(settings(texts, text_model=f"fastembed:{MINILM}"), "nowhere", "job_embeddings") as embedder:
        assert isinstance(embedder, Divides)
        assert embedder.parts(sentence) == [sentence]
        divided = embedder.parts(sentence * 40 + "A lamp.")
        ends = embedder.embed([divided[-1], divided[-1].replace("lamp", "horse")])
    assert [len(part) // len(sentence) for part in divided[:-1]] == [21, 21]
    assert divided[-1].endswith("A lamp.")
    assert isinstance(ends[0], np.ndarray)
    assert isinstance(ends[1], np.ndarray)
    assert ends[0] @ ends[1] < 0.999


def test_weights_of_other_dimensions_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, 8)
    with (
        pytest.raises(ConfigurationError, match=r"IMAGE_MODEL: the weights of .* give 8 dimensions, not 512"),
        image_analyzer(settings(tmp_path, image_model=f"fastembed:{CLIP}"), "nowhere", "image_ai"),
    ):
        pass


@pytest.mark.parametrize(("name", "bytes_left"), [("nobody/nothing", None), (MINILM, 0), (MINILM, 1000)])
def test_a_model_that_cannot_be_loaded_names_the_setting(texts: Path, name: str, bytes_left: int | None) -> None:
    weights = texts / MINILM / "model.onnx"
    weights.write_bytes(weights.read_bytes()[:bytes_left])
    with (
        pytest.raises(ConfigurationError, match=f"TEXT_MODEL: {name} cannot be loaded in "),
        text_embedder(settings(texts, text_model=f"fastembed:{name}"), "nowhere", "job_embeddings"),
    ):
        pass
