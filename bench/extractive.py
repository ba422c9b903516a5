"""Refusal on the sets that are made to mislead: does the evidence score tell what can be answered, and better than how
similar the nearest passage is?

SQuAD 2.0 asks what its own passage nearly answers, CLAP NQ asks what Wikipedia does not say; RGB gives each question
five pages of a web search, at noise 1.0 none of which answers. Answers and refusal over XQuAD are measured beside
retrieval (`bench.retrieval`), by the code of `youju eval`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.evalset import corpus, rows
from bench.results import Result
from ingest.bootstrap import open_ingestion
from ingest.parsers.registry import parser_for
from rag_service import config
from rag_service.answering.extracts import extracts
from rag_service.bootstrap import Service, Storage, open_service, open_storage
from rag_service.errors import ParseFailed
from rag_service.evaluation.bootstrap import Separation, estimate
from rag_service.evaluation.corpus import Loader, documents_of, load
from rag_service.evaluation.corpus import corpus as known
from rag_service.evaluation.questions import Passage
from rag_service.types import PassageFilter

Measure = Literal["auroc", "rejected"]
TENANT = "bench"
_PASSAGES = 8
_PAGES = 5
_RGB = (("rgb", "zh"), ("rgb", "en"))


@dataclass(frozen=True, slots=True)
class _Asked:
    """`among` are the passages that there are for this question; None: the whole knowledge base."""

    text: str
    answerable: bool
    among: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class _Scored:
    answerable: bool
    evidence: float
    similarity: float


def run(evaluation: Path, scratch: Path) -> list[Result]:
    settings = config.load(data=scratch / "extractive")
    with closing(open_storage(settings)) as storage, closing(open_ingestion(settings)) as ingestion:
        loader = Loader(ingestion.worker.run, ingestion.compactor.look_at)
        service = open_service(storage)
        return list(_results(evaluation, storage, loader, service))


def _results(evaluation: Path, storage: Storage, loader: Loader, service: Service) -> Iterator[Result]:
    for name in ("squad", "clapnq"):
        asked = [_Asked(row["text"], row["answerable"]) for row in rows(evaluation, "queries", name, "en")]
        base = _Base(storage, loader, service, name, corpus(evaluation, ((name, "en"),)))
        yield from _compared(f"{name}, en", [base.ask(one) for one in asked])
    for name, language in _RGB:
        asked = list(_rgb(rows(evaluation, "queries", name, language)))
        needed = {passage for one in asked for passage in one.among or ()}
        found = (row for row in corpus(evaluation, ((name, language),)) if row["id"] in needed)
        passages = [row for row in found if _is_readable(row["text"])]
        base = _Base(storage, loader, service, f"{name}-{language}", passages)
        yield from _compared(f"{name}, {language}, noise 1.0 against 0", [base.ask(one) for one in asked])


def _rgb(questions: Sequence[dict[str, Any]]) -> Iterator[_Asked]:
    """Each question with the first pages that answer it, and with as many that do not. A question that puts several
    answers together is asked with a page of each."""
    for row in questions:
        if len(row.get("negative", ())) < _PAGES:
            continue
        flat = [ids[0] if isinstance(ids, list) else ids for ids in row["positive"]]
        yield _Asked(row["text"], True, tuple((flat + row["negative"])[:_PAGES]))
        yield _Asked(row["text"], False, tuple(row["negative"][:_PAGES]))


def _is_readable(text: str) -> bool:
    """Some pages of RGB were decoded wrongly before they were saved: ingestion says so and does not take them in."""
    try:
        parser_for("text/plain").parse(text.encode())
    except ParseFailed:
        return False
    return True


class _Base:
    """A knowledge base of some passages of the sets."""

    def __init__(
        self, storage: Storage, loader: Loader, service: Service, name: str, passages: Sequence[dict[str, Any]]
    ) -> None:
        self._service = service
        self._id = storage.knowledge_bases.create(TENANT, name).id
        given = [Passage(row["id"], row["lang"], row["text"]) for row in passages]
        load(storage.intake, storage.documents, loader, TENANT, self._id, given, lambda *_: None)
        self._corpus = known(documents_of(storage.documents, TENANT, [self._id]), given)

    def ask(self, asked: _Asked) -> _Scored:
        retrieval = self._service.retriever.retrieve(
            TENANT, [self._id], asked.text, _PASSAGES, PassageFilter(self._documents(asked))
        )
        score = extracts(retrieval, self._service.embedder).evidence_score
        similarity = max((ranked.scores.dense for ranked in retrieval.passages), default=0.0)
        return _Scored(asked.answerable, score, similarity)

    def _documents(self, asked: _Asked) -> frozenset[str] | None:
        if asked.among is None:
            return None
        keys = (self._corpus.named[passage] for passage in asked.among if passage in self._corpus.named)
        return frozenset(document for key in keys for document in self._corpus.documents[key])


def _compared(what: str, scored: Sequence[_Scored]) -> Iterator[Result]:
    yield _result(what, scored, "auroc")
    yield _result(what, scored, "rejected")


def _result(what: str, scored: Sequence[_Scored], measure: Measure) -> Result:
    evidence, similarity = (
        estimate(_separation([getattr(one, name) for one in scored], scored, measure), len(scored))
        for name in ("evidence", "similarity")
    )
    assert evidence is not None
    assert similarity is not None
    figure = "AUROC of the evidence score" if measure == "auroc" else "refused where 90 % of what has one is answered"
    return Result(
        f"{what}, {len(scored)} questions, {figure}", f"> {similarity.value:.3f}, by similarity",
        f"{evidence.value:.3f} ({evidence.low:.3f}–{evidence.high:.3f})", evidence.value > similarity.value,
    )  # fmt: skip


def _separation(scores: Sequence[float], scored: Sequence[_Scored], measure: Measure) -> Separation:
    positive = np.array([one.answerable for one in scored])
    return Separation(len(scored), np.arange(len(scored)), np.array(scores), positive, measure)
