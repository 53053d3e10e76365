"""A process that writes lists is killed, for real: the next does what it had not committed, and nobody waits."""

import subprocess
import sys

import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import faces
from matching_pipeline.handlers import matches as matching
from matching_pipeline.queues.worker import Worker
from matching_pipeline_tests.integration.conftest import make_due
from matching_pipeline_tests.integration.marketplace import Marketplace
from matching_pipeline_tests.integration.school import School

WORKER = """
import sys, time
from matching_pipeline.db.connections import connect
from matching_pipeline.queues.worker import Worker
from matching_pipeline.handlers import faces, matches as matching

def stop_here():
    print("in the middle", flush=True)
    time.sleep(60)

what, kind, url = sys.argv[1:]
stages, stage = {"project": (matching, matching.MatchHandler), "face": (faces, faces.FaceHandler)}[kind]

class Stuck(stage):
    batch_size = 2

    def write(self, connection, outcomes):
        super().write(connection, outcomes)
        stop_here()

if what == "drain":
    Worker(url, Stuck()).run()
matching.LISTS_AT_ONCE = 1
stages.rebuild(connect(url), lambda done, total: done and stop_here())
"""


def kill_in_the_middle(what: str, kind: str, database_url: str) -> None:
    command = [sys.executable, "-c", WORKER, what, kind, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "in the middle\n"
        worker.kill()


@pytest.mark.parametrize("what", ["drain", "rebuild"])
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
    Worker(database_url, matching.MatchHandler()).run()
    assert market.matches() == market.expected_matches()
    assert set(written) <= set(market.matches())
    assert matching.rebuild(connection).unchanged == len(market.matches())


@pytest.mark.parametrize("what", ["drain", "rebuild"])
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
    Worker(database_url, faces.FaceHandler()).run()
    assert school.rows() == school.expected_rows()
    assert set(written) <= set(school.rows())
    assert faces.rebuild(connection).unchanged == len(school.rows())
