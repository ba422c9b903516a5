"""From messages to token ids, as the model was trained to read them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rag_service.prompting.template import Segment, Special, Template
from rag_service.prompting.tokenizer import PromptTokenizer
from rag_service.types import Chat

Spacing = Literal["card", "healed"]


@dataclass(frozen=True, slots=True)
class PromptFormat:
    """A tokenizer, a chat template and how the prompt ends.

    The template's last space is a token of its own in a prompt, but was merged with the reply's first word in
    training. `card` keeps it, as the model card's code does; `healed` leaves it to the reply, whose first space is
    then dropped.
    """

    tokenizer: PromptTokenizer
    template: Template
    spacing: Spacing = "card"

    def encode(self, messages: Sequence[Chat]) -> list[int]:
        """The ids of a conversation whose next message is the assistant's."""
        return [token for segment in self.ended(self.template.segments(messages)) for token in self.ids(segment)]

    def ids(self, segment: Segment) -> list[int]:
        if isinstance(segment, Special):
            return [self.tokenizer.special(segment.token)]
        return self.tokenizer.encode(segment)

    def ended(self, segments: list[Segment]) -> list[Segment]:
        """`segments` with the prompt's end as `spacing` says."""
        last = segments[-1] if segments else None
        if self.spacing == "card" or not isinstance(last, str) or not last.endswith(" "):
            return segments
        return [*segments[:-1], last[:-1]]

    def demand_tokens(self) -> None:
        """Raises InvalidConfiguration, at start, where the tokenizer lacks a token that the template names."""
        self.encode([Chat("user", ""), Chat("assistant", "")])
        _ = self.stop_ids

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return tuple(self.tokenizer.special(token) for token in self.template.stop_tokens)


def sha256_of(ids: Sequence[int]) -> str:
    """Of the ids as little-endian unsigned 32-bit integers."""
    return hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
