"""A running worker whose model has damaged weights says so, loses no job, and goes on when they are mended."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from matching_pipeline.db.connections import Connection
from matching_pipeline.handlers import registry
from matching_pipeline.providers.local import text
from matching_pipeline.providers.local.onnx_file import Graph
from matching_pipeline.queues import standing
from matching_pipeline.queues.handler import Handler
from matching_pipeline.queues.standing import StandingWorker
from matching_pipeline.settings import Settings
from matching_pipeline_tests.conftest import EXAMPLES
from matching_pipeline_tests.fixtures.model_folders import MINILM, write_texts
from matching_pipeline_tests.fixtures.postings import JobBoard

QUEUE = "job_embeddings"


def test_a_queue_stops_with_a_sentence_and_goes_on_when_its_weights_are_mended(
    connection: Connection, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(standing, "REOPEN_SECONDS", (0.05, 0.05))
    settings = Settings.model_validate({"fastembed_folder": tmp_path, "text_model": f"fastembed:{MINILM}"})
    folder, board = tmp_path / MINILM, JobBoard(connection)
    whole = text.WEIGHTS.read()
    graph = Graph({"input_ids": None})
    other = graph.model([graph.node("MatMul", "input_ids", graph.constant(np.ones((8, 8))))])
    job = board.post("Baker")

    def opened(queue: str) -> AbstractContextManager[Handler]:
        return registry.open_handler(settings, database_url, EXAMPLES, queue)

    with StandingWorker(database_url, [QUEUE], opened, version="1", run_id="a run") as worker:
        served = worker.serve()

        def wait(condition: Callable[[], bool]) -> None:
            deadline = time.monotonic() + 120
            while not condition():
                assert time.monotonic() < deadline
                next(served)

        def says(sentence: str, before: str = "") -> bool:
            return said() != before and sentence in said()

        def said() -> str:
            return str(board.run("select failures ->> %s from matching_pipeline.workers", QUEUE)[0])

        cannot = f"TEXT_MODEL: {MINILM} cannot be loaded in {folder}"
        wait(lambda: says(cannot))
        for weights in (whole[:1000], other):
            before = said()
            write_texts(folder, weights)
            wait(partial(says, cannot, before))
        board.run(
            "insert into matching_pipeline.embedding_models (name, modality, dimensions, status) "
            "values (%s, 'text', 8, 'active')",
            f"fastembed:{MINILM}",
        )
        write_texts(folder, whole)
        wait(lambda: says(f"fastembed:{MINILM} is registered with 8 dimensions, not 384"))
        assert board.run("select attempts from job_queue") == [0]
        board.run("delete from matching_pipeline.embedding_models")
        wait(lambda: board.embedded() == {job})
