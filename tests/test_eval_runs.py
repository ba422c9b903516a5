"""Whole runs over real knowledge bases: what they find, what ends them, and that they see what is broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from conftest import TENANT, Shelf
from eval_set import EvalSet, cross_set, long_set, short_set

from ingest.bootstrap import open_ingestion
from ingest.pipeline import CHUNK_TOKENS
from rag_service.bootstrap import Service, open_service
from rag_service.db.eval_runs import EvalRun
from rag_service.errors import RevisionMoved
from rag_service.evaluated import Result
from rag_service.evaluation import metrics, questions
from rag_service.evaluation.evaluations import Evaluations
from rag_service.evaluation.metrics import Compared
from rag_service.evaluation.runner import Options
from rag_service.evaluation.withholding import WithholdingStore
from rag_service.retrieval import retriever
from rag_service.retrieval.concepts import concepts_asked, words_asked
from rag_service.retrieval.fusion import ranked
from rag_service.types import Concept, Hit, Retrieval

RETRIEVAL = Options(retrieval_only=True, threads=2)


@pytest.fixture
def evaluated(shelf: Shelf) -> Service:
    return open_service(shelf.storage, gate=WithholdingStore)


def run(service: Service, kb: str, rows: Sequence[dict[str, Any]], options: Options = RETRIEVAL) -> EvalRun:
    evaluations = Evaluations(service)
    asked, faults = questions.from_rows("own", rows)
    assert faults == []
    made, task = evaluations.begin(TENANT, "run", asked, evaluations.pin(TENANT, [kb]), options, {})
    return evaluations.carry_out(made, task)


def results(service: Service, made: EvalRun) -> list[Result]:
    return service.eval_runs.results(TENANT, made.id)


def real_losses(before: Sequence[Result], after: Sequence[Result]) -> dict[tuple[str, str], Compared]:
    compared = metrics.compare(before, after)
    return {(one.direction, one.figure): one for one in compared if one.real and one.difference.value < 0}


def put(shelf: Shelf, made: EvalSet) -> None:
    assert shelf.put(dict(made.documents)).state == "succeeded"


def without_bigrams(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if questions were cut into threes while the index holds pairs."""
    monkeypatch.setattr(retriever, "words_asked", lambda *asked: tuple(map(_cut_otherwise, words_asked(*asked))))
    monkeypatch.setattr(retriever, "concepts_asked", lambda *asked: tuple(map(_cut_otherwise, concepts_asked(*asked))))


def _cut_otherwise(concept: Concept) -> Concept:
    return replace(concept, ways=tuple(replace(way, terms=tuple(map(_in_threes, way.terms))) for way in concept.ways))


def _in_threes(term: str) -> str:
    return term if term.isascii() else f"{term}{term[0]}{term[0]}"


def by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    """As others do it: two legs, each with the reciprocal ranks of its hits in the place of their scores (from 1 down,
    so that what is added to them later weighs as it does)."""
    monkeypatch.setattr(retriever, "ranked", lambda hits: ranked(_by_rank(list(hits))))


def _by_rank(hits: Sequence[Hit]) -> list[Hit]:
    dense, lexical = _ranks([hit.dense for hit in hits]), _ranks([hit.lexical for hit in hits])
    both = zip(hits, dense, lexical, strict=True)
    return [replace(hit, dense=61 / (61 + d), lexical=61 / (61 + w), bilingual=0.0) for hit, d, w in both]


def _ranks(scores: Sequence[float]) -> list[int]:
    """Of each, from 0; equal ones one after another."""
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    return [order.index(at) for at in range(len(scores))]


def test_a_run_reports_what_it_found_by_direction(shelf: Shelf, evaluated: Service) -> None:
    made = short_set()
    put(shelf, made)

    done = run(evaluated, shelf.kb, made.questions, Options(threads=2, withhold=True))

    assert (done.state, done.done, done.total) == ("succeeded", 150, 150)
    assert done.revision == {shelf.kb: shelf.storage.knowledge_bases.get(TENANT, shelf.kb).revision}
    assert done.settings["embedder"] == "use-multilingual"
    assert done.metrics is not None
    assert list(done.metrics) == ["en→en", "zh→zh", "all"]
    for name in ("en→en", "zh→zh"):
        found = done.metrics[name].figures
        assert found["R@10"].value > 0.9
        assert found["citation-recall"].value == found["citation-precision"].value == found["quotes-exact"].value == 1.0
        assert 0.0 < found["containment"].value <= 1.0
        assert {"AUROC", "refused@90", "refusal-recall", "answered"} <= found.keys()
    rows = results(evaluated, done)
    assert [(row.question_id, row.variant) for row in rows[:3]] == [
        ("zh-0", "present"), ("zh-0", "withheld"), ("zh-1", "present"),
    ]  # fmt: skip
    assert {row.ranks for row in rows if row.variant == "withheld"} == {()}
    assert all(row.timings_ms["total"] > 0 for row in rows)


def test_the_same_run_again_finds_the_same(shelf: Shelf, evaluated: Service) -> None:
    made = short_set()
    put(shelf, made)
    first, second = (
        results(evaluated, run(evaluated, shelf.kb, made.questions, Options(threads=threads, retrieval_only=True)))
        for threads in (1, 4)
    )
    assert [replace(one, timings_ms={}) for one in first] == [replace(one, timings_ms={}) for one in second]
    assert not any(one.real for one in metrics.compare(first, second))


