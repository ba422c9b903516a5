"""Evaluation runs: what was asked of what, the figures, and a row for every question.

A run under way is kept by a lease that whoever works on it renews: one whose process is gone is failed, by name, as
soon as anybody looks. Knowledge bases are named without foreign keys: a run stays readable after they are deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, and_, insert, select, update

from rag_service.db.pages import Page, page
from rag_service.db.problems import from_json, of, to_json
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import eval_results, eval_runs, now
from rag_service.errors import Interrupted, LeaseLost, NotFound
from rag_service.evaluated import Direction, Estimate, Latency, Result, Summary
from rag_service.types import Problem

RunState = Literal["queued", "running", "succeeded", "failed"]
LEASE_SECONDS = 60.0
_RUN = [column for column in eval_runs.c if column.name not in ("tenant", "lease_until")]


@dataclass(frozen=True, slots=True)
class EvalRun:
    """`revision` is that of each knowledge base when it began, `settings` what of the set-up bears on the figures.
    `metrics` is None until it has succeeded, `error` unless it has failed."""

    id: str
    name: str
    state: RunState
    knowledge_base_ids: tuple[str, ...]
    revision: dict[str, int]
    set_name: str
    set_sha256: str
    settings: dict[str, Any]
    total: int
    done: int
    error: Problem | None
    metrics: Summary | None
    created_at: float
    finished_at: float | None


@dataclass(frozen=True, slots=True)
class NewRun:
    name: str
    revision: dict[str, int]
    set_name: str
    set_sha256: str
    settings: dict[str, Any]
    total: int


class EvalRuns:
    def __init__(self, database: Database, lease_seconds: float = LEASE_SECONDS) -> None:
        self._database = database
        self._lease_seconds = lease_seconds

    @property
    def lease_seconds(self) -> float:
        return self._lease_seconds

    def create(self, tenant: str, new: NewRun) -> EvalRun:
        run_id = new_id()
        with self._database.write() as connection:
            connection.execute(
                insert(eval_runs).values(
                    id=run_id, tenant=tenant, name=new.name, state="queued", knowledge_base_ids=list(new.revision),
                    revision=new.revision, set_name=new.set_name, set_sha256=new.set_sha256, settings=new.settings,
                    total=new.total, done=0, lease_until=now() + self._lease_seconds, created_at=now(),
                )
            )  # fmt: skip
            return _run(_one(connection, tenant, run_id))

    def get(self, tenant: str, run_id: str) -> EvalRun:
        """Raises NotFound."""
        self._expire()
        with self._database.read() as connection:
            return _run(_one(connection, tenant, run_id))

    def browse(self, tenant: str, limit: int, cursor: str | None) -> Page[EvalRun]:
        """Newest first."""
        self._expire()
        query = select(*_RUN).where(eval_runs.c.tenant == tenant).order_by(eval_runs.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            query = query.where(eval_runs.c.id < cursor)
        with self._database.read() as connection:
            rows = [_run(row) for row in connection.execute(query)]
        return page(rows, limit, lambda run: run.id)

    def results(self, tenant: str, run_id: str) -> list[Result]:
        """In the order of the set. Raises NotFound."""
        query = select(eval_results).where(eval_results.c.run_id == run_id).order_by(eval_results.c.position)
        with self._database.read() as connection:
            _one(connection, tenant, run_id)
            return [_result(row) for row in connection.execute(query)]

    def renew(self, run_id: str) -> None:
        """Raises LeaseLost where the run is over."""
        with self._database.write() as connection:
            self._change(connection, run_id)

    def add(self, run_id: str, start: int, results: Sequence[Result]) -> None:
        """Results from position `start` on. Raises LeaseLost where the run is over."""
        rows = [_columns(run_id, position, result) for position, result in enumerate(results, start)]
        with self._database.write() as connection:
            self._change(connection, run_id, state="running", done=start + len(rows))
            if rows:
                connection.execute(insert(eval_results), rows)

    def succeed(self, run_id: str, metrics: Summary) -> None:
        """Raises LeaseLost where the run is over."""
        with self._database.write() as connection:
            self._change(connection, run_id, state="succeeded", metrics=_summary_json(metrics), finished_at=now())

    def fail(self, run_id: str, problem: Problem) -> None:
        """Nothing where the run is over already."""
        with self._database.write() as connection:
            connection.execute(
                update(eval_runs)
                .where(eval_runs.c.id == run_id, _is_open())
                .values(state="failed", error=to_json(problem), finished_at=now())
            )

    def _change(self, connection: Connection, run_id: str, **values: Any) -> None:
        changed = connection.execute(
            update(eval_runs)
            .where(eval_runs.c.id == run_id, _is_open())
            .values(**values, lease_until=now() + self._lease_seconds)
        )
        if changed.rowcount == 0:
            raise LeaseLost("the evaluation run is over", run_id=run_id)

    def _expire(self) -> None:
        lost = and_(_is_open(), eval_runs.c.lease_until < now())
        with self._database.glance() as connection:
            if connection.scalar(select(eval_runs.c.id).where(lost).limit(1)) is None:
                return
        problem = to_json(of(Interrupted("the process that ran this evaluation ended before it had finished")))
        with self._database.write() as connection:
            connection.execute(update(eval_runs).where(lost).values(state="failed", error=problem, finished_at=now()))


def _is_open() -> ColumnElement[bool]:
    return eval_runs.c.state.in_(("queued", "running"))


def _one(connection: Connection, tenant: str, run_id: str) -> Row[Any]:
    query = select(*_RUN).where(eval_runs.c.id == run_id, eval_runs.c.tenant == tenant)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("no such evaluation run", run_id=run_id)
    return row


def _run(row: Row[Any]) -> EvalRun:
    members = dict(row._mapping)
    members["knowledge_base_ids"] = tuple(members["knowledge_base_ids"])
    members["error"] = from_json(members["error"])
    members["metrics"] = None if members["metrics"] is None else _summary(members["metrics"])
    return EvalRun(**members)


def _columns(run_id: str, position: int, result: Result) -> dict[str, Any]:
    return {
        "run_id": run_id, "position": position, **_members(result), "ranks": list(result.ranks),
        "timings_ms": dict(result.timings_ms),
    }  # fmt: skip


def _result(row: Row[Any]) -> Result:
    members = dict(row._mapping)
    del members["run_id"], members["position"]
    return Result(**{**members, "ranks": tuple(members["ranks"])})


def _summary_json(metrics: Summary) -> list[Any]:
    """A list, because the order of directions counts, and a database may sort the members of an object."""
    return [
        {
            "direction": name, "questions": one.questions,
            "figures": [[figure, [e.value, e.low, e.high, e.n]] for figure, e in one.figures.items()],
            "latency": [[stage, [latency.p50, latency.p95]] for stage, latency in one.latency.items()],
            "risk_coverage": [list(point) for point in one.risk_coverage],
        }
        for name, one in metrics.items()
    ]  # fmt: skip


def _summary(rows: Sequence[dict[str, Any]]) -> Summary:
    return {
        row["direction"]: Direction(
            questions=row["questions"],
            figures={figure: Estimate(*values) for figure, values in row["figures"]},
            latency={stage: Latency(*values) for stage, values in row["latency"]},
            risk_coverage=tuple((coverage, risk) for coverage, risk in row["risk_coverage"]),
        )
        for row in rows
    }


def _members(result: Result) -> dict[str, Any]:
    return {name: getattr(result, name) for name in Result.__dataclass_fields__}
