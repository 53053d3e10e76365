"""Apps that change rows while workers do jobs."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

from matching_pipeline.db.connections import Connection, connect


def change_while_workers_run(
    database_url: str, seed: int, change: Callable[[Connection, random.Random], None], work: Callable[[], object]
) -> None:
    """Three apps call `change` with a session of their own; two workers call `work` until the apps have ended."""
    stop = Event()

    def app(number: int) -> None:
        choose = random.Random(f"{seed} {number}")
        with connect(database_url) as session:
            for _ in range(100):
                change(session, choose)

    def serve() -> None:
        while not stop.is_set():
            work()

    with ThreadPoolExecutor(5) as threads:
        workers = [threads.submit(serve) for _ in range(2)]
        apps = [threads.submit(app, number) for number in range(3)]
        try:
            for each in apps:
                each.result()
        finally:
            stop.set()
        for each in workers:
            each.result()
