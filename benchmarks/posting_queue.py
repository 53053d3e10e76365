"""Postings through the whole queue, with reads and writes, against the ideal of the same requests."""

import multiprocessing
import resource
import time
from contextlib import suppress
from pathlib import Path

import psutil
from pydantic import SecretStr

from benchmarks.provider import BATCH, LATENCY_SECONDS, stand_in
from matching_pipeline import examples
from matching_pipeline.db.connections import connect
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.openai_server import KEY

POSTINGS = {1: 10_000, 4: 100_000}
"""By the number of requests at once."""


def main(database_url: str) -> None:
    print(
        f"\n## Postings through the queue, {BATCH} a request, a provider that takes {LATENCY_SECONDS * 1000:.0f} ms"
    )
    with stand_in() as (url, server):
        for concurrency, count in POSTINGS.items():
            insert_postings(database_url, concurrency, count)
            before = processor_seconds(database_url, server)
            # a process of its own, for its memory
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                completed, seconds, peak, worker = pool.apply(work_off_postings, (database_url, url, concurrency))
            after = processor_seconds(database_url, server)
            ideal = BATCH * concurrency / LATENCY_SECONDS
            print(
                f"{completed} rows, {concurrency} requests at once: {completed / seconds:.0f} a second, "
                f"{completed / seconds / ideal:.2f} of the ideal {ideal:.0f}; peak memory {peak:.0f} MiB"
            )
            used = {"worker": worker, **{name: after[name] - before[name] for name in after}}
            each = ", ".join(f"{name} {1000 * spent / completed:.3f}" for name, spent in used.items())
            cores = sum(used.values()) / completed * ideal
            print(f"  processor, milliseconds a row: {each}; the ideal rate would fill {cores:.1f} cores like this")
    with connect(database_url) as connection:
        ((requests, items, cost),) = connection.execute(
            "select count(*), sum(items), sum(cost_usd) from matching_pipeline.ai_calls"
        ).fetchall()
    print(f"requests a row: {requests / items:.4f}; cost of a thousand rows: {1000 * cost / items:.6f} USD")


def processor_seconds(database_url: str, stand_in: int) -> dict[str, float]:
    """The processor time of Postgres with its sessions, also ended ones, and of the stand-in's process."""
    with connect(database_url) as connection:
        ((folder,),) = connection.execute("show data_directory").fetchall()
    postmaster = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    return {
        "Postgres": sum(map(_seconds, [postmaster, *postmaster.children(recursive=True)])),
        "stand-in": _seconds(psutil.Process(stand_in)),
    }


def _seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return float(sum(process.cpu_times()[:4]))
    return 0.0


def insert_postings(database_url: str, label: int, count: int) -> None:
    with connect(database_url) as connection:
        connection.execute(
            "insert into jobs (title, description) "
            "select format('Posting %%s of %%s', number, %s::integer), 'senior engineer for data pipelines' "
            "from generate_series(1, %s) as number",
            (label, count),
        )


def work_off_postings(database_url: str, provider_url: str, concurrency: int) -> tuple[int, float, float, float]:
    """Rows completed, seconds, peak memory in MiB, seconds of processor."""
    settings = Settings(openai_api_key=SecretStr(KEY), openai_base_url=provider_url, openai_concurrency=concurrency)
    began = time.monotonic()
    summary = process_due(settings, database_url, load(examples.FOLDER), "job_embeddings")
    seconds, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF)
    return summary.completed, seconds, used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
