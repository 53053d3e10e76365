"""Two workers are killed at random while statements run: is anything lost, wrong, a dead letter or bought twice?"""

import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
from pydantic import SecretStr

from matching_pipeline import examples
from matching_pipeline.db.connections import Connection, connect
from matching_pipeline.db.queries import query
from matching_pipeline.handlers import registry
from matching_pipeline.matches.audit import audit
from matching_pipeline.queues.standing import StandingWorker
from matching_pipeline.settings import Settings
from matching_pipeline.sources.documents import load
from matching_pipeline_tests.fixtures.openai_server import KEY, OpenAIServer, openai_server
from matching_pipeline_tests.fixtures.pictures import picture

WORKERS = 2
LIFE_SECONDS = 1.5
"""A worker lives so long in the mean, besides the time in which it opens its handlers."""
LATENCY_SECONDS = 0.2
"""The provider takes so long for a request."""
STATEMENTS_A_SECOND = 20
DECLARATIONS = load(examples.FOLDER)
QUEUES = [queue for queue, work in DECLARATIONS.queues.items() if work != "generate"]


def main(database_url: str, kills: int) -> None:
    print(f"\n## {WORKERS} workers, killed {kills} times at random while statements run")
    with openai_server(latency=LATENCY_SECONDS) as server, tempfile.TemporaryDirectory(prefix="mp-bench-") as folder:
        server.bodies = deque()
        start = partial(_start, database_url, server.url, folder)
        began = time.monotonic()
        ended = threading.Event()
        app = threading.Thread(target=_run_statements, args=(database_url, _pictures(Path(folder)), ended))
        app.start()
        killers = [threading.Thread(target=_kill, args=(start, kills // WORKERS)) for _ in range(WORKERS)]
        for killer in killers:
            killer.start()
        for killer in killers:
            killer.join()
        ended.set()
        app.join()
        print(f"{kills} kills in {time.monotonic() - began:.0f} s")
        last = start()
        with connect(database_url) as connection:
            began = time.monotonic()
            while not _is_idle(connection):
                time.sleep(0.2)
            print(f"everything was done {time.monotonic() - began:.0f} s after the last kill")
            last.kill()
            last.join()
            _report(connection, server)


def serve(database_url: str, provider_url: str, folder: str) -> None:
    """A worker of all queues, until it is killed."""
    settings = Settings(
        openai_api_key=SecretStr(KEY),
        openai_base_url=provider_url,
        image_model="local",
        image_file_roots=(Path(folder),),
        openai_concurrency=2,
    )
    worker = StandingWorker(
        database_url,
        QUEUES,
        lambda queue: registry.open_handler(settings, database_url, DECLARATIONS, queue),
        version="bench",
        run_id=str(uuid4()),
        helps=True,
    )
    with worker:
        for _ in worker.serve():
            worker.take_work()


def _start(database_url: str, provider_url: str, folder: str) -> "multiprocessing.context.ForkServerProcess":
    context = multiprocessing.get_context("forkserver")
    # its processes need not import again
    context.set_forkserver_preload(["benchmarks.kills"])
    worker = context.Process(target=serve, args=(database_url, provider_url, folder))
    worker.start()
    return worker


def _kill(start: Callable[[], "multiprocessing.context.ForkServerProcess"], kills: int) -> None:
    for _ in range(kills):
        worker = start()
        time.sleep(0.3 + random.expovariate(1 / LIFE_SECONDS))
        worker.kill()
        worker.join()


def _pictures(folder: Path) -> list[str]:
    files = [folder / f"{color}-{size}.png" for color in ("teal", "gold", "plum", "gray") for size in range(24, 44)]
    for file in files:
        color, _, size = file.stem.partition("-")
        file.write_bytes(picture(color, (int(size), 32)))
    return [file.as_uri() for file in files]


def _run_statements(database_url: str, pictures: list[str], ended: threading.Event) -> None:
    """As an app does them, each in a transaction of its own."""
    numbers = np.random.default_rng(0)
    with connect(database_url) as connection:
        run = connection.execute
        run(
            "insert into profiles (school, gender) select 'HUST', gender "
            "from unnest(array['female', 'male']) as gender, generate_series(1, 20)"
        )
        statements: list[Callable[[], object]] = [
            lambda: run(
                "insert into jobs (title, description) select 'Posting ' || gen_random_uuid(), 'for data pipelines' "
                "from generate_series(1, 5)"
            ),
            lambda: run(
                "update jobs set title = 'Edited ' || gen_random_uuid() "
                "where id in (select id from jobs order by random() limit 2)"
            ),
            lambda: run("delete from jobs where id in (select id from jobs order by random() limit 1)"),
            lambda: run(
                "insert into faces (user_id, embedding) select id, %s from profiles order by random() limit 1",
                (numbers.normal(size=512).astype(np.float32) + 1,),
            ),
            lambda: run("delete from faces where id in (select id from faces order by random() limit 1)"),
            lambda: run(
                "update profiles set school = case school when 'HUST' then 'UIT' else 'HUST' end "
                "where id in (select id from profiles order by random() limit 1)"
            ),
            lambda: run(
                "with added as (insert into products default values returning id) "
                "insert into product_images (product_id, src) select id, %s from added",
                (random.choice(pictures),),
            ),
            lambda: run(
                "with added as (insert into listings (type) values ('project') returning id) "
                "insert into listing_images (listing_id, image_url) select id, %s from added",
                (random.choice(pictures),),
            ),
            lambda: run("delete from products where id in (select id from products order by random() limit 1)"),
        ]
        done = 0
        while not ended.wait(random.expovariate(STATEMENTS_A_SECOND)):
            random.choice(statements)()
            done += 1
        print(f"{done} statements")


def _is_idle(connection: Connection) -> bool:
    return not connection.execute(query("unfinished_jobs")).fetchall()


def _report(connection: Connection, server: OpenAIServer) -> None:
    completed, p50, p95, worst = _one(
        connection,
        "select count(*), percentile_cont(array[0.5, 0.95, 1]) "
        "within group (order by extract(epoch from completed_at - created_at)) "
        "from matching_pipeline.jobs where status = 'completed'",
    )
    print(f"{completed} jobs completed, after {p50:.1f} s (p50), {p95:.1f} s (p95), {worst:.0f} s (worst)")
    failed = connection.execute(
        "select queue, error_message, count(*) from matching_pipeline.jobs where status = 'failed' group by 1, 2"
    ).fetchall()
    print(f"dead letters: {failed or 'none'}")
    (most,) = _one(connection, "select coalesce(max(deaths), 0) from matching_pipeline.jobs")
    print(f"the most deaths that a job was charged with: {most}")
    report = audit(connection, DECLARATIONS)
    print(f"faults of what is derived: {[(f.table, f.what, f.rows) for f in report.faults] or 'none'}")
    asked = Counter(text for body in list(server.bodies) if "input" in body for text in body["input"])
    (recorded,) = _one(connection, "select coalesce(sum(items), 0) from matching_pipeline.ai_calls")
    (answers,) = _one(connection, "select count(*) from matching_pipeline.ai_answers")
    print(
        f"texts: {len(asked)}; bought twice though the answer had come: {recorded - answers}; in requests under way "
        f"when their worker was killed: {asked.total() - recorded}"
    )


def _one(connection: Connection, statement: str) -> list[float]:
    ((first, *others),) = connection.execute(statement.encode()).fetchall()
    return [first, *(others[0] if others else [])]
