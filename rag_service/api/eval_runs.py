from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi import Request as HttpRequest
from pydantic import BaseModel, Field

from rag_service.api.context import CallerOf, Cursor, Limit, ServiceOf
from rag_service.api.shapes import Id, Listing, Name, ProblemShape, Request, problem_shape
from rag_service.db.eval_runs import EvalRun
from rag_service.errors import InvalidInput
from rag_service.evaluated import Direction
from rag_service.evaluation import metrics, questions, report
from rag_service.evaluation.corpus import unknown
from rag_service.evaluation.evaluations import Background, Evaluations
from rag_service.evaluation.runner import Options

router = APIRouter(prefix="/v1/eval-runs", tags=["evaluation"])

_MOST_QUESTIONS = 20_000


class NewEvalRun(Request):
    """`questions` are as in a question set: `{id, text, relevant, answers, …}`, further members allowed. `gold` is the
    member that names the gold passages: documents by their id, `source_uri` or file name."""

    knowledge_base_ids: Annotated[list[Id], Field(min_length=1, max_length=50)]
    questions: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=_MOST_QUESTIONS)]
    name: Name = "questions"
    gold: Id = "relevant"
    answers: Literal["any", "all"] = "any"
    rewriting: Literal["rules", "off", "human"] = "rules"
    retrieval_only: bool = False


class EstimateShape(BaseModel):
    value: float
    low: float
    high: float
    n: int


class LatencyShape(BaseModel):
    p50: float
    p95: float


class DirectionShape(BaseModel):
    questions: int
    figures: dict[str, EstimateShape]
    latency_ms: dict[str, LatencyShape]
    risk_coverage: list[list[float]]


class EvalRunShape(BaseModel):
    id: str
    name: str
    state: Literal["queued", "running", "succeeded", "failed"]
    knowledge_base_ids: list[str]
    revision: dict[str, int]
    set_name: str
    set_sha256: str
    settings: dict[str, str | int | bool | None]
    total: int
    done: int
    error: ProblemShape | None
    metrics: dict[str, DirectionShape] | None
    created_at: datetime
    finished_at: datetime | None


class ComparedShape(BaseModel):
    direction: str
    figure: str
    questions: int
    before: float
    after: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    real: bool


class ComparisonShape(BaseModel):
    """`before` is the run in the path, `after` the other; only questions that both asked are compared."""

    before: str
    after: str
    differences: list[ComparedShape]


@router.post("", status_code=202)
def create(body: NewEvalRun, request: HttpRequest, service: ServiceOf, caller: CallerOf) -> EvalRunShape:
    """Checks the whole set first: every fault is told at once, with the place of its question."""
    background: Background = request.app.state.background
    evaluations = Evaluations(service)
    asked, faults = questions.from_rows(body.name, body.questions, body.gold, body.answers)
    pinned = evaluations.pin(caller.tenant, body.knowledge_base_ids)
    questions.demand([*faults, *unknown(asked.questions, pinned.corpus)])
    told = {"eval_gold": body.gold, "eval_answers": body.answers}
    options = Options(body.retrieval_only, body.rewriting)
    run = background.submit(lambda: evaluations.begin(caller.tenant, body.name, asked, pinned, options, told))
    return _shape(run)


@router.get("")
def browse(service: ServiceOf, caller: CallerOf, limit: Limit = 50, cursor: Cursor = None) -> Listing[EvalRunShape]:
    return Listing.of(service.eval_runs.browse(caller.tenant, limit, cursor), _shape)


@router.get("/{run}")
def get(run: str, service: ServiceOf, caller: CallerOf) -> EvalRunShape:
    return _shape(service.eval_runs.get(caller.tenant, run))


@router.get("/{run}/compare")
def compare(
    run: str, service: ServiceOf, caller: CallerOf, to: Annotated[str, Query(min_length=1, max_length=64)]
) -> ComparisonShape:
    """Which figures of `to` really differ from this run's: paired by question, corrected for their number."""
    for one in (run, to):
        if (state := service.eval_runs.get(caller.tenant, one).state) != "succeeded":
            raise InvalidInput(f"only runs that have succeeded can be compared, this one is {state}", run_id=one)
    before, after = (service.eval_runs.results(caller.tenant, one) for one in (run, to))
    found = report.comparison_members(metrics.compare(before, after))
    return ComparisonShape(before=run, after=to, differences=[ComparedShape(**one) for one in found])


def _shape(run: EvalRun) -> EvalRunShape:
    members = {name: getattr(run, name) for name in EvalRunShape.model_fields if name not in ("error", "metrics")}
    figures = None if run.metrics is None else {name: _direction(one) for name, one in run.metrics.items()}
    return EvalRunShape(**members, error=problem_shape(run.error), metrics=figures)


def _direction(one: Direction) -> DirectionShape:
    return DirectionShape(
        questions=one.questions,
        figures={name: EstimateShape(value=e.value, low=e.low, high=e.high, n=e.n) for name, e in one.figures.items()},
        latency_ms={stage: LatencyShape(p50=each.p50, p95=each.p95) for stage, each in one.latency.items()},
        risk_coverage=[list(point) for point in one.risk_coverage],
    )
