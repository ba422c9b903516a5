"""What is asked, by whom, and how the reply is to be made."""

from __future__ import annotations

from dataclasses import dataclass, field

from rag_service.types import Language, Turn


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller may choose of the generation; None: as the service is set up."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def any(self) -> bool:
        return any(wish is not None for wish in (self.max_tokens, self.temperature, self.top_p, self.seed))


@dataclass(frozen=True, slots=True)
class Question:
    tenant: str
    query: str
    knowledge_base_ids: tuple[str, ...]
    conversation_id: str | None = None
    language: Language | None = None
    """Of the answer; None: the question's own."""
    wishes: Wishes = field(default_factory=Wishes)
    history: tuple[Turn, ...] | None = None
    """The conversation so far where the caller brings it along; None: what is stored of `conversation_id`."""
