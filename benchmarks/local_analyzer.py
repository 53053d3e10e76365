"""How well the local analyzer tells categories apart, next to a plain HOG descriptor in the same run.

    python benchmarks/local_analyzer.py [PHOTOS_DIR]

PHOTOS_DIR holds pictures and labels.csv (file,category). Each picture queries all the others: precision at 10
is the share of its ten nearest (cosine) that are of its own category.
"""

import csv
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from skimage.feature import hog

from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer

DEFAULT_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"
NEIGHBOURS = 10

Matrix = NDArray[np.float64]


def measure(photos: Path) -> dict[str, Any]:
    """Precision, speed and score distribution; percentiles are those at 5, 50 and 95 percent."""
    with (photos / "labels.csv").open(newline="") as file:
        labelled = [(row["file"], row["category"]) for row in csv.DictReader(file)]
    pictures = [load(photos / name) for name, _ in labelled]
    categories = np.array([category for _, category in labelled])

    analyzer = LocalImageAnalyzer()
    analyzer.analyze(pictures[0])  # the first call also imports scikit-image
    started = perf_counter()
    embeddings = np.stack([analyzer.analyze(picture).embedding for picture in pictures]).astype(float)
    milliseconds = (perf_counter() - started) * 1000 / len(pictures)

    scores = cosines(embeddings)
    precision = precision_at(NEIGHBOURS, scores, categories)
    hog_precision = precision_at(NEIGHBOURS, cosines(np.stack([plain_hog(each) for each in pictures])), categories)
    first, second = np.triu_indices(len(pictures), k=1)
    pairs, alike = scores[first, second], categories[first] == categories[second]
    return {
        "pictures": len(pictures),
        "categories": len(set(categories)),
        "precision": precision,
        "hog_precision": hog_precision,
        "chance": float(alike.mean()),
        "ratio": precision / hog_precision,
        "milliseconds": milliseconds,
        "within": np.percentile(pairs[alike], [5, 50, 95]).tolist(),
        "across": np.percentile(pairs[~alike], [5, 50, 95]).tolist(),
    }


def load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def plain_hog(picture: Image.Image) -> Matrix:
    grey = np.asarray(picture.convert("L").resize((128, 128)))
    return np.asarray(hog(grey, orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2)))


def cosines(vectors: Matrix) -> Matrix:
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(units @ units.T)


def precision_at(count: int, scores: Matrix, categories: NDArray[np.str_]) -> float:
    others = scores.copy()
    np.fill_diagonal(others, -np.inf)
    nearest = np.argsort(-others, axis=1)[:, :count]
    return float((categories[nearest] == categories[:, None]).mean())


def main() -> None:
    photos = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PHOTOS
    if not (photos / "labels.csv").is_file():
        print(f"No labelled photos: {photos / 'labels.csv'} does not exist. Nothing measured.")
        return
    found = measure(photos)
    print(f"pictures             {found['pictures']}")
    print(f"categories           {found['categories']}")
    print(f"P@{NEIGHBOURS} analyzer        {found['precision']:.3f}")
    print(f"P@{NEIGHBOURS} plain HOG       {found['hog_precision']:.3f}")
    print(f"P@{NEIGHBOURS} chance          {found['chance']:.3f}")
    print(f"analyzer / HOG       {found['ratio']:.2f}")
    print(f"ms a picture         {found['milliseconds']:.1f}")
    print("cosine, percentiles      5     50     95")
    for pairs in ("within", "across"):
        print(f"  {pairs} categories  " + "  ".join(f"{value:5.2f}" for value in found[pairs]))


if __name__ == "__main__":
    main()
