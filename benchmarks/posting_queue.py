"""Postings through the whole queue, with reads and writes, against the ideal of the same requests."""

import multiprocessing
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil
from pydantic import SecretStr

from benchmarks.provider import BATCH, LATENCY_SECONDS, stand_in
from matching_pipeline import examples
from matching_pipeline.db.connections import connect
from matching_pipeline.handlers.registry import process_due
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.openai_server import KEY


class Case(NamedTuple):
    workers: int
    concurrency: int
    """requests that each makes at once"""
    postings: int


ONE_WORKER = (Case(1, 1, 10_000), Case(1, 4, 100_000))
MORE_WORKERS = tuple(Case(workers, 1, 5_000 * workers) for workers in (1, 2, 3, 4))


def main(database_url: str, cases: Sequence[Case] = ONE_WORKER) -> None:
    print(
        f"\n## Postings through the queue, {BATCH} a request, a provider that takes {LATENCY_SECONDS * 1000:.0f} ms"
    )
    with stand_in() as (url, server):
        for number, (workers, concurrency, count) in enumerate(cases):
            insert_postings(database_url, number, count)
            before = processor_seconds(database_url, server)
            # each in a process of its own, for its memory too
            with multiprocessing.get_context("spawn").Pool(workers) as pool:
                done = pool.starmap(work_off_postings, [(database_url, url, concurrency)] * workers, chunksize=1)
            after = processor_seconds(database_url, server)
            rows, times, peaks, worker_seconds = zip(*done, strict=True)
            completed, seconds, peak = sum(rows), max(times), max(peaks)
            ideal = BATCH * concurrency * workers / LATENCY_SECONDS
            print(
                f"{completed} rows, {workers} workers of {concurrency} requests at once: "
                f"{completed / seconds:.0f} a second, "
                f"{completed / seconds / ideal:.2f} of the ideal {ideal:.0f}; peak memory {peak:.0f} MiB"
            )
            used = {"workers": sum(worker_seconds), **{name: after[name] - before[name] for name in after}}
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
