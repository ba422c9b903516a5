"""`youju eval`: what the command does, from the files it is given to its exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markdown import Markdown

from rag_service import console
from rag_service.bootstrap import Service, Storage, open_service
from rag_service.db.eval_runs import EvalRun, EvalRuns
from rag_service.db.sessions import new_id
from rag_service.errors import InvalidInput, NotFound
from rag_service.evaluated import Result, Summary
from rag_service.evaluation import gates, metrics, plot, questions, report
from rag_service.evaluation.corpus import Corpus, Loader, corpus, documents_of, load, unknown
from rag_service.evaluation.evaluations import Evaluations
from rag_service.evaluation.metrics import Compared
from rag_service.evaluation.questions import AnswerRule, Fault, Passage, QuestionSet
from rag_service.evaluation.runner import Options
from rag_service.evaluation.withholding import WithholdingStore

_PASSED, _MISSED = 0, 1
STANDARD_OUTPUT = Path("-")
_EQUIVALENTS = "equivalents.json"


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line says; `thresholds` as they were typed."""

    sets: Sequence[Path]
    tenant: str
    knowledge_bases: Sequence[str]
    passages: Sequence[Path]
    keep: bool
    gold: str
    answers_from: Path | None
    rule: AnswerRule
    options: Options
    json_to: Path | None
    markdown_to: Path | None
    plot_to: Path | None
    compare_with: str | None
    thresholds: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Read:
    """Everything the files say, found to be right."""

    asked: QuestionSet
    passages: list[Passage]
    equivalents: list[list[str]]


def evaluate(storage: Storage, loader: Loader | None, request: Request, quiet: bool) -> int:
    """The exit code: 1 when a threshold was missed. Raises YoujuError, OSError. `loader` is needed for passages."""
    demanded = gates.gates(request.thresholds)
    _demand_possible(request)
    before = [] if request.compare_with is None else _earlier(storage, request.tenant, request.compare_with)
    read = _read(storage, request)
    with _knowledge_bases(storage, loader, request, read, quiet) as knowledge_base_ids:
        generates = not request.options.retrieval_only
        with closing(open_service(storage, generates=generates, gate=WithholdingStore)) as service:
            run = _carried_out(service, request, read, knowledge_base_ids, quiet)
            results = service.eval_runs.results(request.tenant, run.id)
    compared = None if request.compare_with is None else metrics.compare(before, results)
    return _told(request, run, compared, gates.missed(_figures(run), demanded))


def threads_here() -> int:
    return len(os.sched_getaffinity(0))


def _read(storage: Storage, request: Request) -> _Read:
    """Raises InvalidInput naming every fault of every file, before anything is taken in."""
    asked, faults = questions.read(request.sets, request.gold, request.rule)
    passages, more = questions.read_passages(request.passages)
    faults += more
    equivalents: list[list[str]] = []
    for path in dict.fromkeys(folder / _EQUIVALENTS for folder in [path.parent for path in request.passages]):
        if path.is_file():
            groups, more = questions.read_equivalents(path)
            equivalents, faults = equivalents + groups, faults + more
    if request.answers_from is not None:
        twins, more = questions.read([request.answers_from], request.gold, request.rule)
        asked, faults = questions.with_answers_of(asked, twins), faults + more
    faults += unknown(asked.questions, _known(storage, request), passages)
    if not faults and not asked.questions:
        faults.append(Fault(asked.name, 1, "there is no question in it"))
    _demand_right(faults)
    return _Read(asked, passages, equivalents)


def _demand_right(faults: Sequence[Fault]) -> None:
    """Every fault on a line of its own, then InvalidInput if there are any."""
    try:
        questions.demand(faults)
    except InvalidInput as error:
        for fault in faults:
            console.err.print(str(fault), style="red", markup=False, soft_wrap=True)
        raise InvalidInput(f"{len(faults)} faults; nothing was taken in or asked", **error.data) from error


def _known(storage: Storage, request: Request) -> Corpus:
    """What is in the knowledge bases named, as far as they exist."""
    found = []
    for name in request.knowledge_bases:
        try:
            found.append(storage.knowledge_bases.named(request.tenant, name).id)
        except NotFound:
            if not request.passages:
                raise
    return corpus(documents_of(storage.documents, request.tenant, found))


