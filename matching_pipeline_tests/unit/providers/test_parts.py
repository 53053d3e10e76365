"""The parts of a long text fit the model, overlap, and leave nothing out."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from matching_pipeline.providers.parts import parts

texts = st.text(st.sampled_from("ab é漢    \n"), max_size=200)


def size(text: str) -> int:
    return len(text.encode()) + 1


@given(texts, st.integers(12, 60))
def test_parts_fit_overlap_and_cover_the_text(text: str, limit: int) -> None:
    found = parts(text, limit, size)
    if size(text) <= limit or not text.strip():
        assert found == [text]
        return
    assert all(size(part) <= limit and part.strip() for part in found)
    end = 0
    for part in found:
        next_word = len(text) - len(text[end:].lstrip())
        end = text.rindex(part, 0, next_word + len(part)) + len(part)
    assert not text[end:].strip()


def test_words_stay_whole_and_the_end_of_a_part_is_repeated() -> None:
    text = " ".join(f"word{number:02}" for number in range(40))
    found = parts(text, 90, size)
    assert all(word in text.split() for part in found for word in part.split())
    assert all(set(first.split()) & set(second.split()) for first, second in pairwise(found))
