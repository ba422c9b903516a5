"""A question set put to knowledge bases at one revision, question by question. Nothing of it is stored as answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from time import perf_counter
from typing import Literal

from rag_service.answering import question as asking
from rag_service.answering.ask import Asker, Prepared
from rag_service.answering.assembly import Assembled
from rag_service.answering.verification.verifier import Verifier
from rag_service.answering.writing import written
from rag_service.errors import RevisionMoved
from rag_service.evaluated import Result, Variant
from rag_service.evaluation import citing, metrics
from rag_service.evaluation.citing import CitationScores
from rag_service.evaluation.corpus import Corpus
from rag_service.evaluation.questions import Question
from rag_service.evaluation.withholding import withheld
from rag_service.ports import Delivery
from rag_service.retrieval.retriever import Retriever
from rag_service.retrieval.rewriting import rewritten
from rag_service.types import Citation, Passage, PassageFilter, Retrieval, Turn

Rewriting = Literal["rules", "off", "human"]
_WAITING = 16
"""Questions handed to the threads ahead of time."""


@dataclass(frozen=True, slots=True)
class Options:
    """`rewriting` of follow-ups: as the service does it, not at all, or by the set's own rewrites. `withhold`: every
    question once more without its gold passages; the service must have been opened with the gate for it."""

    retrieval_only: bool = False
    rewriting: Rewriting = "rules"
    withhold: bool = False
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """`revision` is that of each knowledge base when the run was begun."""

    tenant: str
    revision: Mapping[str, int]
    questions: Sequence[Question]
    corpus: Corpus
    options: Options

    @property
    def size(self) -> int:
        """How many results there will be."""
        return sum(1 for _ in _asked(self))


class Runner:
    def __init__(self, retriever: Retriever, asker: Asker, verifier: Verifier) -> None:
        self._retriever = retriever
        self._asker = asker
        self._supports = citing.judge(verifier)

    def run(self, task: Task) -> Iterator[Result]:
        """A result for each question and variant, in order. Raises RevisionMoved when a knowledge base changes under
        way, and what answering raises; a loop that is left ends the work."""
        asked = _asked(task)
        with ThreadPoolExecutor(task.options.threads, thread_name_prefix="evaluate") as threads:
            waiting = [self._submit(threads, task, *one) for one in islice(asked, task.options.threads + _WAITING)]
            try:
                while waiting:
                    yield waiting.pop(0).result()
                    waiting += [self._submit(threads, task, *one) for one in islice(asked, 1)]
            finally:
                for future in waiting:
                    future.cancel()

    def _submit(self, threads: ThreadPoolExecutor, task: Task, question: Question, variant: Variant) -> Future[Result]:
        return threads.submit(self._result, task, question, variant)

    def _result(self, task: Task, question: Question, variant: Variant) -> Result:
        gold = task.corpus.gold(question)
        gone = [one for key in gold for one in task.corpus.documents[key]] if variant == "withheld" else []
        with withheld(gone):
            found = self._retrieval_result if task.options.retrieval_only else self._answer_result
            return found(task, question, variant, gold)

    def _retrieval_result(self, task: Task, question: Question, variant: Variant, gold: Sequence[str]) -> Result:
        query, history = _as_asked(question, task.options.rewriting)
        asked = rewritten(query, history)
        begun = perf_counter()
        retrieval = self._retrieve(task, asked.text, asked.context)
        result = _retrieved(task, question, variant, gold, retrieval)
        milliseconds = round((perf_counter() - begun) * 1000, 2)
        score = retrieval.passages[0].score if retrieval.passages else None
        return replace(result, score=score, timings_ms={"retrieve": milliseconds})

    def _answer_result(self, task: Task, question: Question, variant: Variant, gold: Sequence[str]) -> Result:
        prepared, assembled = self._answered(task, question)
        _demand_revision(task, prepared.retrieval)
        retrieval = self._retrieve(task, prepared.retrieval.query, prepared.retrieval.context)
        result = _retrieved(task, question, variant, gold, retrieval)
        answered = assembled.outcome != "refused"
        passages = {r.passage.chunk_id: r.passage for r in prepared.retrieval.passages}
        scores = self._citation_scores(assembled, passages) if answered else None
        contained = answered and metrics.holds(assembled.text, question.answers)
        return replace(
            result,
            score=_evidence_score(prepared), outcome=assembled.outcome,
            contained=contained if question.answers and result.answerable else None,
            citation_recall=scores.recall if scores else None,
            citation_precision=scores.precision if scores else None,
            quotes_exact=all(_is_exact(c, passages) for c in assembled.citations) if answered else None,
            timings_ms=prepared.clock.timings(),
        )  # fmt: skip

    def _retrieve(self, task: Task, query: str, context: Mapping[str, float]) -> Retrieval:
        scope = list(task.revision)
        retrieval = self._retriever.retrieve(task.tenant, scope, query, metrics.TOP_K, PassageFilter(), context)
        _demand_revision(task, retrieval)
        return retrieval

    def _answered(self, task: Task, question: Question) -> tuple[Prepared, Assembled]:
        """As `Asker.ask` does it, but for storing it."""
        query, history = _as_asked(question, task.options.rewriting)
        begun = self._asker.begin(asking.Question(task.tenant, query, tuple(task.revision), history=history))
        by_generator = written(partial(self._asker.start_rewriting, begun)) if begun.rewriting else None
        prepared = self._asker.prepare(begun, by_generator)
        live = {ranked.passage.chunk_id for ranked in prepared.retrieval.passages}
        if prepared.plan is None or prepared.checking is None:
            assembled = prepared.extracts.answer(live, prepared.language)
            prepared.clock.lap("generate")
            return prepared, assembled
        reply = self._asker.reply(prepared)
        delivered: SimpleQueue[Delivery] = SimpleQueue()
        generation = self._asker.start(prepared, delivered.put)
        try:
            while not reply.done:
                reply.take(delivered.get())
        finally:
            generation.cancel()
        prepared.clock.lap("generate")
        assembled = prepared.checking.assembled(reply.text, live, "torn" if reply.cut_off else "whole")
        prepared.clock.lap("verify")
        return prepared, assembled

    def _citation_scores(self, assembled: Assembled, passages: Mapping[int, Passage]) -> CitationScores | None:
        cited = {c.marker: passages[c.chunk_id] for c in assembled.citations if c.chunk_id in passages}
        return citing.citation_scores(assembled.text, cited, self._supports)


def _asked(task: Task) -> Iterator[tuple[Question, Variant]]:
    for question in task.questions:
        yield question, "present"
        if task.options.withhold and question.answerable and question.gold:
            yield question, "withheld"


def _as_asked(question: Question, rewriting: Rewriting) -> tuple[str, tuple[Turn, ...]]:
    if rewriting == "human" and question.rewrite:
        return question.rewrite, ()
    return question.text, () if rewriting == "off" else question.history


def _retrieved(task: Task, question: Question, variant: Variant, gold: Sequence[str], retrieval: Retrieval) -> Result:
    found = [task.corpus.key(ranked.passage.document_id) for ranked in retrieval.passages]
    texts = [ranked.passage.text for ranked in retrieval.passages[: metrics.EVIDENCE_PASSAGES]]
    return Result(
        question_id=question.id, variant=variant, query=question.text, direction=task.corpus.direction(question),
        answerable=question.answerable and variant == "present", gold=len(gold), ranks=metrics.ranks_of(found, gold),
        evidence_recall=metrics.evidence_recall(texts, question.evidence) if question.evidence else None,
        score=None, outcome=None, contained=None, citation_recall=None, citation_precision=None, quotes_exact=None,
        timings_ms={},
    )  # fmt: skip


def _evidence_score(prepared: Prepared) -> float | None:
    """The one place that says what a question's evidence is worth."""
    return prepared.extracts.evidence_score


def _is_exact(citation: Citation, passages: Mapping[int, Passage]) -> bool:
    passage = passages.get(citation.chunk_id)
    if passage is None:
        return False
    start, end = citation.char_start - passage.char_start, citation.char_end - passage.char_start
    return 0 <= start < end and passage.text[start:end] == citation.quote


def _demand_revision(task: Task, retrieval: Retrieval) -> None:
    for knowledge_base_id, pinned in task.revision.items():
        if (found := retrieval.revision[knowledge_base_id]) != pinned:
            raise RevisionMoved(
                f"the knowledge base went from revision {pinned} to {found} during the run",
                knowledge_base_id=knowledge_base_id, pinned=pinned, found=found,
            )  # fmt: skip
