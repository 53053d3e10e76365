"""The matching kernel next to FAISS and numpy, on the same arrays in the same run; and how it grows."""

import csv
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageEnhance, ImageOps
from threadpoolctl import threadpool_info

from benchmarks.local_analyzer import DEFAULT_PHOTOS, load
from matching_pipeline.matches.kernel import products
from matching_pipeline.matches.kernel.columns import Ids
from matching_pipeline.matches.kernel.images import ImageSet
from matching_pipeline.matches.kernel.policy import Policy
from matching_pipeline.matches.kernel.search import best_pairs
from matching_pipeline.matches.kernel.tally import Tally
from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer

# FAISS brings an OpenBLAS that takes its slowest products on processors newer than itself: it shall take numpy's
_architectures = [each["architecture"] for each in threadpool_info() if each["user_api"] == "blas"]
_known = {"Cooperlake": "SkylakeX", "SapphireRapids": "SkylakeX"}
os.environ.setdefault("OPENBLAS_CORETYPE", _known.get(_architectures[0], _architectures[0]))

faiss: Any
try:
    faiss = import_module("faiss")
except ImportError:
    faiss = None

AVX2 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "FAISS_SIMD_LEVEL": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
"""The environment in which numpy and FAISS take no wider instructions than AVX2."""

Vectors = NDArray[np.float32]
Way = Callable[[Vectors, Vectors], NDArray[np.intp]]

LIMIT = 20
ANY = Policy(threshold=-1.0, limit=LIMIT, attribute_weight=0.0)
DIMENSIONS = 512
CROPS = 5
PHOTOS = Path(os.environ.get("PHOTOS_DIR", DEFAULT_PHOTOS))
PART_ROWS = 50_000


def main(_database_url: str, left_rows: int, right_rows: int) -> None:
    print("\n## The matching kernel")
    print(f"instruction sets: {instruction_sets()}")
    print(f"products: {speeds()}")
    # first, as the system reports only the peak of a process' memory
    growth(left_rows // 5, [right_rows // 10, right_rows, right_rows * 10])
    for spread in (0.3, 0.6, 1.0):
        compare(f"clustered, noise {spread}", clustered(left_rows, 1, spread), clustered(right_rows, 2, spread))
    if (PHOTOS / "labels.csv").is_file():
        photos = descriptors(PHOTOS)
        name = f"mixtures of the local analyzer's vectors of {len(photos)} crops, tints and mirrored copies of photos"
        compare(name, mixed(photos, left_rows, 1), mixed(photos, right_rows, 2))
    else:
        print(f"\nNo labelled photos at {PHOTOS} (PHOTOS_DIR): no vectors of pictures compared")


def take_avx2_only() -> None:
    """Starts the process again. numpy and FAISS read the environment when they are imported."""
    if not AVX2.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **AVX2})
    if products.numkong:
        for name, there in products.numkong.get_capabilities().items():
            if there and name not in ("serial", "haswell"):
                products.numkong.disable_capability(name)


def compare(name: str, left: Vectors, right: Vectors) -> None:
    """The ways take turns, so that other load of the machine slows all of them."""
    ways: dict[str, Way] = {"kernel": by_kernel, "numpy, product and argpartition": by_numpy}
    if faiss is not None:
        ways["FAISS, IndexFlatIP"] = by_faiss
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    found = {}
    for _ in range(3):
        for way, run in ways.items():
            began = time.perf_counter(), time.process_time()
            found[way] = run(left, right)
            taken[way].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    load = os.getloadavg()[0]
    print(f"\n{len(left)} × {len(right)} × {left.shape[1]}, top {LIMIT}, {name}; median of 3, load {load:.1f}\n")
    print("| | seconds | times the kernel's | processor seconds | times the kernel's | lists |")
    print("|---|---|---|---|---|---|")
    medians = {way: [median(each) for each in zip(*times, strict=True)] for way, times in taken.items()}
    for way, times in medians.items():
        alike = "" if way == "kernel" else agreement(found["kernel"], found[way], left, right)
        cells = [f"{each:.2f} | {each / its:.1f}" for each, its in zip(times, medians["kernel"], strict=True)]
        print(f"| {way} | {' | '.join(cells)} | {alike} |")
    print(f"\nthe kernel's pairs: {work(left, right)}")


def work(left: Vectors, right: Vectors) -> str:
    """Which share of the pairs took which bound, and an exact score."""
    tally, pairs = Tally(), len(left) * len(right)
    best_pairs(images(left), [images(right)], ANY, tally)
    bounds = [f"{count / pairs:.1%} bounded by {way}" for way, count in tally.bounded.most_common()]
    scored = f"{tally.near / pairs:.3%} scored in float32", f"{tally.exact / pairs:.3%} in float64"
    return ", ".join([*bounds, f"{tally.finer / pairs:.2%} in crowded tiles", *scored])


def instruction_sets() -> str:
    """Those that the products of numpy, FAISS and NumKong use."""
    blas = {
        f"{each['internal_api']} {each.get('architecture', '')}"
        for each in threadpool_info()
        if each["user_api"] == "blas"
    }
    kong = [name for name, there in products.numkong.get_capabilities().items() if there] if products.numkong else []
    return (
        f"numpy's and FAISS' {', '.join(sorted(blas))}; NumKong's {', '.join(kong) or 'none, as it is not installed'}"
    )


