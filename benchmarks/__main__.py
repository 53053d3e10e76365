"""`make bench`: the measurements, each on an embedded database of its own.

python -m benchmarks [MEASUREMENT…] [--faces COUNT] [--left COUNT] [--right COUNT]
"""

import argparse
import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import (
    backlog,
    decoding,
    enqueuing,
    faces,
    gallery,
    image_hosts,
    image_queue,
    incremental,
    kernel,
    kills,
    local_analyzer,
    local_embedder,
    machines,
    match_queue,
    posting_queue,
    provider,
    queue_jobs,
    rebuild,
    standing,
)
from benchmarks.database import fresh_database


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument(
        "measurements",
        nargs="*",
        metavar="MEASUREMENT",
        help="queue, backlog, images, matches, kills, kernel, rebuild, machines, incremental, provider, postings, "
        "workers, faces, enqueuing, standing, decoding, hosts, analyzer, embedder, gallery",
    )
    parser.add_argument("--faces", type=int, default=100_000, help="fewer for a quick look")
    parser.add_argument("--left", type=int, default=10_000, help="vectors on the left of the kernel")
    parser.add_argument("--right", type=int, default=100_000, help="vectors on its right")
    parser.add_argument("--projects", type=int, default=2_000, help="to rebuild the matches of")
    parser.add_argument("--products", type=int, default=20_000, help="to match them with")
    parser.add_argument("--rebuilt-faces", type=int, default=20_000, help="to rebuild the matches of")
    parser.add_argument("--rebuilt-schools", type=int, default=10, help="that they are in")
    parser.add_argument(
        "--project-images", type=int, nargs="*", default=[10_000, 100_000], help="that one product is matched with"
    )
    parser.add_argument("--kills", type=int, default=300, help="of two workers")
    parser.add_argument("--minutes", type=float, default=10, help="of light traffic for the standing worker")
    parser.add_argument("--against", type=Path, help="another checkout, measured in the same way")
    parser.add_argument("--avx2", action="store_true", help="take no wider instructions, as an older processor")
    asked = parser.parse_args()
    if asked.avx2:
        kernel.take_avx2_only()
    measurements: dict[str, Callable[[str], None]] = {
        "queue": queue_jobs.main,
        "backlog": backlog.main,
        "images": image_queue.main,
        "matches": match_queue.main,
        "kernel": partial(kernel.main, left_rows=asked.left, right_rows=asked.right),
        "rebuild": partial(
            rebuild.main,
            projects=asked.projects,
            products=asked.products,
            face_count=asked.rebuilt_faces,
            schools=asked.rebuilt_schools,
        ),
        "machines": partial(machines.main, faces=asked.rebuilt_faces, schools=asked.rebuilt_schools),
        "incremental": partial(incremental.main, sizes=sorted(asked.project_images)),
        "kills": partial(kills.main, kills=asked.kills),
        "provider": provider.main,
        "postings": posting_queue.main,
        "workers": partial(posting_queue.main, cases=posting_queue.MORE_WORKERS),
        "faces": partial(faces.main, count=asked.faces),
        "gallery": gallery.main,
    }
    on_databases_of_their_own: dict[str, Callable[[], None]] = {
        "enqueuing": partial(enqueuing.main, against=asked.against, face_count=asked.faces),
        "standing": partial(standing.main, minutes=asked.minutes, against=asked.against),
        "decoding": partial(decoding.main, against=asked.against),
        "hosts": image_hosts.main,
        "analyzer": local_analyzer.main,
        "embedder": local_embedder.main,
    }
    if unknown := set(asked.measurements) - {*measurements, *on_databases_of_their_own}:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    print(
        f"On {os.cpu_count()} cores, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    )
    for name, measure in measurements.items():
        if not asked.measurements or name in asked.measurements:
            with fresh_database() as database_url:
                measure(database_url)
    for name, measure_all in on_databases_of_their_own.items():
        if not asked.measurements or name in asked.measurements:
            measure_all()


if __name__ == "__main__":
    main()
