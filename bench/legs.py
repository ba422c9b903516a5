"""Does joining the legs pay? What retrieval finds, beside what each leg finds alone, on the same questions.

A leg alone is the order by its own score: the cosine, BM25 of the question's own terms, BM25 of its words and their
translations. The index hands out the best passages of every leg with their scores, so the first ten by one leg are the
first ten that this leg would find without the others. The better leg is the best of the three, chosen by the very
questions that it is measured with, so the comparison favours it.

Each set is a knowledge base of its own, taken in as documents are in use, with every passage that the set has.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.evalset import path
from bench.results import Result
from ingest.bootstrap import open_ingestion
from rag_service import config
from rag_service.bootstrap import Service, Storage, open_service, open_storage
from rag_service.dictionary.bilingual import Bilingual
from rag_service.eval_command import threads_here
from rag_service.evaluation import metrics, questions
from rag_service.evaluation.bootstrap import Ratio, difference
from rag_service.evaluation.corpus import Corpus, Loader, corpus, documents_of, load, unknown
from rag_service.evaluation.questions import Passage, Question
from rag_service.ports import Candidates, IndexQuery
from rag_service.retrieval.concepts import concepts_asked, words_asked
from rag_service.types import EVERYTHING

Leg = Literal["dense", "lexical", "bilingual"]
TENANT = "bench"
_LEGS: tuple[Leg, ...] = ("dense", "lexical", "bilingual")
_MOST_QUESTIONS = 700
_SEED = 20_261_126
_DEPTH = 64
"""Passages of each leg, so that there are ten documents among them however many passages each has."""


@dataclass(frozen=True, slots=True)
class _Case:
    """`gained` is what R@1 is to be above that of the better leg."""

    name: str
    language: str
    gained: float


_CASES = (
    _Case("cmrc", "zh", 0.01),
    _Case("drcd", "zh-Hant", 0.01),
    _Case("squad", "en", 0.01),
    _Case("crud", "zh", 0.01),
    _Case("clapnq", "en", 0.01),
    _Case("xquad", "zh", 0.0),
    _Case("xquad", "en", 0.0),
    _Case("pubmedqa", "en", 0.0),
)


@dataclass(frozen=True, slots=True)
class _Ranks:
    """Of the gold passages of one question among the first ten documents, in each way to find them."""

    gold: int
    hybrid: tuple[int, ...]
    alone: dict[Leg, tuple[int, ...]]


def run(evaluation: Path, scratch: Path) -> list[Result]:
    settings = config.load(data=scratch / "legs")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        loader = Loader(ingestion.worker.run, ingestion.compactor.look_at)
        with closing(open_service(storage, generates=False)) as service:
            return [result for case in _CASES for result in _of_set(evaluation, storage, loader, service, case)]


def _of_set(evaluation: Path, storage: Storage, loader: Loader, service: Service, case: _Case) -> Iterator[Result]:
    passages, faults = questions.read_passages([path(evaluation, "passages", case.name, case.language)])
    equivalents, more = questions.read_equivalents(evaluation / "passages" / "equivalents.json")
    questions.demand(faults + more)
    base = storage.knowledge_bases.create(TENANT, f"{case.name}-{case.language}").id
    load(storage.intake, storage.documents, loader, TENANT, base, passages, lambda *_: None)
    legs = _Legs(storage, service, base, passages, equivalents)
    yield from _compared(case, legs.ask_all(_sample(evaluation, case)))


def _sample(evaluation: Path, case: _Case) -> list[Question]:
    """Of those that have an answer in the set; the same ones every time."""
    asked, faults = questions.read([path(evaluation, "queries", case.name, case.language)])
    questions.demand(faults)
    found = [question for question in asked.questions if question.answerable and question.gold]
    return random.Random(_SEED).sample(found, min(_MOST_QUESTIONS, len(found)))


class _Legs:
    """A knowledge base that is asked by all legs together and by each alone."""

    def __init__(
        self,
        storage: Storage,
        service: Service,
        base: str,
        passages: Sequence[Passage],
        equivalents: Sequence[Sequence[str]],
    ) -> None:
        self._service = service
        self._base = base
        self._translations = Bilingual()
        self._corpus: Corpus = corpus(documents_of(storage.documents, TENANT, [base]), passages, equivalents)

    def ask_all(self, asked: Sequence[Question]) -> list[_Ranks]:
        questions.demand(unknown(asked, self._corpus))
        with ThreadPoolExecutor(threads_here()) as threads:
            return list(threads.map(self._ask, asked))

    def _ask(self, question: Question) -> _Ranks:
        gold = self._corpus.gold(question)
        found = self._service.retriever.retrieve(TENANT, [self._base], question.text, metrics.TOP_K, EVERYTHING)
        hybrid = [self._corpus.key(ranked.passage.document_id) for ranked in found.passages]
        by_leg = self._found_alone(question.text)
        return _Ranks(
            len(gold),
            metrics.ranks_of(hybrid, gold),
            {leg: metrics.ranks_of(_first(keys), gold) for leg, keys in by_leg.items()},
        )

    def _found_alone(self, text: str) -> dict[Leg, list[str]]:
        """What the passages found count as, best first by each leg alone."""
        candidates = self._candidates(text)
        ids = [hit.chunk_id for hit in candidates.hits]
        passages = self._service.store.passages(TENANT, [self._base], ids, EVERYTHING)
        found: dict[Leg, list[str]] = {}
        for leg in _LEGS:
            told = [hit for hit in candidates.hits if getattr(hit, leg) > 0.0]
            order = sorted(told, key=lambda hit: (-getattr(hit, leg), hit.chunk_id))
            found[leg] = [self._corpus.key(passages[hit.chunk_id].document_id) for hit in order]
        return found

    def _candidates(self, text: str) -> Candidates:
        """As the retriever asks for them."""
        words, concepts = words_asked(text), concepts_asked(text, self._translations)

        def asked(embedder: str) -> IndexQuery:
            return IndexQuery(self._service.embedders.embed_query(embedder, text), words, concepts)

        return self._service.index.search(self._base, asked, _DEPTH)


def _first(keys: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(keys))[: metrics.TOP_K]


def _compared(case: _Case, found: Sequence[_Ranks]) -> Iterator[Result]:
    what = f"{case.name}, {case.language}, {len(found)} questions"
    together = _recall([one.hybrid for one in found], found, 1)
    alone = {leg: _recall([one.alone[leg] for one in found], found, 1) for leg in _LEGS}
    better = max(_LEGS, key=lambda leg: float(alone[leg].parts.sum()))
    apart = difference(alone[better], together)
    assert apart is not None
    yield Result(
        f"{what}, R@1 of all legs less the better one, {better}", f"≥ {case.gained:+.3f}",
        f"{apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f}), {apart.second:.3f} less {apart.first:.3f}",
        round(apart.value, 4) >= case.gained,
    )  # fmt: skip
    shown = [("all", _shown([one.hybrid for one in found], found))]
    shown += [(leg, _shown([one.alone[leg] for one in found], found)) for leg in _LEGS]
    yield Result(f"{what}, R@1 / R@10", "–", ", ".join(f"{name} {figures}" for name, figures in shown), None)


def _shown(ranks: Sequence[tuple[int, ...]], found: Sequence[_Ranks]) -> str:
    return " / ".join(f"{_mean(_recall(ranks, found, k)):.3f}" for k in (1, 10))


def _recall(ranks: Sequence[tuple[int, ...]], found: Sequence[_Ranks], k: int) -> Ratio:
    shares = [metrics.recall(own, one.gold, k) for own, one in zip(ranks, found, strict=True)]
    return Ratio(np.array(shares), np.ones(len(shares)))


def _mean(ratio: Ratio) -> float:
    return float(ratio.parts.sum() / ratio.wholes.sum())
