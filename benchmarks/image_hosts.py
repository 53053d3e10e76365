"""A backfill of pictures from three hosts, one of which allows ten requests a minute: the rate of the others, against
their rate alone."""

import multiprocessing
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.database import fresh_database
from benchmarks.image_queue import insert_products
from matching_pipeline import examples
from matching_pipeline.db.connections import connect
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load

PICTURES = 2000
ALLOWED_A_MINUTE = 10
ROUNDS = 2


def main() -> None:
    print(f"\n## {PICTURES} pictures from three hosts, of which one allows {ALLOWED_A_MINUTE} a minute")
    with tempfile.TemporaryDirectory() as folder:
        draw_pictures(Path(folder))
        ratios = []
        for _ in range(ROUNDS):
            alone, cpu_alone = _others_rate(folder, hosts=2)
            beside, cpu_beside = _others_rate(folder, hosts=3)
            ratios.append(beside / alone)
            print(f"the others alone {alone:.1f} a second, beside it {beside:.1f}: {ratios[-1]:.2f}")
            print(f"processor time a picture of the others: {cpu_alone:.1f} ms alone, beside it {cpu_beside:.1f}")
        print(f"mean ratio: {sum(ratios) / len(ratios):.2f}")


def draw_pictures(folder: Path) -> None:
    """Small ones, so that the rate is more that of fetching than of the analyzer."""
    for number in range(100):
        blots = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(blots).resize((64, 64)).save(folder / f"{number}.jpg")


def _others_rate(folder: str, hosts: int) -> tuple[float, float]:
    """Pictures a second, and the worker's processor time for each in milliseconds."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(folder, there))
    server.start()
    ports = here.recv()
    try:
        with fresh_database() as database_url:
            urls = [f"http://127.0.0.1:{ports[n % 3]}/{n}" for n in range(PICTURES) if n % 3 < hosts]
            with connect(database_url) as connection:
                insert_products(connection, urls)
            settings = Settings(database_url=database_url, image_allow_private_hosts=True)
            began, cpu = time.monotonic(), time.process_time()
            summary = process_due(settings, database_url, load(examples.FOLDER), "image_ai")
            seconds = time.monotonic() - began
            if hosts == 3:
                print(f"in {seconds:.0f} s: {dict(summary.counts)}")
            others = sum(not url.startswith(f"http://127.0.0.1:{ports[2]}/") for url in urls)
            return others / seconds, (time.process_time() - cpu) * 1000 / others
    finally:
        server.terminate()
        server.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Host"

    def do_GET(self) -> None:
        waits = self.server.seconds_to_wait()
        number = int(self.path[1:])
        body = b"" if waits else self.server.files[number % len(self.server.files)] + str(number).encode()
        self.send_response(429 if waits else 200)
        if waits:
            self.send_header("Retry-After", str(waits))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps the output short."""


class _Host(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files: list[bytes], allowed_a_minute: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self._allowed = allowed_a_minute
        self._lock = threading.Lock()
        self._minute, self._asked = 0.0, 0

    def seconds_to_wait(self) -> int:
        """0 where one more is allowed in this minute."""
        with self._lock:
            now = time.monotonic()
            if now - self._minute >= 60:
                self._minute, self._asked = now, 0
            self._asked += 1
            return 0 if self._asked <= self._allowed else int(self._minute + 61 - now)


def _serve(folder: str, pipe: Pipe) -> None:
    files = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    hosts = [_Host(files, allowed) for allowed in (float("inf"), float("inf"), ALLOWED_A_MINUTE)]
    for host in hosts[1:]:
        threading.Thread(target=host.serve_forever, daemon=True).start()
    pipe.send([host.server_port for host in hosts])
    hosts[0].serve_forever()
