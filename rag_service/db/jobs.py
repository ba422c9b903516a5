"""Jobs and their items: the queue lives in the same database as what it produces.

An item is claimed for a lease; `attempts`, counted at the claim, is the fencing token: every effect of a claim checks
it in its own transaction, so a worker that lost its lease can finish its sentence and change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, insert, or_, select, text, update

from rag_service.db import problems
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import documents, job_items, jobs, now
from rag_service.errors import LeaseLost, NotFound
from rag_service.types import Job, JobItem, JobState, Problem

MAX_ATTEMPTS = 3
_OPEN = ("queued", "processing")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ingest one document, until the lease ends or another claim takes it."""

    item_id: int
    worker: str
    attempt: int
    job_id: str
    document_id: str
    knowledge_base_id: str
    filename: str
    media_type: str
    sha256: str
    bytes: int


class Jobs:
    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, worker: str, lease_seconds: float, limit: int, job_id: str | None = None) -> list[Claim]:
        """Up to `limit` items, oldest first: waiting ones, and those whose worker fell silent, each of these alone.

        An item that was claimed three times and never finished takes workers down; it fails here instead of being
        claimed again.
        """
        if not self._has_open_items(job_id):
            return []
        with self._database.write() as connection:
            _fail_abandoned(connection)
            free = (
                select(job_items.c.id)
                .where(_claimable(), job_items.c.attempts < MAX_ATTEMPTS)
                .order_by(job_items.c.id)
                .limit(limit)
                .with_for_update(skip_locked=True)
            )
            if job_id is not None:
                free = free.where(job_items.c.job_id == job_id)
            again = connection.scalar(free.where(job_items.c.attempts > 0).limit(1))
            ids = [again] if again is not None else connection.scalars(free).all()
            if not ids:
                return []
            connection.execute(
                update(job_items)
                .where(job_items.c.id.in_(ids))
                .values(
                    state="processing", attempts=job_items.c.attempts + 1, worker=worker,
                    lease_until=now() + lease_seconds,
                )
            )  # fmt: skip
            claims = _claims(connection, ids)
            _set_documents(connection, [claim.document_id for claim in claims], "processing")
        return claims

    def renew(self, claims: Sequence[Claim], lease_seconds: float) -> None:
        """The heartbeat. Claims that were lost stay lost."""
        with self._database.write() as connection:
            for claim in claims:
                connection.execute(update(job_items).where(_still(claim)).values(lease_until=now() + lease_seconds))

    def release(self, claims: Sequence[Claim]) -> None:
        """Give back what was not begun: at once claimable again, the attempt not counted."""
        with self._database.write() as connection:
            for claim in claims:
                values = {"state": "queued", "attempts": claim.attempt - 1, "lease_until": None}
                if connection.execute(update(job_items).where(_still(claim)).values(**values)).rowcount:
                    _set_documents(connection, [claim.document_id], "queued")

    def fail(self, claim: Claim, problem: Problem) -> None:
        """The document is `failed` with a reason a person can act on. Raises LeaseLost."""
        with self._database.write() as connection:
            finish_item(connection, claim, "failed", problem)
            _fail_document(connection, claim.document_id, problem)

    def get(self, tenant: str, job_id: str) -> Job:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)).one_or_none()
            if row is None:
                raise NotFound("no such job", job_id=job_id)
            columns = (job_items.c.document_id, job_items.c.state, job_items.c.problem)
            query = select(*columns).where(job_items.c.job_id == job_id).order_by(job_items.c.id)
            items = tuple(
                JobItem(r.document_id, r.state, problems.from_json(r.problem)) for r in connection.execute(query)
            )
        state = _state_of([item.state for item in items])
        return Job(
            id=row.id, kind=row.kind, state=state,
            done=sum(item.state not in _OPEN for item in items), total=len(items), stage=_STAGES[state],
            items=items, created_at=row.created_at, finished_at=row.finished_at,
        )  # fmt: skip

    def open_jobs(self, document_id: str) -> list[str]:
        """The jobs that still have this document to do."""
        items = (job_items.c.document_id == document_id, job_items.c.state.in_(_OPEN))
        with self._database.read() as connection:
            return list(connection.scalars(select(job_items.c.job_id).where(*items)))

    def is_finished(self, job_id: str) -> bool:
        """Also when it is gone, with its knowledge base."""
        unfinished = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.finished_at.is_(None))
        with self._database.read() as connection:
            return connection.scalar(unfinished) is None

    def seconds_since_heartbeat(self) -> float | None:
        """How long ago the oldest lease under way ran out; None when every claimed item has a living worker."""
        query = select(func.max(now() - job_items.c.lease_until)).where(job_items.c.state == "processing")
        with self._database.read() as connection:
            late = connection.scalar(query)
        return late if late is not None and late > 0 else None

    def _has_open_items(self, job_id: str | None) -> bool:
        # Idle workers ask often: this costs a read, and writers never wait for it.
        query = select(job_items.c.id).where(_claimable()).limit(1)
        if job_id is not None:
            query = query.where(job_items.c.job_id == job_id)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None


