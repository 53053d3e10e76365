"""What a step of the queue costs with 10,000, 100,000 and 1,000,000 pending jobs."""

import statistics
import time
from collections.abc import Callable
from datetime import timedelta

from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import named_rows
from matching_pipeline.queues import client

QUEUE, BATCH, TIMES = "bench", 100, 50
MILLION = 1_000_000


def main(database_url: str, sizes: tuple[int, ...] = (10_000, 100_000, MILLION)) -> None:
    print(f"\n## Pending jobs: milliseconds at the median of {TIMES}, {BATCH} jobs a batch\n")
    print("| pending | claim | complete | state of the queue | a scrape's count |\n|---|---|---|---|---|")
    there = 0
    with connect(database_url) as connection:
        for size in sizes:
            connection.execute(
                "insert into matching_pipeline.jobs (queue, source, key) "
                "select %s, 'thing', number::text from generate_series(%s::integer + 1, %s) as number",
                (QUEUE, there, size),
            )
            connection.execute("vacuum analyze matching_pipeline.jobs")
            there = size
            print(f"| {size} | {' | '.join(f'{cost:.1f}' for cost in costs(connection))} |", flush=True)


def costs(connection: Connection) -> list[float]:
    claims, completions = [], []
    for _ in range(TIMES):
        began = time.perf_counter()
        jobs = client.claim(connection, QUEUE, BATCH, timedelta(minutes=2))
        claimed = time.perf_counter()
        client.complete(connection, jobs)
        claims.append(claimed - began)
        completions.append(time.perf_counter() - claimed)
    states = [timed(lambda: client.queue_state(connection, QUEUE)) for _ in range(TIMES)]
    counts = [timed(lambda: named_rows(connection, "metrics_of_jobs")) for _ in range(3)]
    return [1000 * statistics.median(each) for each in (claims, completions, states, counts)]


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
