"""The library fastembed runs real models from a folder: MiniLM of a package, and a tiny network of pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tokenizers import BertWordPieceTokenizer

from matching_pipeline.errors import ConfigurationError, PermanentFailure
from matching_pipeline.providers.factory import image_analyzer, text_embedder
from matching_pipeline.providers.local import text
from matching_pipeline.providers.local.onnx_file import Graph
from matching_pipeline.settings import Settings

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CLIP = "Qdrant/clip-ViT-B-32-vision"


def settings(folder: Path, **choice: str) -> Settings:
    return Settings.model_validate({"fastembed_folder": folder, **choice})


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / MINILM
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(text.WEIGHTS.read())
    words = text.VOCABULARY.read().decode().splitlines()
    BertWordPieceTokenizer({word: number for number, word in enumerate(words)}).save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"pad_token_id": 0}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 256, "pad_token": "[PAD]"}))
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
