"""From a question and its evidence to the prompt and the settings a generator gets."""

from __future__ import annotations

from collections.abc import Sequence

from rag_service.answering.question import Question, Wishes
from rag_service.answering.stream_guard import StreamGuard
from rag_service.errors import InvalidInput
from rag_service.prompting.budget import Budget
from rag_service.prompting.packer import Packer
from rag_service.types import Chat, Language, PromptPlan, RankedPassage, Sampling, Turn, Usage


class Prompts:
    def __init__(self, packer: Packer, window_tokens: int, reply_tokens: int) -> None:
        self._packer = packer
        self._window = window_tokens
        self._reply = reply_tokens

    def plan(
        self,
        question: Question,
        passages: Sequence[RankedPassage],
        history: Sequence[Turn],
        language: Language,
        window_tokens: int | None = None,
        reply_tokens: int | None = None,
    ) -> PromptPlan:
        """Raises PromptTooLarge, and InvalidInput for a window or a reply that cannot be."""
        budget = self._budget(window_tokens, reply_tokens or question.wishes.max_tokens)
        # A refusal in a prompt teaches the model to refuse.
        answered = [turn for turn in history if turn.answer]
        return self._packer.pack(question.query, passages, answered, budget, language)

    def sampling(self, wishes: Wishes) -> Sampling:
        """Greedy unless wished otherwise, so that the same prompt gives the same text."""
        prompt_format = self._packer.format
        return Sampling(
            max_tokens=wishes.max_tokens or self._reply,
            temperature=wishes.temperature or 0.0,
            top_p=1.0 if wishes.top_p is None else wishes.top_p,
            top_k=0,
            repetition_penalty=1.0,
            seed=wishes.seed or 0,
            stop=prompt_format.template.stop,
            stop_ids=prompt_format.stop_ids,
        )

    def guard(self, plan: PromptPlan) -> StreamGuard:
        template = self._packer.format.template
        return StreamGuard(
            stop=template.stop,
            forbidden=template.stop_tokens,
            passages=len(plan.passages),
            strip_first_space=self._packer.format.spacing == "healed",
        )

    def encode(self, messages: Sequence[Chat]) -> list[int]:
        """A prompt that is not about passages; what it quotes must be harmless already."""
        return self._packer.format.encode(messages)

    def harmless(self, text: str) -> str:
        return self._packer.format.template.harmless(text)

    def refusals(self) -> frozenset[str]:
        """The sentences by which the model says that the passages do not answer."""
        return frozenset(wording.refusal for wording in self._packer.wordings.values())

    def fits(self, prompt: Sequence[int], reply_tokens: int) -> bool:
        return len(prompt) + reply_tokens <= self._window

    def count(self, text: str) -> int:
        return self._packer.format.tokenizer.count(text)

    def usage(self, plan: PromptPlan, raw: str) -> Usage:
        """Where the generator was stopped before it could say."""
        return Usage(len(plan.token_ids), self.count(raw))

    def _budget(self, window_tokens: int | None, reply_tokens: int | None) -> Budget:
        window, reply = window_tokens or self._window, reply_tokens or self._reply
        if window > self._window:
            raise InvalidInput(f"the window has {self._window} tokens", window_tokens=self._window)
        if not 0 < reply < window:
            raise InvalidInput(
                f"a reply of {reply} tokens leaves nothing of a window of {window}",
                window_tokens=window, reply_tokens=reply,
            )  # fmt: skip
        return Budget(window, reply)
