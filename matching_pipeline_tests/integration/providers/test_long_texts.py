"""A text that is longer than the model takes is embedded in parts, each of them bought once."""

from matching_pipeline.db.connections import Connection
from matching_pipeline_tests.fixtures.openai_server import Fault, OpenAIServer, server_error
from matching_pipeline_tests.fixtures.postings import JobBoard, work_postings
from matching_pipeline_tests.integration.providers.conftest import OpenEmbedder

SENTENCES = [f"The bakery number {number} needs a person who bakes bread early." for number in range(6)]


def sent(server: OpenAIServer) -> list[str]:
    """The inputs since the last look."""
    inputs = [text for body in server.bodies for text in body["input"] if "doctor" not in text]
    server.bodies.clear()
    return inputs


def test_each_part_is_bought_once_and_the_best_part_counts(
    connection: Connection, database_url: str, server: OpenAIServer, open_embedder: OpenEmbedder
) -> None:
    embedder, board = open_embedder(openai_embedding_max_tokens=60), JobBoard(connection)
    more = "select cardinality(more) from matching_pipeline.embeddings order by 1"
    long = board.post("Baker", description=" ".join([*SENTENCES, "We knit woollen socks."]))
    work_postings(database_url, embedder)
    first = sent(server)
    (further,) = board.run(more)
    assert len(first) == further + 1 > 2
    assert all(embedder.estimate_tokens(part) <= 60 for part in first)

    socks = board.post("We knit woollen socks.")
    work_postings(database_url, embedder)
    assert len(sent(server)) == 1
    search = "select similarity from find_similar_jobs(%s)"
    assert board.run(search, socks) == board.run(search, long)
    (near,) = board.run(search, socks)
    assert near > 0.4

    # another posting of the same text costs nothing, and an edit of the end costs the last part
    twin = board.post("Baker", description=" ".join([*SENTENCES, "We knit woollen socks."]))
    work_postings(database_url, embedder)
    assert sent(server) == []
    board.run("update jobs set description = replace(description, 'socks', 'hats') where id = %s", twin)
    work_postings(database_url, embedder)
    assert len(sent(server)) == 1
    board.run("update jobs set description = null where id = %s", long)
    work_postings(database_url, embedder)
    assert board.run(more) == [0, 0, further]


def test_a_part_that_fails_costs_no_other_part_again(
    connection: Connection, database_url: str, server: OpenAIServer, open_embedder: OpenEmbedder
) -> None:
    embedder, board = open_embedder(openai_embedding_max_tokens=60), JobBoard(connection)
    board.post("Baker", description=" ".join(SENTENCES))
    server.fault = Fault(server_error().refusal, when=lambda body: any("number 5" in text for text in body["input"]))
    work_postings(database_url, embedder)
    assert board.run("select cardinality(more) from matching_pipeline.embeddings") == []
    server.fault = None
    bought = {text for text in sent(server) if "number 5" not in text}
    board.run("update matching_pipeline.jobs set run_at = now()")
    work_postings(database_url, embedder)
    again = sent(server)
    assert not bought & set(again)
    assert all("number 5" in text for text in again)
    assert len(board.run("select cardinality(more) from matching_pipeline.embeddings")) == 1
