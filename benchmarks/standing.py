"""`dev` as a whole: how long a row waits at any moment, in a burst, in a hand-over, after a kill; memory, processor.

It runs the checkout that it is in, and after it, with `--against`, another checkout in the same way.
"""

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
from PIL import Image

from matching_pipeline.db.embedded import start_embedded

ROOT = Path(__file__).resolve().parents[1]
BURST = 1500
EACH = 40
"""Faces, and images, at random moments."""


@dataclass
class Machine:
    """`dev` with sample rows, idle, on an embedded database."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    connection: psycopg.Connection
    number: int = 0

    def all(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        return self.connection.execute(statement.encode(), parameters).fetchall()

    def tree(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if Path(process.cwd()) == self.folder and process.name() != "postgres":
                    found.append(process)
        return found

    def postgres(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                parents = [process, *process.parents()]
                if any(str(self.folder / ".data/postgres") in " ".join(each.cmdline()) for each in parents):
                    found.append(process)
        return found

    def face(self) -> Callable[[], bool]:
        """Inserts one; returns whether its matches are there."""
        ((face,),) = self.all(
            "insert into faces (user_id, embedding) select user_id, embedding from faces order by random() limit 1 "
            "returning id"
        )
        return lambda: bool(self.all("select from matches where %s in (face_a_id, face_b_id) limit 1", face))

    def image(self) -> Callable[[], bool]:
        product = self.product(self.picture())
        return lambda: bool(self.all("select from matches where product_id = %s limit 1", product))

    def product(self, picture: Path) -> UUID:
        with self.connection.transaction():
            ((product,),) = self.all("insert into products default values returning id")
            self.execute("insert into product_images (product_id, src) values (%s, %s)", product, picture.as_uri())
        assert isinstance(product, UUID)
        return product

    def execute(self, statement: str, *parameters: object) -> None:
        self.connection.execute(statement.encode(), parameters)

    def picture(self) -> Path:
        """Like a sample project's, in a size that no other has."""
        self.number += 1
        urls = self.all("select image_url from listing_images where image_url like 'file:///%%sample%%' order by id")
        (url,) = urls[self.number % len(urls)]
        file = self.folder / f"bench-{self.number}.png"
        with Image.open(str(url).removeprefix("file://")) as picture:
            picture.convert("RGB").resize((200 + self.number % 40, 200 + self.number // 40)).save(file)
        return file

    def until_idle(self) -> None:
        while self.all("select from job_queue where status in ('pending', 'processing') limit 1"):
            time.sleep(0.2)


@contextmanager
def running(checkout: Path) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="mp-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        server = start_embedded(folder / ".data" / "postgres")
        environment = {**os.environ, "PYTHONPATH": str(checkout), "IMAGE_FILE_ROOTS": name}
        command = [sys.executable, "-c", f"from {_main(checkout)} import main; main()", "dev", "--sample-data"]
        process = subprocess.Popen(
            [*command, "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            # in this checkout the table of workers has a schema of its own
            connection = psycopg.connect(
                server.get_uri(), autocommit=True, options="-c search_path=public,matching_pipeline"
            )
            machine = Machine(folder, process, connection)
            while not _filled(machine):
                time.sleep(0.5)
            machine.until_idle()
            yield machine
        finally:
            process.send_signal(2)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            for left in machine.tree():
                with suppress(psutil.Error):
                    left.kill()
            server.cleanup()


def main(minutes: float, against: Path | None) -> None:
    for checkout in [ROOT, *([against] if against else [])]:
        with running(checkout) as machine:
            print(f"\n## `dev` of {'this checkout' if checkout == ROOT else 'the other checkout'}, load {_load()}")
            _measure(machine, minutes, standing=checkout == ROOT)


def _measure(machine: Machine, minutes: float, *, standing: bool) -> None:
    round_trip = statistics.median(_round_trips(machine))
    print(f"NOTIFY round trip: p50 {1000 * round_trip:.1f} ms")
    time.sleep(5)
    print(f"idle for a minute: {_idle(machine):.0f} % of one core, of it Postgres {_idle_postgres(machine):.0f} %")
    before = _runs(machine)
    faces, images = _light_traffic(machine, minutes)
    for what, waits in (("faces", faces), ("images", images)):
        print(
            f"{what} at {len(waits)} random moments of {minutes:.0f} minutes: {_spread(waits)}, "
            f"p95 is {_p95(waits) / round_trip:.0f} round trips; load {_load()}"
        )
    print(f"runs started meanwhile: {_runs(machine) - before}")
    print(
        f"memory: the largest run {_largest_run(machine):.0f} MB, everything with Postgres {_memory(machine):.0f} MB"
    )
    print(f"a face a second while {BURST} images arrive at once: {_spread(_burst(machine))}")
    machine.until_idle()
    if standing:
        print(f"a face every 0.1 s in a hand-over: {_spread(_hand_over(machine))}")
        print(f"a face every 0.3 s after SIGKILL of the run: {_spread(_after_a_kill(machine))}")
        print(f"rows of events so far: {machine.all('select count(*) from dagster.event_logs')[0][0]}")


def _wait(seen: Callable[[], bool]) -> float:
    began = time.monotonic()
    while not seen():
        time.sleep(0.003)
    return time.monotonic() - began


def _light_traffic(machine: Machine, minutes: float) -> tuple[list[float], list[float]]:
    moments = sorted((random.uniform(0, 60 * minutes), what) for what in ("face", "image") for _ in range(EACH))
    began = time.monotonic()
    waits: dict[str, list[float]] = {"face": [], "image": []}
    for moment, what in moments:
        time.sleep(max(0.0, began + moment - time.monotonic()))
        waits[what].append(_wait(machine.face() if what == "face" else machine.image()))
    return waits["face"], waits["image"]


def _burst(machine: Machine) -> list[float]:
    files = [machine.picture() for _ in range(BURST)]
    for file in files:
        machine.product(file)
    waits = []
    for _ in range(EACH):
        waits.append(_wait(machine.face()))
        time.sleep(max(0.0, 1 - waits[-1]))
    return waits


def _hand_over(machine: Machine) -> list[float]:
    """From before the successor is asked for until the old worker has left."""
    ((old,),) = machine.all("update workers set version = 'old' where not helps returning id")
    waits = []
    while machine.all("select from workers where id = %s", old):
        waits.append(_wait(machine.face()))
        time.sleep(0.1)
    return waits


def _after_a_kill(machine: Machine) -> list[float]:
    (run_id,) = machine.all("select run_id from workers where not helps order by id")[-1]
    (pid,) = machine.all(
        "select substring(event from 'Started process for run .pid: ([0-9]+)')::int from dagster.event_logs "
        "where run_id = %s and event like '%%Started process for run%%' limit 1",
        run_id,
    )[0]
    assert isinstance(pid, int)
    psutil.Process(pid).kill()
    waits = []
    for _ in range(EACH):
        waits.append(_wait(machine.face()))
        time.sleep(0.3)
    return waits


def _round_trips(machine: Machine) -> list[float]:
    """From a commit that notifies to the notification, in one session of the same server."""
    times = []
    machine.connection.execute("listen bench")
    for _ in range(100):
        began = time.monotonic()
        machine.connection.execute("notify bench")
        next(machine.connection.notifies(timeout=5, stop_after=1))
        times.append(time.monotonic() - began)
    return times


def _processor(processes: Sequence[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def _idle(machine: Machine, seconds: float = 60) -> float:
    before = _processor(machine.tree()) + _processor(machine.postgres())
    time.sleep(seconds)
    return 100 * (_processor(machine.tree()) + _processor(machine.postgres()) - before) / seconds


def _idle_postgres(machine: Machine, seconds: float = 20) -> float:
    before = _processor(machine.postgres())
    time.sleep(seconds)
    return 100 * (_processor(machine.postgres()) - before) / seconds


def _memory(machine: Machine) -> float:
    """Proportional: memory that processes share is counted once."""
    total = 0
    for process in {*machine.tree(), *machine.postgres()}:
        with suppress(psutil.Error):
            total += process.memory_full_info().pss
    return total / 1e6


def _largest_run(machine: Machine) -> float:
    sizes = [0.0]
    for process in machine.tree():
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                sizes.append(process.memory_info().rss / 1e6)
    return max(sizes)


def _runs(machine: Machine) -> int:
    ((count,),) = machine.all("select count(*) from dagster.runs")
    assert isinstance(count, int)
    return count


def _filled(machine: Machine) -> bool:
    # the sample tables are made one after another
    columns = "select from pg_attribute where attrelid = to_regclass('public.matches') and attname = 'project_id'"
    if not machine.all(columns):
        return False
    return bool(machine.all("select from public.matches where project_id is not null limit 1"))


def _main(checkout: Path) -> str:
    return "matching_pipeline.cli.main" if (checkout / "matching_pipeline/cli").is_dir() else "matching_pipeline.cli"


def _p95(waits: Sequence[float]) -> float:
    return sorted(waits)[max(0, round(0.95 * len(waits)) - 1)]


def _spread(waits: Sequence[float]) -> str:
    return f"p50 {statistics.median(waits):.3f} s, p95 {_p95(waits):.3f}, worst {max(waits):.3f} (of {len(waits)})"


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f}"
