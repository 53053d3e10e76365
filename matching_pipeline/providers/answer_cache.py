"""The answers of providers (`ai_answers`), kept for some days, so that no answer is bought twice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from matching_pipeline.db.connections import Connection
from matching_pipeline.db.queries import query
from matching_pipeline.providers.session import ReconnectingSession


@dataclass(frozen=True)
class Answer:
    """`content` is an embedding as float32, JSON, or a picture's file.

    A text embedded in a batch has its share of the batch's tokens.
    """

    content: bytes
    input_tokens: int
    output_tokens: int


class AnswerCache:
    """Finds an answer by the model and the hash of the input."""

    def __init__(self, session: ReconnectingSession) -> None:
        self._session = session

    def find(self, model: str, input_hashes: Sequence[bytes]) -> dict[bytes, Answer]:
        if not input_hashes:
            return {}
        rows = self._session.fetch(query("find_ai_answers"), {"model": model, "input_hashes": input_hashes})
        return {input_hash: Answer(*answer) for input_hash, *answer in rows}

    def keep(self, connection: Connection, model: str, answers: Mapping[bytes, Answer]) -> None:
        """Writes the answers, by the hash of their input, in the caller's transaction."""
        connection.execute(
            query("keep_ai_answers"),
            {
                "model": model,
                "input_hashes": list(answers),
                "answers": [answer.content for answer in answers.values()],
                "input_tokens": [answer.input_tokens for answer in answers.values()],
                "output_tokens": [answer.output_tokens for answer in answers.values()],
            },
        )


def purge(connection: Connection, keep: timedelta) -> int:
    """Deletes the answers that are older, in small batches; returns how many."""
    return sum(iter(lambda: connection.execute(query("purge_ai_answers"), {"keep": keep}).rowcount, 0))
