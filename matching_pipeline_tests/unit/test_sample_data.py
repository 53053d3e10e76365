from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.providers.local.text import LocalTextEmbedder
from matching_pipeline.sample_data import SampleData, SampleEntity, draw_sample_data
from matching_pipeline.sample_data.postings import POSTINGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("samples")


@pytest.fixture(scope="module")
def sample(folder: Path) -> SampleData:
    return draw_sample_data(folder)


def embeddings(entity: SampleEntity) -> NDArray[np.float32]:
    analyzer = LocalImageAnalyzer()
    return np.stack([analyzer.analyze(Image.open(path).convert("RGB")).embedding for _, path in entity.pictures])


def test_every_project_matches_its_intended_product_best(sample: SampleData) -> None:
    products = {product.id: embeddings(product) for product in sample.products}
    for project in sample.projects:
        own = embeddings(project)
        scores = {product: float((own @ theirs.T).max()) for product, theirs in products.items()}
        best = max(scores, key=lambda product: scores[product])
        assert best == sample.expected[project.id], project.name
        assert scores[best] >= 0.5, project.name


def test_a_second_run_keeps_the_pictures_and_says_the_same(folder: Path, sample: SampleData) -> None:
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert draw_sample_data(folder) == sample
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_another_folder_gets_the_same_ids_and_the_same_bytes(tmp_path: Path, sample: SampleData) -> None:
    again = draw_sample_data(tmp_path)
    for before, after in zip(sample.projects + sample.products, again.projects + again.products, strict=True):
        assert before.id == after.id
        for (before_id, before_path), (after_id, after_path) in zip(before.pictures, after.pictures, strict=True):
            assert before_id == after_id
            assert before_path.read_bytes() == after_path.read_bytes()


def test_the_folder_holds_exactly_the_pictures_described(folder: Path, sample: SampleData) -> None:
    described = [path for entity in sample.projects + sample.products for _, path in entity.pictures]
    assert sorted(described) == sorted(folder.iterdir())
    assert all(Image.open(path).format == "JPEG" for path in described)


def test_ids_are_distinct(sample: SampleData) -> None:
    entities = sample.projects + sample.products
    ids = [entity.id for entity in entities] + [picture for entity in entities for picture, _ in entity.pictures]
    assert len(ids) == len(set(ids))


def test_the_posting_nearest_to_another_is_of_the_same_trade() -> None:
    texts = [f"{posting.title}\n\n{posting.company}\n\n{posting.description}" for posting in POSTINGS]
    vectors = np.array(LocalTextEmbedder().embed(texts))
    scores = vectors @ vectors.T - 2 * np.eye(len(texts))
    trade = np.arange(len(texts)) // 4
    assert (trade[scores.argmax(axis=1)] == trade).all()
