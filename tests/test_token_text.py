from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag_service.inference.token_text import UNDECODABLE, TokenText
from rag_service.prompting import tokenizer

TOKENS = tokenizer.load("sus-chat-34b")


def pieces_of(ids: list[int]) -> list[str]:
    text = TokenText(TOKENS.decode)
    return [*(text.feed(token) for token in ids), text.rest()]


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters=UNDECODABLE)))
def test_the_pieces_are_the_text_and_none_holds_half_a_character(said: str) -> None:
    pieces = pieces_of(TOKENS.encode(said))
    assert "".join(pieces) == said
    assert all(UNDECODABLE not in piece for piece in pieces)


@given(st.text("𠮷😀龘", min_size=1), st.integers(1, 3))
def test_a_character_that_stays_half_is_left_out(said: str, missing: int) -> None:
    ids = TOKENS.encode(said)
    pieces = pieces_of(ids[:-missing])
    assert said.startswith("".join(pieces))
    assert len("".join(pieces)) >= len(said) - 1


def test_each_character_goes_out_with_its_last_byte() -> None:
    assert pieces_of(TOKENS.encode("a𠮷b")) == ["a", "", "", "", "𠮷", "b", ""]


def test_special_tokens_say_nothing() -> None:
    ids = [1, *TOKENS.encode("好"), 2, *TOKENS.encode("吗"), 2]
    assert "".join(pieces_of(ids)) == "好吗"


def test_bytes_that_can_never_become_a_character_go_out_when_the_next_one_shows_it() -> None:
    half, letter = TOKENS.encode("龘")[0], TOKENS.encode("a")[0]
    assert pieces_of([half, letter]) == ["", f"{UNDECODABLE}a", ""]


def test_a_tokenizer_that_strips_the_first_blank_does_so_once() -> None:
    words = {1: " one", 2: " two", 3: " three"}
    text = TokenText(lambda ids: "".join(words[i] for i in ids).removeprefix(" "))
    assert [text.feed(token) for token in (1, 2, 3)] == ["one", " two", " three"]