def test_nothing_asked_in_a_run_is_stored_as_an_answer(shelf: Shelf, evaluated: Service) -> None:
    shelf.put({"a.txt": "The office opens at nine."})
    run(evaluated, shelf.kb, [{"id": "q", "text": "Who is the king of France?", "answerable": False}], Options())
    assert evaluated.unanswered.browse(TENANT, None, 50, None).items == ()
    assert evaluated.conversations.browse(TENANT, 50, None).items == ()


def test_a_withheld_passage_is_never_found_and_the_others_still_are(shelf: Shelf, evaluated: Service) -> None:
    shelf.put({"nine.txt": "The office opens at nine.", "ten.txt": "The library opens at ten."})
    rows = [{"id": "q", "text": "When does the office open?", "relevant": ["nine.txt"], "answers": ["nine"]}]
    present, withheld = results(evaluated, run(evaluated, shelf.kb, rows, Options(withhold=True)))
    assert (present.ranks, present.answerable, present.contained) == ((1,), True, True)
    assert (withheld.ranks, withheld.answerable, withheld.contained) == ((), False, None)
    assert withheld.score is not None
    assert present.score is not None
    assert withheld.score < present.score


def test_a_knowledge_base_that_changes_under_way_ends_the_run_by_name(shelf: Shelf, evaluated: Service) -> None:
    shelf.put({"nine.txt": "The office opens at nine."})
    evaluations = Evaluations(evaluated)
    asked, _ = questions.from_rows("own", [{"id": "q", "text": "When does the office open?"}])
    made, task = evaluations.begin(TENANT, "run", asked, evaluations.pin(TENANT, [shelf.kb]), RETRIEVAL, {})
    shelf.put({"ten.txt": "The library opens at ten."})

    with pytest.raises(RevisionMoved, match="from revision 1 to 2"):
        evaluations.carry_out(made, task)

    failed = evaluated.eval_runs.get(TENANT, made.id)
    assert failed.error is not None
    assert (failed.state, failed.error.code, failed.metrics) == ("failed", "revision-moved", None)


def test_a_fault_that_nobody_foresaw_fails_the_run_and_goes_on_up(
    shelf: Shelf, evaluated: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.put({"nine.txt": "The office opens at nine."})

    def broken(*asked: Any) -> Retrieval:
        raise RuntimeError("cosmic ray")

    monkeypatch.setattr(evaluated.retriever, "retrieve", broken)
    with pytest.raises(RuntimeError, match="cosmic ray"):
        run(evaluated, shelf.kb, [{"id": "q", "text": "When does the office open?"}])
    [failed] = evaluated.eval_runs.browse(TENANT, 50, None).items
    assert failed.error is not None
    assert (failed.state, failed.error.code) == ("failed", "internal")
    assert "cosmic" not in failed.error.detail


@pytest.mark.parametrize(
    ("rewriting", "ranks"), [("off", ()), ("rules", (1,)), ("human", (1,))], ids=["off", "rules", "human"]
)
@pytest.mark.parametrize("retrieval_only", [True, False], ids=["retrieval", "answers"])
def test_follow_ups_are_rewritten_as_the_run_was_told(
    shelf: Shelf, evaluated: Service, rewriting: Any, ranks: tuple[int, ...], retrieval_only: bool
) -> None:
    made = short_set()
    put(shelf, made)
    history = [
        {"role": "user", "content": "How long is the warranty of the Osprey projector?"},
        {"role": "assistant", "content": "It has a warranty of 18 months."},
    ]
    row = {
        "id": "q", "text": "And who arranges its repairs?", "relevant": ["en-12.txt"], "history": history,
        "rewrite": "Who arranges repairs of the Osprey projector?",
    }  # fmt: skip
    options = Options(retrieval_only=retrieval_only, rewriting=rewriting)
    [found] = results(evaluated, run(evaluated, shelf.kb, [row], options))
    assert found.ranks[:1] == ranks or (rewriting == "off" and found.ranks[:1] != (1,))


@pytest.mark.parametrize(
    ("broken", "made", "direction"),
    [(without_bigrams, short_set(), "zh→zh"), (by_rank, cross_set(), "zh→en")],
    ids=["bigrams", "fusion by rank"],
)
def test_a_broken_retriever_is_told_from_chance(
    shelf: Shelf,
    evaluated: Service,
    monkeypatch: pytest.MonkeyPatch,
    broken: Callable[[pytest.MonkeyPatch], None],
    made: EvalSet,
    direction: str,
) -> None:
    put(shelf, made)
    sound = results(evaluated, run(evaluated, shelf.kb, made.questions))
    broken(monkeypatch)
    after = results(evaluated, run(evaluated, shelf.kb, made.questions))

    losses = real_losses(sound, after)
    assert (direction, "R@1") in losses
    assert (direction, "nDCG@10") in losses
    # What is not broken is not called so.
    assert not any(name == "en→en" for name, _ in losses)


def test_chunks_of_half_the_size_are_told_from_chance(
    shelf: Shelf, evaluated: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = long_set()
    put(shelf, made)
    sound = results(evaluated, run(evaluated, shelf.kb, made.questions))
    monkeypatch.setattr("ingest.bootstrap.CHUNK_TOKENS", CHUNK_TOKENS // 2)
    with closing(open_ingestion(shelf.storage.settings)) as halving:
        kb = shelf.storage.knowledge_bases.create(TENANT, "halves").id
        put(replace(shelf, ingestion=halving, kb=kb), made)
    after = results(evaluated, run(evaluated, kb, made.questions))

    losses = real_losses(sound, after)
    assert ("en→en", "evidence@5") in losses
