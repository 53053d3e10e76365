"""How well the local analyzer tells categories apart and finds altered pictures, next to what it consists of.

PHOTOS_DIR holds pictures and labels.csv (file,category). Each picture queries all the others: precision at 10
is the share of its ten nearest (cosine) that are of its own category. An altered picture is found if its original
is the nearest of all.
"""

import csv
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, thread_time

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps
from skimage.feature import hog

from matching_pipeline.providers.local import descriptor
from matching_pipeline.providers.local.analyzer import DESCRIPTION_WEIGHT, LocalImageAnalyzer
from matching_pipeline.providers.local.network import Network

DEFAULT_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"
NEIGHBOURS = 10
DIRECTIONS = (128, 256, 384, 512, 999)

Matrix = NDArray[np.float64]
Pictures = list[Image.Image]


def cropped(picture: Image.Image, number: int) -> Image.Image:
    """70 % of both sides, by turns in a corner and in the middle."""
    width, height = round(0.7 * picture.width), round(0.7 * picture.height)
    across, down = ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5))[number % 5]
    left, top = round(across * (picture.width - width)), round(down * (picture.height - height))
    return picture.crop((left, top, left + width, top + height))


def framed(picture: Image.Image, number: int) -> Image.Image:
    border = picture.width // 4, picture.height // 4
    return ImageOps.expand(picture, border, "grey")


ALTERED: Mapping[str, Callable[[Image.Image, int], Image.Image]] = {
    "cropped": cropped,
    "mirrored": lambda picture, number: ImageOps.mirror(picture),
    "darkened": lambda picture, number: ImageEnhance.Brightness(picture).enhance(0.6),
    "framed": framed,
}


def main() -> None:
    photos = Path(os.environ.get("PHOTOS_DIR", DEFAULT_PHOTOS))
    print("\n## Pictures: the local analyzer")
    if not (photos / "labels.csv").is_file():
        print(f"No labelled photos: PHOTOS_DIR, {photos}, holds no labels.csv. Nothing measured.")
        return
    with (photos / "labels.csv").open(newline="") as file:
        labelled = [(row["file"], row["category"]) for row in csv.DictReader(file)]
    pictures = [load(photos / name) for name, _ in labelled]
    categories = np.array([category for _, category in labelled])
    same = categories[:, None] == categories[None, :]
    chance = (same.sum() - len(same)) / (same.size - len(same))
    print(f"{len(pictures)} photos, {len(set(categories))} categories; precision by chance {chance:.3f}\n")
    sets = {"originals": pictures}
    sets |= {name: [alter(*each[::-1]) for each in enumerate(pictures)] for name, alter in ALTERED.items()}
    print_table(sets, same)


def print_table(sets: Mapping[str, Pictures], same: NDArray[np.bool_]) -> None:
    analyzer, network = LocalImageAnalyzer(), Network(DIRECTIONS[-1])
    vectors: dict[str, dict[str, Matrix]] = {
        "HOG": {name: embedded(plain_hog, pictures) for name, pictures in sets.items()},
        "local-visual-1": {name: embedded(described, pictures) for name, pictures in sets.items()},
        analyzer.model: {name: embedded(analysed(analyzer), pictures) for name, pictures in sets.items()},
    }
    seen = {name: embedded(lambda each: network.see(each).vector, pictures) for name, pictures in sets.items()}
    for count in DIRECTIONS:
        vectors[f"the network alone, {count} directions"] = {
            name: unit(each[:, :count]) for name, each in seen.items()
        }
        vectors[f"with {count} directions"] = {
            name: unit(np.hstack([unit(each[:, :count]), DESCRIPTION_WEIGHT * vectors["local-visual-1"][name]]))
            for name, each in seen.items()
        }
    print("| | dimensions | bytes | P@10 | " + " | ".join(ALTERED) + " | cosine within, 5/50/95 % | across |")
    print("| --- " * (6 + len(ALTERED)) + "|")
    for name, by_set in vectors.items():
        print(row(name, by_set, same))
    print_speed(analyzer, sets["originals"])


def row(name: str, by_set: Mapping[str, Matrix], same: NDArray[np.bool_]) -> str:
    originals = by_set["originals"]
    scores = originals @ originals.T
    upper = np.triu_indices(len(scores), k=1)
    spread = [percentiles(scores[upper][kind]) for kind in (same[upper], ~same[upper])]
    found = [
        f"{(np.argmax(by_set[each] @ originals.T, axis=1) == np.arange(len(same))).mean():.3f}" for each in ALTERED
    ]
    count = originals.shape[1]
    cells = [name, f"{count:,}", f"{4 * count + 8:,}", f"{precision(scores, same):.3f}", *found, *spread]
    return f"| {' | '.join(cells)} |"


def print_speed(analyzer: LocalImageAnalyzer, pictures: Pictures) -> None:
    for name, analyse in (("local-visual-1", described), (analyzer.model, analysed(analyzer))):
        began, busy = perf_counter(), thread_time()
        embedded(analyse, pictures)
        busy, took = thread_time() - busy, perf_counter() - began
        each = 1000 * busy / len(pictures)
        print(f"{name}: {each:.1f} ms of processor time a picture, {len(pictures) / took:.0f} pictures a second")


def analysed(analyzer: LocalImageAnalyzer) -> Callable[[Image.Image], NDArray[np.float32]]:
    return lambda picture: analyzer.analyze(picture).embedding


def described(picture: Image.Image) -> Matrix:
    """The only part of the former model `local-visual-1`."""
    return descriptor.described(picture).vector


def plain_hog(picture: Image.Image) -> Matrix:
    grey = np.asarray(picture.convert("L").resize((128, 128)))
    return np.asarray(hog(grey, orientations=9, pixels_per_cell=(16, 16), cells_per_block=(2, 2)))


def load(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return ImageOps.exif_transpose(picture).convert("RGB")


def embedded(vector: Callable[[Image.Image], NDArray[np.floating]], pictures: Pictures) -> Matrix:
    return unit(np.stack([vector(picture) for picture in pictures]).astype(np.float64))


def unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def precision(scores: Matrix, same: NDArray[np.bool_]) -> float:
    others = scores - 9 * np.eye(len(scores))
    nearest = np.argsort(-others, axis=1)[:, :NEIGHBOURS]
    return float(np.take_along_axis(same, nearest, axis=1).mean())


def percentiles(scores: Matrix) -> str:
    return "/".join(f"{value:.2f}" for value in np.percentile(scores, [5, 50, 95]))
