"""Jobs that change an embedder, seen as jobs: their progress, ending and beginning them again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, literal, select, update
from sqlalchemy.exc import IntegrityError

from rag_service.db import generations, problems
from rag_service.db.tables import jobs, knowledge_bases, now, reembeddings
from rag_service.errors import EmbedderChanging, NotFound
from rag_service.types import Job, JobState, Problem

KIND = "reembed"
_STATES: dict[str, JobState] = {
    "queued": "queued",
    "processing": "running",
    "ready": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}


def is_open() -> ColumnElement[bool]:
    # Spelt out in the statement: only for a literal does SQLite use the index over open ones.
    return reembeddings.c.state.in_([literal(state, literal_execute=True) for state in ("queued", "processing")])


def is_closing(knowledge_base_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a knowledge base is about to get its new generation: no further document of it is begun meanwhile."""
    r = reembeddings.c
    about_to = (r.knowledge_base_id == knowledge_base_id, is_open(), r.stage == "closing", r.lease_until > now())
    return select(r.job_id).where(*about_to).exists()


def demand_none(connection: Connection, tenant: str, knowledge_base_id: str) -> None:
    """Raises NotFound, and EmbedderChanging while one is open."""
    demand_knowledge_base(connection, tenant, knowledge_base_id)
    mine = reembeddings.c.knowledge_base_id == knowledge_base_id
    under_way = connection.scalar(select(reembeddings.c.job_id).where(mine, is_open()).with_for_update())
    if under_way is not None:
        raise EmbedderChanging("a job is changing the embedder of this knowledge base", job_id=under_way)


def demand_knowledge_base(connection: Connection, tenant: str, knowledge_base_id: str) -> None:
    """Raises NotFound."""
    mine = (knowledge_bases.c.id == knowledge_base_id, knowledge_bases.c.tenant == tenant)
    if connection.scalar(select(knowledge_bases.c.id).where(*mine)) is None:
        raise NotFound("no such knowledge base", knowledge_base_id=knowledge_base_id)


def seen(connection: Connection, job: Row[Any]) -> Job:
    """`job` is its row among the jobs. Chunks are what is counted."""
    row = connection.execute(select(reembeddings).where(reembeddings.c.job_id == job.id)).one()
    state = _STATES[row.state]
    return Job(
        id=job.id, kind=job.kind, state=state, done=row.done, total=row.total,
        stage=row.stage if state in ("queued", "running") else "finished", items=(),
        created_at=job.created_at, finished_at=job.finished_at, problem=problems.from_json(row.problem),
    )  # fmt: skip


def finish(connection: Connection, job_id: str, state: str, problem: Problem | None = None) -> None:
    """Of one whose row is locked."""
    stored = None if problem is None else problems.to_json(problem)
    values = {"state": state, "problem": stored, "lease_until": None, "token": reembeddings.c.token + 1}
    connection.execute(update(reembeddings).where(reembeddings.c.job_id == job_id).values(**values))
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(finished_at=now()))


def cancel(connection: Connection, job_id: str) -> None:
    """Whoever works on it has lost it, and what was made for it is dropped; of one that has ended nothing changes."""
    row = _locked(connection, job_id, "queued", "processing")
    if row is None:
        return
    finish(connection, job_id, "cancelled")
    generations.lock(connection, row.knowledge_base_id)
    generations.drop_unless_answered(connection, row.knowledge_base_id, row.embedder)


def retry(connection: Connection, job_id: str) -> None:
    """One that failed or was cancelled goes on with what it had made. Raises EmbedderChanging where another is open."""
    row = _locked(connection, job_id, "failed", "cancelled")
    if row is None or generations.lock(connection, row.knowledge_base_id) == row.embedder:
        return
    values = {"state": "queued", "stage": "waiting", "attempts": 0, "problem": None}
    try:
        connection.execute(update(reembeddings).where(reembeddings.c.job_id == job_id).values(**values))
    except IntegrityError as error:
        raise EmbedderChanging("another job is changing the embedder of this knowledge base") from error
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(finished_at=None))


def lock_all(connection: Connection, knowledge_base_id: str) -> None:
    """First what a swap takes first: else it and a deletion could wait for each other."""
    mine = select(reembeddings.c.job_id).where(reembeddings.c.knowledge_base_id == knowledge_base_id)
    connection.execute(mine.order_by(reembeddings.c.job_id).with_for_update())


def _locked(connection: Connection, job_id: str, *states: str) -> Row[Any] | None:
    mine = (reembeddings.c.job_id == job_id, reembeddings.c.state.in_(states))
    return connection.execute(select(reembeddings).where(*mine).with_for_update()).one_or_none()
