"""A process that writes lists is really killed. The next does the uncommitted part, and no session waits."""

import subprocess
import sys

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.integration.conftest import make_due
from matching_pipeline_tests.integration.marketplace import PROJECT, Marketplace
from matching_pipeline_tests.integration.school import FACE, FaceHandler, School

WORKER = """
import itertools, sys, time
from matching_pipeline.db.connections import connect
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import matching
from matching_pipeline.queues.worker import QueueWorker
from matching_pipeline_tests.integration.marketplace import PROJECT
from matching_pipeline_tests.integration.school import FACE, FaceHandler

def stop_here():
    print("in the middle", flush=True)
    time.sleep(60)

what, name, url = sys.argv[1:]
matcher, handler = {"project": (PROJECT, MatchHandler), "face": (FACE, FaceHandler)}[name]

class Stuck(handler):
    batch_size = 2

    def write(self, connection, outcomes):
        super().write(connection, outcomes)
        stop_here()

if what == "worker":
    QueueWorker(url, Stuck(f"matches_{name}", matcher)).run()

writes, write = itertools.count(), matching.write

def write_two(*arguments):
    # there are two sessions, so one of them has committed
    if next(writes) == 2:
        stop_here()
    return write(*arguments)

matching.write, matching.LISTS_AT_ONCE = write_two, 1
matcher.rebuild(connect(url))
"""


def kill_in_the_middle(what: str, matcher: str, database_url: str) -> None:
    command = [sys.executable, "-c", WORKER, what, matcher, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "in the middle\n"
        worker.kill()


@pytest.mark.parametrize("what", ["worker", "rebuild"])
def test_of_project_lists(connection: Connection, database_url: str, what: str) -> None:
    market = Marketplace(connection)
    for n in range(3):
        market.add_image("project", market.add("project"), (1, n / 9, 0))
        market.add_image("product", market.add("product"), (1, n / 5, 0))
    kill_in_the_middle(what, "project", database_url)
    written = market.matches()
    assert (len(written) > 0) == (what == "rebuild")
    assert written != market.expected_matches()

    make_due(connection)
    QueueWorker(database_url, MatchHandler("matches_project", PROJECT)).run()
    assert market.matches() == market.expected_matches()
    assert set(written) <= set(market.matches())
    assert PROJECT.rebuild(connection).unchanged == len(market.matches())


@pytest.mark.parametrize("what", ["worker", "rebuild"])
def test_of_face_lists(connection: Connection, database_url: str, what: str) -> None:
    school = School(connection, database_url)
    for name in ("HUST", "UIT", "NEU"):
        for gender, n in (("female", 0), ("male", 1), ("male", 2)):
            school.face_of(gender, (1.0, n / 5), name)
    if what == "rebuild":
        # a rebuild compares what workers have mirrored
        school.process()
        connection.execute("delete from matching_pipeline.matches")
    kill_in_the_middle(what, "face", database_url)
    written = school.rows()
    assert (len(written) > 0) == (what == "rebuild")

    make_due(connection)
    QueueWorker(database_url, FaceHandler()).run()
    assert school.rows() == school.expected_rows()
    assert set(written) < set(school.rows())
    assert FACE.rebuild(connection).unchanged == len(school.rows())
