"""Pictures decoded and analysed a second by eight threads, and the memory that this takes.

    python benchmarks/decoding.py FOLDER

measures the pictures of one folder and prints one line: how many, seconds, the peak of the process in MiB, and its
peak before the first picture.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

DEFAULT_PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "photos"
THREADS = 8
WIDTH, HEIGHT = 8064, 6048
"""48 megapixels, as phones have them."""


def main(against: Path | None) -> None:
    photos = Path(os.environ.get("PHOTOS_DIR", DEFAULT_PHOTOS))
    print("\n## Decoding and analysing, eight threads, local analyzer")
    with tempfile.TemporaryDirectory() as folder:
        draw_large_pictures(Path(folder))
        if photos.is_dir():
            _row("photos", photos, against)
        _row("ten of 48 megapixels", Path(folder), against)


def _row(name: str, folder: Path, against: Path | None) -> None:
    for place, checkout in [("here", Path.cwd()), *([("there", against)] if against else [])] * 2:
        answer = subprocess.run(
            [sys.executable, __file__, str(folder)],
            env={"PYTHONPATH": str(checkout)},
            check=True,
            capture_output=True,
            text=True,
        )
        count, seconds, peak, before = map(float, answer.stdout.split())
        print(f"{name}, {place}: {count / seconds:.1f} a second, {before:.0f} MiB before, {peak:.0f} at its peak")


def draw_large_pictures(folder: Path) -> None:
    """JPEGs that are turned by their EXIF data."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for number in range(10):
        blots = np.random.default_rng(number).integers(0, 255, (HEIGHT // 32, WIDTH // 32, 3), dtype=np.uint8)
        picture = Image.fromarray(blots).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        picture.save(folder / f"{number}.jpg", quality=90, exif=exif)


def measure(folder: Path) -> None:
    from matching_pipeline.handlers.images import ANALYSED_SIDE
    from matching_pipeline.pictures.decode import decode
    from matching_pipeline.providers.local.analyzer import LocalImageAnalyzer

    analyzer = LocalImageAnalyzer()
    analyzer.analyze(Image.new("RGB", (64, 64), "teal"))
    files = sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".jpeg", ".png", ".webp"))

    def analyse(file: Path) -> None:
        analyzer.analyze(decode(file.read_bytes(), side=ANALYSED_SIDE))

    before = _peak()
    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(analyse, files))
    seconds = time.monotonic() - began
    print(len(files), seconds, _peak(), before)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
