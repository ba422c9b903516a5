"""Cutting a passage down to whole sentences that stay together. Pure."""

from __future__ import annotations

from collections.abc import Callable

from rag_service.text import lexical_terms, sentences


def around_the_best(text: str, question: str, room_tokens: int, count: Callable[[str], int]) -> tuple[int, int] | None:
    """The run of whole sentences that grows from the one nearest to the question until the room is used up, by turns
    at its end and at its beginning; None if not even that one fits.

    Sentences are counted one by one, so that a passage of any length costs linear time: the caller counts the result.
    """
    spans = list(sentences(text))
    if not spans:
        return None
    first = last = _nearest(text, spans, question)
    room = room_tokens - count(text[slice(*spans[first])])
    if room < 0:
        return None
    after, before = True, True
    while after or before:
        if after:
            after, room = _taken(text, spans, last + 1, room, count)
            last += after
        if before:
            before, room = _taken(text, spans, first - 1, room, count)
            first -= before
    return spans[first][0], spans[last][1]


def _taken(
    text: str, spans: list[tuple[int, int]], at: int, room: int, count: Callable[[str], int]
) -> tuple[bool, int]:
    """Whether the sentence at `at` fits, with what lies between it and the next, and the room that is left."""
    if not 0 <= at < len(spans):
        return False, room
    needed = count(text[slice(*spans[at])]) + 1
    return (True, room - needed) if needed <= room else (False, room)


def _nearest(text: str, spans: list[tuple[int, int]], question: str) -> int:
    """The sentence that shares the most terms with the question; the first of them."""
    asked = frozenset(lexical_terms(question))
    return max(range(len(spans)), key=lambda at: len(asked.intersection(lexical_terms(text[slice(*spans[at])]))))
