"""Follow-ups as questions of their own, for retrieval: by rules, or by the generator where it is set up to."""

from __future__ import annotations

from collections.abc import Sequence

from rag_service.answering.prompts import Prompts
from rag_service.answering.question import Wishes
from rag_service.answering.writing import written
from rag_service.errors import YoujuError
from rag_service.ports import Generator
from rag_service.retrieval import rewriting
from rag_service.text import storable
from rag_service.types import Chat, Turn

_MOST_TOKENS = 96


class Rewriter:
    """`generator` None: by rules."""

    def __init__(self, prompts: Prompts, generator: Generator | None, enabled: bool) -> None:
        self._prompts = prompts
        self._generator = generator
        self._enabled = enabled

    def stand_alone(self, question: str, history: Sequence[Turn]) -> str:
        """What to search for; `question` itself where it needs nothing of the history.

        A generator that is down, or says something that is no question, leaves it to the rules.
        """
        if not self._enabled or not history:
            return question
        by_rules = rewriting.stand_alone(question, history)
        if self._generator is None or by_rules == question:
            return by_rules
        return self._rewritten(self._generator, question, history) or by_rules

    def _rewritten(self, generator: Generator, question: str, history: Sequence[Turn]) -> str | None:
        messages = [
            Chat(message.role, self._prompts.harmless(message.content))
            for message in rewriting.rewriting_messages(question, history)
        ]
        sampling = self._prompts.sampling(Wishes(max_tokens=_MOST_TOKENS))
        try:
            text = written(generator, self._prompts.encode(messages), sampling)
        except YoujuError:
            return None
        return rewriting.accepted(storable(text), question, history)
