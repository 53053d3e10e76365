"""Rows embedded a second by a provider that takes 100 ms, against the ideal and against a request for each row."""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pydantic import SecretStr

from matching_pipeline.db.connections import connect
from matching_pipeline.providers.factory import text_embedder
from matching_pipeline.providers.protocols import TextEmbedder
from matching_pipeline.settings import Settings
from matching_pipeline_tests.fixtures.openai_server import KEY

LATENCY_SECONDS = 0.1
CONCURRENCY = 4
BATCH = 100
ROWS = 10_000
ROWS_ALONE = 50


def main(database_url: str) -> None:
    print(f"\n## A provider that takes {LATENCY_SECONDS * 1000:.0f} ms, {CONCURRENCY} requests at once")
    with stand_in() as (url, _):
        settings = Settings(
            openai_api_key=SecretStr(KEY),
            openai_base_url=url,
            openai_concurrency=CONCURRENCY,
            openai_embedding_dimensions=1536,
        )
        with text_embedder(settings, database_url, "bench") as embedder:
            embedder.embed(["the first request loads the client"])
            one_by_one = rows_a_second(embedder, texts("alone", ROWS_ALONE), batch=1, threads=1)
            batched = rows_a_second(embedder, texts("batch", ROWS), batch=BATCH, threads=embedder.concurrency)
    ideal = BATCH * CONCURRENCY / LATENCY_SECONDS
    with connect(database_url) as connection:
        ((requests, items),) = connection.execute(
            "select count(*), sum(items) from ai_calls where items > 1"
        ).fetchall()
    print(f"rows a second, {BATCH} a request, {CONCURRENCY} at once: {batched:.0f}")
    print(f"of the ideal {ideal:.0f}: {batched / ideal:.2f}")
    print(f"a row a request, one after the other: {one_by_one:.1f}, {batched / one_by_one:.0f} times less")
    print(f"requests a row: {requests / items:.4f}")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def texts(kind: str, count: int) -> list[str]:
    return [f"{kind} posting {number}: senior engineer for data pipelines in a small team" for number in range(count)]


def rows_a_second(embedder: TextEmbedder, rows: Sequence[str], batch: int, threads: int) -> float:
    began = time.monotonic()
    with ThreadPoolExecutor(threads) as executor:
        for answers in executor.map(embedder.embed, [rows[at : at + batch] for at in range(0, len(rows), batch)]):
            assert not [answer for answer in answers if isinstance(answer, Exception)]
    return len(rows) / (time.monotonic() - began)


@contextmanager
def stand_in() -> Iterator[tuple[str, int]]:
    """The URL of the tests' server, in a process of its own, and the process' id. Its answers are prepared."""
    command = [sys.executable, "-m", "matching_pipeline_tests.fixtures.openai_server"]
    command += [f"--latency={LATENCY_SECONDS}", f"--prepared={BATCH}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip(), process.pid
        process.terminate()
