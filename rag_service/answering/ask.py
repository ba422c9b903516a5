"""The use case: a question in, an answer with checked citations out, stored.

It has steps, so that nobody has to hold a thread or a database session while a model writes: `begin`, where a model
rewrites follow-ups `start_rewriting`, `prepare`, `start` with what the generator then delivers, `conclude`. `ask` does
all of them in one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue

from rag_service.answering import extracts, marks, refusal
from rag_service.answering.assembly import Assembled, Assembly, Checking
from rag_service.answering.clock import Clock
from rag_service.answering.events import Cited, Delta, Done, Event, Packed, Retrieved
from rag_service.answering.extracts import Extracts
from rag_service.answering.prompts import Prompts
from rag_service.answering.question import Question
from rag_service.answering.reply import Reply
from rag_service.answering.rewriter import Rewriter, Rewriting
from rag_service.answering.writing import written
from rag_service.db.answers import Answers, Provenance
from rag_service.db.conversations import Conversations
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.db.sessions import new_id
from rag_service.errors import (
    GenerationFailed,
    GeneratorTimeout,
    GeneratorUnavailable,
    InvalidInput,
    YoujuError,
)
from rag_service.ports import Delivery, Embedder, Generation, Generator, PassageStore
from rag_service.retrieval.retriever import Retriever
from rag_service.retrieval.rewriting import Rewritten
from rag_service.text import language_of
from rag_service.types import (
    Answer,
    Language,
    PackingReport,
    PassageFilter,
    PromptPlan,
    Retrieval,
    Sampling,
    Turn,
    Usage,
)

log = logging.getLogger(__name__)

PASSAGES = 8
TURNS = 60
"""As many of the newest exchanges are read: more than a window holds."""
_DOWN = (GeneratorUnavailable, GeneratorTimeout, GenerationFailed)
"""What extracts may stand in for. A full queue is none of them: the caller is told to come back."""


@dataclass(frozen=True, slots=True)
class Begun:
    """A question in its conversation. `rewriting` is what a model is to be asked first, if anything."""

    question: Question
    history: tuple[Turn, ...]
    rewriting: Rewriting | None
    clock: Clock


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question with all that its answer is made from. `plan` is None where no model is to be asked."""

    question: Question
    answer_id: str
    language: Language
    history: tuple[Turn, ...]
    retrieval: Retrieval
    extracts: Extracts
    plan: PromptPlan | None
    sampling: Sampling | None
    checking: Checking | None
    clock: Clock