def speeds() -> str:
    costs = products.costs()
    eight = f"{1e-9 / costs.code:.0f} G of 8 bits and " if costs.code else ""
    taken = "8-bit codes" if costs.codes_are_faster else "floats"
    return f"{eight}{1e-9 / costs.float32:.0f} G of floats multiplied a second by one thread, so {taken}"


def agreement(ours: NDArray[np.intp], theirs: NDArray[np.intp], left: Vectors, right: Vectors) -> str:
    """Where sets differ, float64 decides which last pair is better. float32 may exchange nearly equal pairs."""
    unlike = np.flatnonzero((np.sort(ours, axis=1) != np.sort(theirs, axis=1)).any(axis=1))
    if not len(unlike):
        return "the same sets"
    last = [
        np.sort(unit(right[columns[row]].astype(np.float64)) @ left[row].astype(np.float64))[0]
        for row in unlike
        for columns in (ours, theirs)
    ]
    ahead = np.subtract(last[::2], last[1::2])
    return f"{len(unlike)} of {len(ours)} sets differ, the kernel's last is better by {ahead.min():.0e} or more"


def growth(left_rows: int, sizes: list[int]) -> None:
    """The right side comes in parts, as a rebuild streams it."""
    print(f"\nGrowth: {left_rows} × … × {DIMENSIONS}, noise 0.6, in parts of {PART_ROWS}\n")
    print("| right rows | seconds | µs a right row | the process' peak memory, MB |\n|---|---|---|---|")
    left = clustered(left_rows, 1, 0.6)
    for size in sizes:
        making = 0.0

        def parts(size: int = size) -> Iterator[ImageSet]:
            nonlocal making
            for first in range(0, size, PART_ROWS):
                began = time.perf_counter()
                part = images(clustered(min(PART_ROWS, size - first), 2 + first, 0.6), first)
                making += time.perf_counter() - began
                yield part

        began = time.perf_counter()
        best_pairs(images(left), parts(), ANY)
        seconds = time.perf_counter() - began - making
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"| {size} | {seconds:.2f} | {seconds / size * 1e6:.1f} | {peak} |")


def by_kernel(left: Vectors, right: Vectors) -> NDArray[np.intp]:
    pairs = best_pairs(images(left), [images(right)], ANY)
    return numbers_of(pairs.right).reshape(len(left), LIMIT)


def by_faiss(left: Vectors, right: Vectors) -> NDArray[np.intp]:
    index = faiss.IndexFlatIP(left.shape[1])
    index.add(right)
    return np.asarray(index.search(left, LIMIT)[1])


def by_numpy(left: Vectors, right: Vectors) -> NDArray[np.intp]:
    chunks = []
    for begin in range(0, len(left), 500):
        scores = left[begin : begin + 500] @ right.T
        chunks.append(np.argpartition(scores, -LIMIT, axis=1)[:, -LIMIT:])
    return np.concatenate(chunks)


def images(vectors: Vectors, first: int = 0) -> ImageSet:
    """Each vector is the only image of an entity, whose id is its number."""
    ids = ids_of(np.arange(first, first + len(vectors)))
    return ImageSet(ids, np.arange(len(vectors)), ids, vectors, [frozenset()] * len(vectors))


def ids_of(numbers: NDArray[np.intp]) -> Ids:
    words = np.zeros((len(numbers), 2), dtype=">u8")
    words[:, 1] = numbers
    return words.view("S16").reshape(-1)


def numbers_of(ids: Ids) -> NDArray[np.intp]:
    return np.frombuffer(ids.tobytes(), dtype=">u8").reshape(-1, 2)[:, 1].astype(np.intp)


def clustered(count: int, seed: int, noise: float, clusters: int = 1000) -> Vectors:
    """Unit vectors around random centres: noise 0.6 makes cosines of about 0.74 within a cluster, 1.0 of 0.5."""
    centres = np.random.default_rng(0).normal(size=(clusters, DIMENSIONS)).astype(np.float32)
    generator = np.random.default_rng(seed)
    away = generator.standard_normal((count, DIMENSIONS), dtype=np.float32)
    return unit(centres[generator.integers(clusters, size=count)] + np.float32(noise) * away)


def descriptors(photos: Path) -> Vectors:
    """The local analyzer's vectors of labelled photos, each in several crops, tinted, half of them mirrored."""
    generator, analyzer, vectors = np.random.default_rng(4), LocalImageAnalyzer(), []
    with (photos / "labels.csv").open(newline="") as file:
        pictures = [load(photos / row["file"]) for row in csv.DictReader(file)]
    for picture in pictures:
        for number in range(CROPS):
            x, y, size, gain, tint = generator.uniform((0, 0, 0.6, 0.7, 0.6), (0.2, 0.2, 0.8, 1.3, 1.4))
            width, height = picture.size
            cropped = picture.crop((x * width, y * height, (x + size) * width, (y + size) * height))
            copy = ImageEnhance.Color(ImageEnhance.Brightness(cropped).enhance(gain)).enhance(tint)
            vectors.append(analyzer.analyze(ImageOps.mirror(copy) if number % 2 else copy).embedding)
    return np.array(vectors, dtype=np.float32)


def mixed(vectors: Vectors, count: int, seed: int) -> Vectors:
    """`count` of the vectors, each moved a little towards another."""
    generator = np.random.default_rng(seed)
    share = generator.uniform(0, 0.3, (count, 1)).astype(np.float32)
    one, other = (vectors[generator.integers(len(vectors), size=count)] for _ in range(2))
    return unit((1 - share) * one + share * other)


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=vectors.dtype)
