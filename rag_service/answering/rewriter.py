"""Follow-ups as questions of their own, for retrieval: by rules, or by the generator where it is set up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rag_service.answering.prompts import Prompts
from rag_service.answering.question import Wishes
from rag_service.retrieval import rewriting
from rag_service.retrieval.rewriting import Leaning, Rewritten
from rag_service.text import storable
from rag_service.types import Chat, Sampling, Turn

_MOST_TOKENS = 96


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a generator is asked for a question's stand-alone form."""

    prompt: tuple[int, ...]
    sampling: Sampling


class Rewriter:
    def __init__(self, prompts: Prompts, *, enabled: bool, generates: bool) -> None:
        """`generates`: a generator is asked for what the rules would change."""
        self._prompts = prompts
        self._enabled = enabled
        self._generates = generates

    def by_rules(self, question: str, history: Sequence[Turn]) -> Rewritten:
        """What to search for; `question` itself where it needs nothing of the history."""
        return rewriting.rewritten(question, history if self._enabled else ())

    def rewriting(self, question: str, history: Sequence[Turn]) -> Rewriting | None:
        """What to ask a generator; None where the rules do, or the question stands alone."""
        if not self._generates or not history or rewriting.leaning(question) is Leaning.STANDS:
            return None
        messages = [
            Chat(message.role, self._prompts.harmless(message.content))
            for message in rewriting.rewriting_messages(question, history)
        ]
        prompt = self._prompts.encode(messages)
        if not self._prompts.fits(prompt, _MOST_TOKENS):
            return None
        return Rewriting(tuple(prompt), self._prompts.sampling(Wishes(max_tokens=_MOST_TOKENS)))

    def accepted(self, reply: str, question: str, history: Sequence[Turn]) -> str | None:
        """The question that a generator made of it, if it is one."""
        return rewriting.accepted(storable(reply), question, history)
