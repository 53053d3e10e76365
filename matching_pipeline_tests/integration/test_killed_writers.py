"""A process that writes lists is really killed. The next does the uncommitted part, and no session waits."""

import subprocess
import sys

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import faces, projects
from matching_pipeline.queues.worker import Worker
from matching_pipeline_tests.integration.conftest import make_due
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School

WORKER = """
import sys, time
from matching_pipeline.db.connections import connect
from matching_pipeline.queues.worker import Worker
from matching_pipeline.handlers.faces import FaceHandler
from matching_pipeline.handlers.matches import MatchHandler
from matching_pipeline.matches import faces, projects

def stop_here():
    print("in the middle", flush=True)
    time.sleep(60)

what, kind, url = sys.argv[1:]
lists, handler = {"project": (projects, MatchHandler), "face": (faces, FaceHandler)}[kind]

class Stuck(handler):
    batch_size = 2

    def write(self, connection, outcomes):
        super().write(connection, outcomes)
        stop_here()

if what == "worker":
    Worker(url, Stuck()).run()
projects.LISTS_AT_ONCE = 1
lists.rebuild(connect(url), lambda done, total: done and stop_here())
"""


def kill_in_the_middle(what: str, kind: str, database_url: str) -> None:
    command = [sys.executable, "-c", WORKER, what, kind, database_url]
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
    Worker(database_url, MatchHandler()).run()
    assert market.matches() == market.expected_matches()
    assert set(written) <= set(market.matches())
    assert projects.rebuild(connection).unchanged == len(market.matches())


@pytest.mark.parametrize("what", ["worker", "rebuild"])
def test_of_face_lists(connection: Connection, database_url: str, what: str) -> None:
    school = School(connection, database_url)
    for name in ("HUST", "UIT"):
        for gender, n in (("female", 0), ("male", 1), ("male", 2)):
            school.face_of(gender, (1.0, n / 5), name)
    kill_in_the_middle(what, "face", database_url)
    written = school.rows()
    assert (len(written) > 0) == (what == "rebuild")
    assert written != school.expected_rows()

    make_due(connection)
    Worker(database_url, FaceHandler()).run()
    assert school.rows() == school.expected_rows()
    assert set(written) <= set(school.rows())
    assert faces.rebuild(connection).unchanged == len(school.rows())