def open_job(connection: Connection, tenant: str, knowledge_base_id: str, kind: str) -> str:
    job_id = new_id()
    connection.execute(
        insert(jobs).values(id=job_id, tenant=tenant, knowledge_base_id=knowledge_base_id, kind=kind, created_at=now())
    )
    return job_id


def finish_item(connection: Connection, claim: Claim, state: str, problem: Problem | None = None) -> None:
    """Raises LeaseLost unless the claim still holds; then nothing of the transaction may be committed."""
    stored = None if problem is None else problems.to_json(problem)
    values = {"state": state, "problem": stored, "lease_until": None}
    if connection.execute(update(job_items).where(_still(claim)).values(**values)).rowcount == 0:
        raise LeaseLost("another worker claimed this document since", document_id=claim.document_id)
    close_finished(connection, claim.job_id)


def close_finished(connection: Connection, job_id: str) -> None:
    """Stamp the job once nothing of it is open."""
    # Locked, so that of two who finish its last items at once the second sees the first's.
    connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
    is_open = select(job_items.c.id).where(job_items.c.job_id == job_id, job_items.c.state.in_(_OPEN)).exists()
    connection.execute(
        update(jobs).where(jobs.c.id == job_id, jobs.c.finished_at.is_(None), ~is_open).values(finished_at=now())
    )


def _claimable() -> ColumnElement[bool]:
    lapsed = and_(job_items.c.state == "processing", job_items.c.lease_until < now())
    # Spelt out beside it: only a literal lets SQLite use the index over open items.
    return and_(text("job_items.state IN ('queued', 'processing')"), or_(job_items.c.state == "queued", lapsed))


def _still(claim: Claim) -> ColumnElement[bool]:
    # The worker too: a released attempt is counted again, for whoever claims next.
    return and_(
        job_items.c.id == claim.item_id,
        job_items.c.attempts == claim.attempt,
        job_items.c.worker == claim.worker,
        job_items.c.state == "processing",
    )


def _claims(connection: Connection, ids: Sequence[int]) -> list[Claim]:
    query = (
        select(
            job_items.c.id.label("item_id"), job_items.c.worker, job_items.c.attempts.label("attempt"),
            job_items.c.job_id, job_items.c.document_id, documents.c.knowledge_base_id, documents.c.filename,
            documents.c.media_type, documents.c.sha256, documents.c.bytes,
        )
        .join(documents, documents.c.id == job_items.c.document_id)
        .where(job_items.c.id.in_(ids))
        .order_by(job_items.c.id)
    )  # fmt: skip
    return [Claim(**row) for row in connection.execute(query).mappings()]


def _fail_abandoned(connection: Connection) -> None:
    lost = (
        job_items.c.state == "processing",
        job_items.c.lease_until < now(),
        job_items.c.attempts >= MAX_ATTEMPTS,
    )
    problem = Problem(
        "worker-died", "Ingestion did not survive this document",
        f"its worker stopped {MAX_ATTEMPTS} times while working on it", {"attempts": MAX_ATTEMPTS},
    )  # fmt: skip
    abandoned = connection.execute(
        update(job_items)
        .where(*lost)
        .values(state="failed", problem=problems.to_json(problem), lease_until=None)
        .returning(job_items.c.document_id, job_items.c.job_id)
    ).all()
    for row in abandoned:
        _fail_document(connection, row.document_id, problem)
        close_finished(connection, row.job_id)


def _fail_document(connection: Connection, document_id: str, problem: Problem) -> None:
    connection.execute(
        update(documents)
        .where(documents.c.id == document_id)
        .values(state="failed", error=problems.to_json(problem), updated_at=now())
    )


def _set_documents(connection: Connection, document_ids: Sequence[str], state: str) -> None:
    # A document that already answers with an older version stays `ready` while the next one is made.
    connection.execute(
        update(documents)
        .where(documents.c.id.in_(document_ids), documents.c.version == 0)
        .values(state=state, updated_at=now())
    )


_STAGES: dict[JobState, str] = {
    "queued": "waiting",
    "running": "ingesting",
    "succeeded": "finished",
    "partial": "finished",
    "failed": "finished",
    "cancelled": "finished",
}


def _state_of(states: Sequence[str]) -> JobState:
    kinds = set(states)
    if kinds & set(_OPEN):
        return "queued" if kinds == {"queued"} else "running"
    if kinds <= {"ready"}:
        return "succeeded"
    if "ready" in kinds:
        return "partial"
    return "failed" if "failed" in kinds else "cancelled"