@contextmanager
def _knowledge_bases(
    storage: Storage, loader: Loader | None, request: Request, read: _Read, quiet: bool
) -> Iterator[list[str]]:
    """Their ids. Where there are passages, they go into the first one named, or one without a name that matters; what
    was made for it is deleted afterwards, unless it is to be kept."""
    names = list(request.knowledge_bases) or [f"eval-{new_id()}"]
    ids: list[str] = []
    made: list[str] = []
    try:
        for name in names:
            try:
                ids.append(storage.knowledge_bases.named(request.tenant, name).id)
            except NotFound:
                if not read.passages or made:
                    raise
                made.append(storage.knowledge_bases.create(request.tenant, name, "for evaluation").id)
                ids += made
        if read.passages:
            assert loader is not None
            target = made[0] if made else ids[0]
            with console.progress(not quiet) as progress:
                load(storage.intake, storage.documents, loader, request.tenant, target, read.passages, progress)
        yield ids
    finally:
        for knowledge_base_id in made:
            if not request.keep:
                storage.delete_knowledge_base(request.tenant, knowledge_base_id)


def _carried_out(
    service: Service, request: Request, read: _Read, knowledge_base_ids: Sequence[str], quiet: bool
) -> EvalRun:
    evaluations = Evaluations(service)
    pinned = evaluations.pin(request.tenant, knowledge_base_ids, read.passages, read.equivalents)
    # Once more: what was to come has come, and what was there may have gone.
    questions.demand(unknown(read.asked.questions, pinned.corpus))
    told = {"eval_gold": request.gold, "eval_answers": request.rule}
    run, task = evaluations.begin(request.tenant, read.asked.name, read.asked, pinned, request.options, told)
    with console.progress(not quiet, "asking") as progress:
        return evaluations.carry_out(run, task, progress)


def _demand_possible(request: Request) -> None:
    """What can be told before any work is done. Raises InvalidInput, InvalidConfiguration."""
    if not request.knowledge_bases and not request.passages:
        raise InvalidInput("name a knowledge base with --kb, or the set's own passages with --passages")
    if request.plot_to is not None:
        plot.demand(request.plot_to)


def _earlier(storage: Storage, tenant: str, run_id: str) -> list[Result]:
    """Of a run that has succeeded. Raises NotFound, InvalidInput."""
    runs = EvalRuns(storage.database)
    if (state := runs.get(tenant, run_id).state) != "succeeded":
        raise InvalidInput(f"the run to compare with is {state}", run_id=run_id, state=state)
    return runs.results(tenant, run_id)


def _told(request: Request, run: EvalRun, compared: list[Compared] | None, missed: Sequence[str]) -> int:
    summary, text = _figures(run), report.markdown(_figures(run))
    if compared is not None:
        text += f"\nCompared with {request.compare_with}:\n\n{report.markdown_comparison(compared)}"
    if request.markdown_to is not None:
        request.markdown_to.write_text(text, "utf-8")
    if request.plot_to is not None:
        plot.draw(summary, f"{run.set_name}: {run.total} asked", request.plot_to)
    told = json.dumps(_members(run, compared, missed), ensure_ascii=False, indent=2)
    if request.json_to is not None and request.json_to != STANDARD_OUTPUT:
        request.json_to.write_text(told + "\n", "utf-8")
    if request.json_to == STANDARD_OUTPUT:
        print(told)
    else:
        console.out.print(Markdown(text))
        console.out.print(f"run {run.id}", markup=False)
    for line in missed:
        console.err.print(line, style="red", markup=False)
    return _MISSED if missed else _PASSED


def _figures(run: EvalRun) -> Summary:
    assert run.metrics is not None
    return run.metrics


def _members(run: EvalRun, compared: list[Compared] | None, missed: Sequence[str]) -> dict[str, Any]:
    return {
        "id": run.id, "set": run.set_name, "set_sha256": run.set_sha256, "revision": run.revision,
        "settings": run.settings, "results": run.total, "created_at": run.created_at, "finished_at": run.finished_at,
        "metrics": report.members(_figures(run)), "missed": list(missed),
        "comparison": None if compared is None else report.comparison_members(compared),
    }  # fmt: skip
