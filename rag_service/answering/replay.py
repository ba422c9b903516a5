"""A stored answer made again: what was retrieved then, the prompt, the text; which are equal, and how they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import unified_diff

from rag_service.answering import extracts, marks
from rag_service.answering.ask import PASSAGES
from rag_service.answering.prompts import Prompts
from rag_service.answering.question import Question
from rag_service.answering.writing import written
from rag_service.db.answers import Answers, Origin
from rag_service.db.conversations import Conversations
from rag_service.errors import PromptTooLarge
from rag_service.ports import Delivery, Embedder, Generation, Generator
from rag_service.retrieval.retriever import Retriever
from rag_service.types import Answer, PassageFilter, PromptPlan, Retrieval, Turn

PastRetriever = Callable[[Mapping[str, int], Mapping[str, int]], Retriever]
"""From revisions of knowledge bases, and of the base segments searched then, to a retriever that sees them so."""


@dataclass(frozen=True, slots=True)
class Replay:
    """`diff` says in lines how what is not equal differs; empty when all are."""

    retrieval_equal: bool
    prompt_equal: bool
    text_equal: bool
    diff: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Replaying:
    """An answer with what was made of it again. `writes`: the generator that wrote it is here, to write it again."""

    answer: Answer
    origin: Origin
    retrieval: Retrieval
    plan: PromptPlan | None
    prompt_difference: list[str]
    writes: bool


class Replayer:
    def __init__(
        self,
        answers: Answers,
        conversations: Conversations,
        past_retriever: PastRetriever,
        embedder: Embedder,
        prompts: Prompts,
        generator: Generator | None,
    ) -> None:
        self._answers = answers
        self._conversations = conversations
        self._past_retriever = past_retriever
        self._embedder = embedder
        self._prompts = prompts
        self._generator = generator

    def replay(self, tenant: str, answer_id: str) -> Replay:
        """All steps in this thread. Changes nothing. Raises NotFound, and what the generator fails with."""
        replaying = self.begin(tenant, answer_id)
        text = written(lambda deliver: self.start(replaying, deliver)) if replaying.writes else None
        return self.conclude(replaying, text)

    def begin(self, tenant: str, answer_id: str) -> Replaying:
        """Retrieve and pack again. Raises NotFound."""
        answer, origin = self._answers.get(tenant, answer_id), self._answers.origin(tenant, answer_id)
        retrieval = self._retrieved(tenant, answer, origin)
        plan, prompt = self._planned(tenant, answer, origin, retrieval)
        same = self._generator is not None and self._generator.name == answer.generator
        writes = plan is not None and origin.provenance.sampling is not None and same
        return Replaying(answer, origin, retrieval, plan, prompt, writes)

    def start(self, replaying: Replaying, deliver: Callable[[Delivery], None]) -> Generation:
        """Sets the generator to work, where the replay `writes`. Raises what `ports.Generator.start` raises."""
        assert self._generator is not None
        assert replaying.plan is not None
        assert replaying.origin.provenance.sampling is not None
        return self._generator.start(replaying.plan.token_ids, replaying.origin.provenance.sampling, deliver)

    def conclude(self, replaying: Replaying, text: str | None) -> Replay:
        """`text` is what the generator wrote; None where the replay does not write."""
        found = _retrieval_difference(replaying.origin, replaying.retrieval)
        prompt, words = replaying.prompt_difference, self._text_difference(replaying, text)
        return Replay(not found, not prompt, not words, (*found, *prompt, *words))

    def _retrieved(self, tenant: str, answer: Answer, origin: Origin) -> Retrieval:
        retriever = self._past_retriever(answer.revision, origin.provenance.base_revision)
        asked, scope = origin.provenance, origin.knowledge_base_ids
        return retriever.retrieve(
            tenant, scope, asked.retrieval_query, PASSAGES, PassageFilter(), asked.retrieval_context
        )

    def _planned(
        self, tenant: str, answer: Answer, origin: Origin, retrieval: Retrieval
    ) -> tuple[PromptPlan | None, list[str]]:
        """The prompt made again and how it differs from the stored one; (None, []) where no model was asked."""
        report = origin.provenance.report
        if report is None:
            return None, []
        question = Question(tenant, answer.query, origin.knowledge_base_ids)
        history = self._history(tenant, origin)
        try:
            plan = self._prompts.plan(
                question, retrieval.passages, history, answer.language, report.window_tokens, report.reply_tokens
            )
        except PromptTooLarge as error:
            return None, [f"prompt: {error.detail}"]
        if plan.report.prompt_sha256 == report.prompt_sha256:
            return plan, []
        return plan, ["prompt: its blocks differ", *_lines(_told(report.blocks), _told(plan.report.blocks))]

    def _history(self, tenant: str, origin: Origin) -> tuple[Turn, ...]:
        """As it was asked with: marks stripped, turns deleted since left out."""
        stored = self._conversations.turns_of(tenant, origin.provenance.history)
        known = {turn.id: turn for turn in (*origin.provenance.given, *stored)}
        turns = [known[turn_id] for turn_id in origin.provenance.history if turn_id in known]
        return tuple(replace(turn, answer=marks.stripped(turn.answer)) for turn in turns)

    def _text_difference(self, replaying: Replaying, text: str | None) -> list[str]:
        answer, provenance = replaying.answer, replaying.origin.provenance
        if provenance.reply is None:
            again = self._extracted(replaying.retrieval, answer)
            return [] if again == answer.text else ["text:", *_lines([answer.text], [again])]
        if text is None and replaying.plan is None:
            return ["text: without its prompt it cannot be written again"]
        if text is None:
            now = self._generator.name if self._generator else extracts.NAME
            return [f"text: written by {answer.generator}, and here is {now}"]
        before = provenance.reply
        return [] if text == before else ["text:", *_lines(before.splitlines(), text.splitlines())]

    def _extracted(self, retrieval: Retrieval, answer: Answer) -> str:
        found = extracts.extracts(retrieval, self._embedder)
        live = {ranked.passage.chunk_id for ranked in retrieval.passages}
        return found.answer(live, answer.language).text


def _retrieval_difference(origin: Origin, retrieval: Retrieval) -> list[str]:
    before = [shown.chunk_id for shown in origin.shown]
    after = [ranked.passage.chunk_id for ranked in retrieval.passages]
    if before == after:
        return []
    gone = [
        f"- chunk {one.chunk_id} of document {one.document_id}" for one in origin.shown if one.chunk_id not in after
    ]
    new = [
        f"+ chunk {ranked.passage.chunk_id} of document {ranked.passage.document_id}"
        for ranked in retrieval.passages
        if ranked.passage.chunk_id not in before
    ]
    return ["retrieval: passages differ", *gone, *new] if gone or new else ["retrieval: the order differs"]


def _told(blocks: Sequence[object]) -> list[str]:
    return [str(block) for block in blocks]


def _lines(before: Sequence[str], after: Sequence[str]) -> list[str]:
    return list(unified_diff(before, after, "stored", "replayed", lineterm=""))
