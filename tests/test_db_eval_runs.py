"""Evaluation runs, on SQLite and on PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import pytest
from rooms import PROBLEM, TENANT, Room
from sqlalchemy import update
from test_eval_metrics import result

from rag_service.db.eval_runs import EvalRun, EvalRuns, NewRun
from rag_service.db.tables import eval_runs
from rag_service.errors import LeaseLost, NotFound
from rag_service.evaluated import Result
from rag_service.evaluation import metrics

FULL = result(
    "s:zh:1", query="有几天年假？😀", direction="zh→en", gold=3, ranks=(1, 4), evidence_recall=0.5, score=None,
    outcome="answered", contained=True, citation_recall=1.0, citation_precision=0.25, quotes_exact=True,
    timings_ms={"retrieve": 1.5, "total": 2.0},
)  # fmt: skip
BARE = result("s:zh:1", variant="withheld", answerable=False, ranks=())


@pytest.fixture
def runs(room: Room) -> EvalRuns:
    return EvalRuns(room.storage.database)


def new(**members: Any) -> NewRun:
    whole: dict[str, Any] = {
        "name": "nightly", "revision": {"kb": 7}, "set_name": "xquad.zh", "set_sha256": "0" * 64,
        "settings": {"embedder": "use-multilingual", "eval_threads": 2, "nli_model": None}, "total": 2,
    }  # fmt: skip
    return NewRun(**{**whole, **members})


def test_a_run_goes_from_queued_to_its_figures(runs: EvalRuns) -> None:
    made = runs.create(TENANT, new())
    assert (made.state, made.done, made.total, made.metrics, made.finished_at) == ("queued", 0, 2, None, None)
    assert (made.knowledge_base_ids, made.revision) == (("kb",), {"kb": 7})
    assert made.settings == new().settings

    runs.add(made.id, 0, [FULL])
    running = runs.get(TENANT, made.id)
    assert (running.state, running.done) == ("running", 1)
    runs.add(made.id, 1, [BARE])
    summary = metrics.summary([FULL, BARE])
    runs.succeed(made.id, summary)

    done = runs.get(TENANT, made.id)
    assert (done.state, done.done, done.error) == ("succeeded", 2, None)
    assert done.metrics == summary
    assert list(done.metrics) == list(summary)
    assert done.finished_at is not None
    assert done.finished_at >= done.created_at


def test_results_come_back_as_they_were_in_their_order(runs: EvalRuns) -> None:
    made = runs.create(TENANT, new())
    many: list[Result] = [result(str(n)) for n in range(250)]
    runs.add(made.id, 0, [FULL, BARE])
    runs.add(made.id, 2, many)
    assert runs.results(TENANT, made.id) == [FULL, BARE, *many]


def test_a_failed_run_says_why_and_takes_nothing_more(runs: EvalRuns) -> None:
    made = runs.create(TENANT, new())
    runs.fail(made.id, PROBLEM)
    failed = runs.get(TENANT, made.id)
    assert (failed.state, failed.error) == ("failed", PROBLEM)
    assert failed.finished_at is not None
    for more in (lambda: runs.add(made.id, 0, [FULL]), lambda: runs.succeed(made.id, {}), lambda: runs.renew(made.id)):
        with pytest.raises(LeaseLost):
            more()
    assert runs.results(TENANT, made.id) == []


def test_a_finished_run_does_not_fail_afterwards(runs: EvalRuns) -> None:
    made = runs.create(TENANT, new())
    runs.succeed(made.id, {})
    runs.fail(made.id, PROBLEM)
    assert runs.get(TENANT, made.id).state == "succeeded"


@pytest.mark.parametrize("begun", [False, True])
def test_a_run_whose_process_is_gone_is_failed_by_name_when_anybody_looks(
    room: Room, runs: EvalRuns, begun: bool
) -> None:
    lost, kept = runs.create(TENANT, new()), runs.create(TENANT, new())
    if begun:
        runs.add(lost.id, 0, [FULL])
    with room.storage.database.write() as connection:
        connection.execute(
            update(eval_runs).where(eval_runs.c.id == lost.id).values(lease_until=eval_runs.c.lease_until - 61)
        )
    states = {run.id: (run.state, run.error.code if run.error else None) for run in _all(runs)}
    assert states == {lost.id: ("failed", "interrupted"), kept.id: ("queued", None)}
    assert runs.get(TENANT, lost.id).state == "failed"


def test_a_renewed_run_is_not_lost(room: Room) -> None:
    short, long = (EvalRuns(room.storage.database, lease_seconds=seconds) for seconds in (0.3, 60.0))
    made = short.create(TENANT, new())
    long.renew(made.id)
    assert long.get(TENANT, made.id).state == "queued"
    assert short.create(TENANT, new()).state == "queued"
    time.sleep(0.4)
    assert [run.state for run in _all(long)] == ["failed", "queued"]


def test_a_foreign_run_is_like_one_that_never_was(runs: EvalRuns) -> None:
    made = runs.create(TENANT, new())
    for tenant, run_id in (("other", made.id), (TENANT, "unknown")):
        with pytest.raises(NotFound):
            runs.get(tenant, run_id)
        with pytest.raises(NotFound):
            runs.results(tenant, run_id)
    assert runs.browse("other", 50, None).items == ()


def test_runs_are_listed_newest_first_in_pages(runs: EvalRuns) -> None:
    made = [runs.create(TENANT, new(name=str(n))).id for n in range(5)]
    seen, cursor = [], None
    while True:
        page = runs.browse(TENANT, 2, cursor)
        seen += [run.id for run in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert seen == made[::-1]


def test_a_run_outlives_its_knowledge_base(room: Room, runs: EvalRuns) -> None:
    made = runs.create(TENANT, new(revision={room.kb: 0}))
    runs.add(made.id, 0, [FULL])
    room.storage.delete_knowledge_base(TENANT, room.kb)
    assert runs.get(TENANT, made.id).knowledge_base_ids == (room.kb,)
    assert runs.results(TENANT, made.id) == [FULL]


def _all(runs: EvalRuns) -> tuple[EvalRun, ...]:
    return runs.browse(TENANT, 50, None).items
