"""How texts are divided into requests."""

from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.handlers.texts import Text, batches
from matching_pipeline.queues.client import Job
from matching_pipeline.sources.reading import SourceRow
from matching_pipeline_tests.fixtures.postings import LetterEmbedder


@given(
    sizes=st.lists(st.integers(1, 12), max_size=40),
    batch_items=st.integers(1, 8),
    batch_tokens=st.integers(1, 20),
)
def test_requests_keep_the_order_and_the_limits_and_lose_nothing(
    sizes: list[int], batch_items: int, batch_tokens: int
) -> None:
    embedder = LetterEmbedder(batch_items=batch_items, batch_tokens=batch_tokens)
    job = Job(UUID(int=1), "posting", "entity", "1", {}, 1)
    row = SourceRow("1", True, True, None, None, {}, "1", None, None)
    texts = {Text("word " * size, bytes([number])): {job: row} for number, size in enumerate(sizes)}
    requests = batches(embedder, texts)
    assert [text for request in requests for text in request] == list(texts)
    for request in requests:
        tokens = sum(embedder.estimate_tokens(text.text) for text in request)
        assert 0 < len(request) <= batch_items
        assert tokens <= batch_tokens or len(request) == 1
    for request, following in pairwise(requests):
        first = embedder.estimate_tokens(next(iter(following)).text)
        full = sum(embedder.estimate_tokens(text.text) for text in request) + first > batch_tokens
        assert full or len(request) == batch_items
