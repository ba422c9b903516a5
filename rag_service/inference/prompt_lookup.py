"""Prompt-lookup decoding: what an answer copies from its prompt is drafted from there and checked in one step.

The method of transformers' `prompt_lookup_num_tokens` (Saxena 2023) with its drafts, in a loop of our own, because
`generate` takes a prompt in one piece, so that a long one cannot be left in the middle, and because there drafts do
not work beside a seeded draw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from rag_service.inference.reading import Reading
from rag_service.inference.token_choice import choose, is_plain
from rag_service.types import Sampling

NGRAM_TOKENS = 3
DRAFT_TOKENS = 10
STEP_WIDTHS = (1, 1 + DRAFT_TOKENS)
"""Tokens of a step without a draft, and of one with the longest."""


class PromptLookup:
    """`ids` growing at its end, and what followed the first place where each run of up to three tokens stood."""

    def __init__(self, ids: Sequence[int], draft_tokens: int = DRAFT_TOKENS) -> None:
        self.ids: list[int] = []
        self._draft_tokens = draft_tokens
        self._continued: dict[tuple[int, ...], int] = {}
        for token in ids:
            self.append(token)

    def append(self, token: int) -> None:
        end = len(self.ids)
        # Only now do the runs that end here have a continuation.
        for size in range(1, min(NGRAM_TOKENS, end) + 1):
            self._continued.setdefault(tuple(self.ids[end - size : end]), end)
        self.ids.append(token)

    def draft(self, limit: int) -> list[int]:
        """At most `limit` tokens that may follow, the longest run that matches deciding; empty where none does."""
        for size in range(min(NGRAM_TOKENS, len(self.ids)), 0, -1):
            start = self._continued.get(tuple(self.ids[-size:]))
            if start is not None:
                return self.ids[start : start + min(limit, self._draft_tokens)]
        return []


def replied(
    begin: Callable[[], Reading],
    prompt: Sequence[int],
    sampling: Sampling,
    prefill_tokens: int,
    draft_tokens: int = DRAFT_TOKENS,
) -> Iterator[Sequence[int]]:
    """The reply's tokens as they come, several at once where a draft held. Does not stop at stop ids: the caller does.

    An empty step stands before each `prefill_tokens` of the prompt, so that the caller can leave there too.
    """
    text = begin()
    for start in range(0, len(prompt) - 1, prefill_tokens):
        yield ()
        chunk = prompt[start : min(start + prefill_tokens, len(prompt) - 1)]
        # Reading a value waits for the device, or the steps would only ever measure how fast work is queued.
        text.read(chunk, keep=1)[0, 0].item()
        text.take_back(0)
    yield ()
    lookup = PromptLookup(prompt, draft_tokens)
    while (left := sampling.max_tokens - len(lookup.ids) + len(prompt)) > 0:
        draft = lookup.draft(left - 1)
        step = [lookup.ids[-1], *draft]
        accepted = _accepted(text.read(step, keep=len(step)), draft, lookup, sampling, len(prompt))
        text.take_back(len(step) - accepted)
        yield lookup.ids[-accepted:]


def _accepted(
    scores: torch.Tensor, draft: Sequence[int], lookup: PromptLookup, sampling: Sampling, prompt_tokens: int
) -> int:
    """Appends the tokens that the scores choose, up to the first that is not the drafted one; how many they are."""
    greedy = scores.argmax(dim=-1).tolist() if is_plain(sampling) else None
    for place in range(len(scores)):
        position = len(lookup.ids) - prompt_tokens
        token = greedy[place] if greedy else choose(scores[place], lookup.ids, sampling, position)
        lookup.append(token)
        if place == len(draft) or token != draft[place]:
            return place + 1
    raise AssertionError("the place after the draft always ends the step")
