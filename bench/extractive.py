"""Refusal on the sets that are made to mislead: does the evidence score tell what can be answered, and better than how
similar the nearest passage is?

SQuAD 2.0 asks what its own passage nearly answers, CLAP NQ asks what Wikipedia does not say. RGB gives each question
five pages of a web search and no more, at noise 1.0 none that answers it: so a question of RGB is restricted to its own
five documents. Answers and refusal over XQuAD are measured beside retrieval (`bench.retrieval`), by the code of
`youju eval`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.evalset import path, rows
from bench.results import Result
from ingest.bootstrap import open_ingestion
from ingest.parsers.registry import parser_for
from rag_service import config
from rag_service.answering.extracts import extracts
from rag_service.bootstrap import Service, Storage, open_service, open_storage
from rag_service.errors import ParseFailed
from rag_service.eval_command import threads_here
from rag_service.evaluation import questions
from rag_service.evaluation.bootstrap import Separation, difference
from rag_service.evaluation.corpus import Loader, documents_of, load
from rag_service.evaluation.corpus import corpus as known
from rag_service.evaluation.questions import Passage
from rag_service.types import PassageFilter

Measure = Literal["auroc", "rejected"]
TENANT = "bench"
_PASSAGES = 8
_PAGES = 5
_NOISES = (("0", _PAGES), (".8", 1))
"""RGB's noise ratio where there is an answer, and how many of the five pages give it then, as far as there are any."""
_MEASURES: tuple[tuple[Measure, str], ...] = (
    ("auroc", "AUROC of the evidence score"),
    ("rejected", "refused where 90 % of what has an answer is answered"),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """`among` are the passages that there are for this question; None: the whole knowledge base."""

    id: str
    text: str
    answerable: bool
    among: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Scored:
    id: str
    answerable: bool
    evidence: float
    similarity: float


def run(evaluation: Path, scratch: Path) -> list[Result]:
    settings = config.load(data=scratch / "extractive")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        loader = Loader(ingestion.worker.run, ingestion.compactor.look_at)
        with closing(open_service(storage, generates=False)) as service:
            return list(_results(evaluation, storage, loader, service))


def _results(evaluation: Path, storage: Storage, loader: Loader, service: Service) -> Iterator[Result]:
    for name in ("squad", "clapnq"):
        base = _Base(storage, loader, service, name, _passages(evaluation, name, "en"))
        asked = [_Asked(row["id"], row["text"], row["answerable"]) for row in rows(evaluation, "queries", name, "en")]
        yield from _compared(f"{name}, en", base.ask_all(asked))
    for language in ("zh", "en"):
        pages = {page.id: page for page in _passages(evaluation, "rgb", language) if _is_readable(page)}
        given = rows(evaluation, "queries", "rgb", language)
        by_noise = {noise: list(_rgb(given, pages.keys(), answering)) for noise, answering in _NOISES}
        needed = dict.fromkeys(name for asked in by_noise.values() for one in asked for name in one.among or ())
        base = _Base(storage, loader, service, f"rgb-{language}", [pages[name] for name in needed])
        for noise, asked in by_noise.items():
            yield from _compared(f"rgb, {language}, noise 1.0 against {noise}", base.ask_all(asked))


def _passages(evaluation: Path, name: str, language: str) -> list[Passage]:
    found, faults = questions.read_passages([path(evaluation, "passages", name, language)])
    questions.demand(faults)
    return found


def _is_readable(passage: Passage) -> bool:
    """Some pages of RGB were decoded wrongly before they were saved: ingestion says so and does not take them in."""
    try:
        parser_for("text/plain").parse(passage.text.encode())
    except ParseFailed:
        return False
    return True


def _rgb(given: Sequence[dict[str, Any]], readable: Set[str], answering: int) -> Iterator[_Asked]:
    """Each question with five pages, of which up to `answering` answer it, and with five that do not.

    Where there are fewer that do not, RGB takes what there is, and so it is done here, both times: how many pages a
    search has found is not to tell what they say. A question without pages of either kind is left out.
    """
    for row in given:
        positive = _one_of_each_first(row["positive"], answering, readable)
        negative = [name for name in row.get("negative", ()) if name in readable][:_PAGES]
        if positive and negative:
            yield _Asked(row["id"], row["text"], True, tuple([*positive, *negative][: len(negative)]))
            yield _Asked(row["id"], row["text"], False, tuple(negative))


def _one_of_each_first(positive: Sequence[Any], most: int, readable: Set[str]) -> list[str]:
    """A question that puts several answers together has a list of pages for each, and needs a page of each at least."""
    several = any(isinstance(pages, list) for pages in positive)
    by_answer = [[page for page in pages if page in readable] for pages in (positive if several else [positive])]
    in_turn = [page for page in chain.from_iterable(zip_longest(*by_answer)) if page is not None]
    return in_turn[: max(most, len(by_answer))] if all(by_answer) else []


class _Base:
    """A knowledge base of some passages of the sets."""

    def __init__(
        self, storage: Storage, loader: Loader, service: Service, name: str, passages: Sequence[Passage]
    ) -> None:
        self._service = service
        self._id = storage.knowledge_bases.create(TENANT, name).id
        load(storage.intake, storage.documents, loader, TENANT, self._id, passages, lambda *_: None)
        self._corpus = known(documents_of(storage.documents, TENANT, [self._id]), passages)

    def ask_all(self, asked: Sequence[_Asked]) -> list[_Scored]:
        with ThreadPoolExecutor(threads_here()) as threads:
            return list(threads.map(self._ask, asked))

    def _ask(self, asked: _Asked) -> _Scored:
        only = PassageFilter(self._documents(asked))
        retrieval = self._service.retriever.retrieve(TENANT, [self._id], asked.text, _PASSAGES, only)
        score = extracts(retrieval, self._service.embedder).evidence_score
        similarity = max((ranked.scores.dense for ranked in retrieval.passages), default=0.0)
        return _Scored(asked.id, asked.answerable, score, similarity)

    def _documents(self, asked: _Asked) -> frozenset[str] | None:
        if asked.among is None:
            return None
        keys = (self._corpus.named[passage] for passage in asked.among)
        return frozenset(document for key in keys for document in self._corpus.documents[key])


def _compared(what: str, scored: Sequence[_Scored]) -> Iterator[Result]:
    asked = len({one.id for one in scored})
    for measure, shown in _MEASURES:
        similarity = _separation([one.similarity for one in scored], scored, measure)
        evidence = _separation([one.evidence for one in scored], scored, measure)
        apart = difference(similarity, evidence)
        assert apart is not None
        yield Result(
            f"{what}, {asked} questions, {shown}", f"> {apart.first:.3f}, by similarity",
            f"{apart.second:.3f}, {apart.value:+.3f} ({apart.low:+.3f} to {apart.high:+.3f})", apart.value > 0.0,
        )  # fmt: skip


def _separation(scores: Sequence[float], scored: Sequence[_Scored], measure: Measure) -> Separation:
    """Of a question asked twice both scores count together when it is drawn."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(one.id for one in scored))}
    owners = np.array([numbers[one.id] for one in scored])
    positive = np.array([one.answerable for one in scored])
    return Separation(len(numbers), owners, np.array(scores), positive, measure)
