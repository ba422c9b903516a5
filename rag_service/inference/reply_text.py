"""What the chunks of one reply add up to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from rag_service.errors import GenerationFailed
from rag_service.inference.completion_stream import Chunk, finish_of
from rag_service.inference.stop_text import StopText
from rag_service.types import Finished, Sampling, Usage

CHARS_PER_TOKEN = 256
"""No tokenizer in use has a longer token (the longest are runs of blanks, 128 in cl100k); more is no honest reply."""


class ReplyText:
    """Takes chunks, gives the text that may go out: none of `sampling.stop` in it, and nothing after one."""

    def __init__(self, prompt_tokens: int, sampling: Sampling, count: Callable[[str], int]) -> None:
        self._prompt_tokens = prompt_tokens
        self._max_tokens = sampling.max_tokens
        self._count = count
        self._stop = StopText(sampling.stop)
        self._pieces: list[str] = []
        self._chars = 0
        self._reason: Literal["stop", "length"] | None = None
        self._usage: Usage | None = None
        self._generated = False
        self.complete = False
        """Nothing more is to come: the server said so, or a stop string was met."""

    @property
    def ended(self) -> bool:
        """It is known how the reply ended; at most its usage is still to come."""
        return self._reason is not None

    def take(self, chunk: Chunk) -> str:
        self._usage = chunk.usage or self._usage
        self._generated = self._generated or chunk.generated
        self.complete = self.complete or chunk.done
        if self.ended:
            return ""
        piece = self._cut(chunk.text)
        if chunk.finish is not None and not self.ended:
            self._reason = "stop" if finish_of(chunk.finish) else "length"
        if self.ended or self.complete:
            piece += self._stop.rest()
        self._pieces.append(piece)
        return piece

    def finished(self) -> Finished:
        """Raises GenerationFailed for a stream that ended in the middle: neither a finish reason nor `[DONE]` came.

        `[DONE]` alone is taken as an end that was meant, provided that something was generated; whether `max_tokens`
        cut it is then told by counting.
        """
        if not self.ended and not (self.complete and self._generated):
            raise GenerationFailed("the engine broke off in the middle of the reply")
        usage = self._usage or Usage(self._prompt_tokens, self._count("".join(self._pieces)))
        cut = usage.completion_tokens >= self._max_tokens
        return Finished(self._reason or ("length" if cut else "stop"), usage)

    def _cut(self, text: str) -> str:
        self._chars += len(text)
        if self._chars > self._max_tokens * CHARS_PER_TOKEN:
            raise GenerationFailed(f"the engine sent more text than {self._max_tokens} tokens can be")
        piece = self._stop.feed(text)
        if self._stop.stopped:
            self._reason, self.complete = "stop", True
        return piece
