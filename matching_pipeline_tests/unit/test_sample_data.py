from pathlib import Path
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer
from matching_pipeline.providers.local.text import LocalTextEmbedder
from matching_pipeline.sample_data.listings import SampleListing, sample_marketplace
from matching_pipeline.sample_data.postings import POSTINGS
from matching_pipeline.settings import SAMPLE_PICTURES
from tools.draw_sample_pictures import main as draw_sample_pictures


def embeddings(listing: SampleListing) -> NDArray[np.float32]:
    analyzer = LocalImageAnalyzer()
    return np.stack(
        [analyzer.analyze(Image.open(picture.file).convert("RGB")).embedding for picture in listing.pictures]
    )


def test_every_project_matches_its_intended_product_best() -> None:
    market = sample_marketplace()
    products = {product.id: embeddings(product) for product in market.products}
    for project in market.projects:
        own = embeddings(project)
        scores = {product: float((own @ theirs.T).max()) for product, theirs in products.items()}
        best = max(scores, key=lambda product: scores[product])
        assert best == market.expected[project.id], project.name
        assert scores[best] >= 0.5, project.name


def test_the_ids_stay_the_same() -> None:
    assert sample_marketplace() == sample_marketplace()
    assert sample_marketplace().projects[0].id == UUID("4a9a524f-9f9c-519f-9401-e555b221e863")


def test_the_folder_holds_exactly_the_pictures_described() -> None:
    market = sample_marketplace()
    described = [picture.file for listing in (*market.projects, *market.products) for picture in listing.pictures]
    assert sorted(described) == sorted(SAMPLE_PICTURES.iterdir())
    assert all(Image.open(path).format == "JPEG" for path in described)
    assert sum(path.stat().st_size for path in described) < 2**20


def test_drawing_again_gives_the_pictures_of_the_package(tmp_path: Path) -> None:
    """Nearly, since another platform's arithmetic or JPEG library may round otherwise."""
    draw_sample_pictures(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SAMPLE_PICTURES.iterdir()}
    for drawn in tmp_path.iterdir():
        difference = np.abs(pixels(drawn) - pixels(SAMPLE_PICTURES / drawn.name))
        assert difference.mean() < 0.5, drawn.name
        assert difference.max() < 32, drawn.name


def pixels(file: Path) -> NDArray[np.int16]:
    return np.asarray(Image.open(file), dtype=np.int16)


def test_ids_are_distinct() -> None:
    market = sample_marketplace()
    listings = (*market.projects, *market.products)
    ids = [listing.id for listing in listings] + [picture.id for listing in listings for picture in listing.pictures]
    assert len(ids) == len(set(ids))


def test_the_posting_nearest_to_another_is_of_the_same_trade() -> None:
    texts = [f"{posting.title}\n\n{posting.company}\n\n{posting.description}" for posting in POSTINGS]
    vectors = np.array(LocalTextEmbedder().embed(texts))
    scores = vectors @ vectors.T - 2 * np.eye(len(texts))
    trade = np.arange(len(texts)) // 4
    assert (trade[scores.argmax(axis=1)] == trade).all()