class Asker:
    def __init__(
        self,
        knowledge_bases: KnowledgeBases,
        conversations: Conversations,
        answers: Answers,
        retriever: Retriever,
        store: PassageStore,
        embedder: Embedder,
        prompts: Prompts,
        assembly: Assembly,
        rewriter: Rewriter,
        generator: Generator | None,
        *,
        fall_back: bool,
    ) -> None:
        """`generator` None: every answer is extractive. `fall_back`: extracts stand in for a generator that is down."""
        self._knowledge_bases = knowledge_bases
        self._conversations = conversations
        self._answers = answers
        self._retriever = retriever
        self._store = store
        self._embedder = embedder
        self._prompts = prompts
        self._assembly = assembly
        self._rewriter = rewriter
        self._generator = generator
        self._fall_back = fall_back

    @property
    def heeds_wishes(self) -> bool:
        """Whether there is a generator to set."""
        return self._generator is not None

    def demand_scope(self, question: Question) -> None:
        """Raises InvalidInput, NotFound: what can be told before anything else."""
        if not question.knowledge_base_ids:
            raise InvalidInput("name at least one knowledge base")
        if self._generator is None and question.wishes.any():
            raise InvalidInput("there is no generator that heeds `generation`: answers are extracts")
        self._knowledge_bases.demand(question.tenant, question.knowledge_base_ids)
        if question.conversation_id is not None:
            self._conversations.get(question.tenant, question.conversation_id)

    def begin(self, question: Question) -> Begun:
        """The conversation so far. Raises InvalidInput, NotFound."""
        self.demand_scope(question)
        history = self._history(question)
        return Begun(question, history, self._rewriter.rewriting(question.query, history), Clock())

    def start_rewriting(self, begun: Begun, deliver: Callable[[Delivery], None]) -> Generation:
        """Sets the generator to work on a follow-up. Raises what `ports.Generator.start` raises."""
        assert self._generator is not None
        assert begun.rewriting is not None
        return self._generator.start(begun.rewriting.prompt, begun.rewriting.sampling, deliver)

    def prepare(self, begun: Begun, rewritten: str | None = None) -> Prepared:
        """Retrieve, and pack where a model is to be asked. `rewritten` is what the generator made of the question;
        None, or what is no question, leaves it to the rules. Raises NotFound, PromptTooLarge."""
        question, history, clock = begun.question, begun.history, begun.clock
        retrieval = self._retrieved(begun, rewritten)
        found = extracts.extracts(retrieval, self._embedder)
        clock.lap("retrieve")
        language = question.language or language_of(question.query)
        plan, sampling = None, None
        if self._generator is not None and not refusal.hopeless(found.evidence_score, found.floor):
            plan = self._prompts.plan(question, retrieval.passages, history, language)
            sampling = self._prompts.sampling(question.wishes)
            clock.lap("pack")
        # The prompt may have no room for a single sentence of evidence: then there is nothing to ask a model.
        plan = plan if plan is not None and plan.passages else None
        checking = self._assembly.checking(plan) if plan is not None else None
        return Prepared(
            question, new_id(), language, history, retrieval, found, plan, sampling, checking, clock
        )  # fmt: skip

    def pack(self, question: Question, window_tokens: int | None, reply_tokens: int | None) -> PackingReport:
        """The report of the prompt that `question` would get; nothing is generated, so a follow-up is rewritten by the
        rules. Raises as `prepare` does."""
        begun = self.begin(question)
        retrieval = self._retrieved(begun, None)
        language = question.language or language_of(question.query)
        plan = self._prompts.plan(question, retrieval.passages, begun.history, language, window_tokens, reply_tokens)
        return plan.report

    def start(self, prepared: Prepared, deliver: Callable[[Delivery], None]) -> Generation:
        """Sets the generator to work on a plan. Raises what `ports.Generator.start` raises."""
        assert self._generator is not None
        assert prepared.plan is not None
        assert prepared.sampling is not None
        return self._generator.start(prepared.plan.token_ids, prepared.sampling, deliver)

    def reply(self, prepared: Prepared) -> Reply:
        assert prepared.plan is not None
        return Reply(self._prompts.guard(prepared.plan))

    def checked_so_far(self, prepared: Prepared, reply: Reply) -> str:
        """The answer as far as whole sentences of the reply have come: a beginning of the one that is concluded."""
        assert prepared.checking is not None
        return prepared.checking.assembled(reply.text, self._live_of_plan(prepared), "growing").text

    def conclude(self, prepared: Prepared, reply: Reply) -> Answer:
        """The reply with its citations checked, stored. Raises NotFound when the conversation has gone since."""
        assert prepared.plan is not None
        assert prepared.checking is not None
        assert self._generator is not None
        prepared.clock.lap("generate")
        live = self._live_of_plan(prepared)
        assembled = prepared.checking.assembled(reply.text, live, "torn" if reply.cut_off else "whole")
        prepared.clock.lap("verify")
        usage = reply.finished.usage if reply.finished else self._prompts.usage(prepared.plan, reply.raw)
        return self._record(prepared, assembled, self._generator.name, usage, reply)

    def extract(self, prepared: Prepared) -> Answer:
        """The answer without a model, stored. Raises NotFound when the conversation has gone since."""
        chosen = [one.sentence.ranked.passage.chunk_id for one in prepared.extracts.chosen()]
        prepared.clock.lap("generate")
        assembled = prepared.extracts.answer(self._live(prepared, chosen), prepared.language)
        prepared.clock.lap("verify")
        usage = Usage(0, self._prompts.count(assembled.text))
        return self._record(prepared, assembled, extracts.NAME, usage, None)

    def instead(self, prepared: Prepared, error: YoujuError, shown: bool) -> Answer:
        """The answer without the model that failed; raises `error` where nothing may stand in, or text was shown."""
        if shown or not self._fall_back or not isinstance(error, _DOWN):
            raise error
        return self.extract(prepared)

    def ask(self, question: Question, show: Callable[[Event], None] | None = None) -> Answer:
        """All steps in this thread. Raises what they raise, and what the generator fails with."""
        emit = show or (lambda event: None)
        begun = self.begin(question)
        prepared = self.prepare(begun, self._rewritten(begun) if begun.rewriting else None)
        emit(Retrieved(prepared.answer_id, prepared.retrieval))
        plan = prepared.plan
        done = Done(self.extract(prepared)) if plan is None else self._generated(prepared, plan, show)
        if done.answer.prompt_sha256 is None:
            emit(Delta(done.answer.text))
        for citation in done.answer.citations:
            emit(Cited(citation))
        emit(done)
        return done.answer

    def _rewritten(self, begun: Begun) -> str | None:
        try:
            return written(lambda deliver: self.start_rewriting(begun, deliver))
        except YoujuError as error:
            log.warning("a follow-up is left to the rules: %s: %s", error.code, error.detail)
            return None

    def _generated(self, prepared: Prepared, plan: PromptPlan, show: Callable[[Event], None] | None) -> Done:
        emit = show or (lambda event: None)
        emit(Packed(plan.report))
        reply = self.reply(prepared)
        try:
            self._follow(prepared, reply, emit)
        except YoujuError as error:
            return Done(self.instead(prepared, error, shown=show is not None and reply.begun))
        return Done(self.conclude(prepared, reply), reply.cut_off)

    def _follow(self, prepared: Prepared, reply: Reply, emit: Callable[[Event], None]) -> None:
        delivered: SimpleQueue[Delivery] = SimpleQueue()
        generation = self.start(prepared, delivered.put)
        try:
            while not reply.done:
                text = reply.take(delivered.get())
                if text:
                    emit(Delta(text))
        finally:
            generation.cancel()

    def _retrieved(self, begun: Begun, rewritten: str | None) -> Retrieval:
        question, history = begun.question, begun.history
        written = self._rewriter.accepted(rewritten, question.query, history) if rewritten is not None else None
        asked = Rewritten(written, {}) if written else self._rewriter.by_rules(question.query, history)
        return self._retriever.retrieve(
            question.tenant, question.knowledge_base_ids, asked.text, PASSAGES, PassageFilter(), asked.context
        )

    def _history(self, question: Question) -> tuple[Turn, ...]:
        """The newest exchanges, marks stripped."""
        if question.history is not None:
            turns: Sequence[Turn] = question.history[-TURNS:]
        elif question.conversation_id is None:
            turns = ()
        else:
            turns = self._conversations.turns(question.tenant, question.conversation_id, TURNS)
        return tuple(replace(turn, answer=marks.stripped(turn.answer)) for turn in turns)

    def _live_of_plan(self, prepared: Prepared) -> frozenset[int]:
        assert prepared.plan is not None
        return self._live(prepared, [ranked.passage.chunk_id for ranked in prepared.plan.passages])

    def _live(self, prepared: Prepared, chunk_ids: Sequence[int]) -> frozenset[int]:
        """The gate once more, just before anything is cited: a document may have been deleted since retrieval."""
        question = prepared.question
        return frozenset(self._store.passages(question.tenant, question.knowledge_base_ids, chunk_ids, PassageFilter()))

    def _record(
        self, prepared: Prepared, assembled: Assembled, generator: str, usage: Usage, reply: Reply | None
    ) -> Answer:
        question, plan = prepared.question, prepared.plan if reply is not None else None
        answer = Answer(
            id=prepared.answer_id, conversation_id=question.conversation_id or "", query=question.query,
            outcome=assembled.outcome, refusal=assembled.refusal, text=assembled.text, language=prepared.language,
            citations=assembled.citations, generator=generator, revision=prepared.retrieval.revision, usage=usage,
            timings_ms=prepared.clock.timings(), prompt_sha256=plan.report.prompt_sha256 if plan else None,
            created_at=0.0,
        )  # fmt: skip
        provenance = Provenance(
            retrieval_query=prepared.retrieval.query, reply=reply.raw if reply else None,
            sampling=prepared.sampling if reply else None, report=plan.report if plan else None,
            history=tuple(turn.id for turn in prepared.history),
            given=() if question.history is None else prepared.history,
            asked_language=question.language, base_revision=prepared.retrieval.base_revision,
            retrieval_context=prepared.retrieval.context,
        )  # fmt: skip
        return self._answers.record(
            question.tenant, answer, question.knowledge_base_ids, prepared.retrieval.passages, provenance
        )
