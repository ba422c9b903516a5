"""Jobs and their items: the queue lives in the same database as what it produces.

An item is claimed for a lease. Its `token`, raised at every claim and never lowered, is the fencing token: every effect
of a claim checks it in its own transaction, so a worker that lost its lease, or whose document was cancelled or
deleted, can finish its sentence and change nothing. `attempts` counts the claims that were not given back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, and_, bindparam, case, func, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from rag_service import failpoints
from rag_service.db import items, problems, reembedding_jobs
from rag_service.db.batches import batches
from rag_service.db.items import is_newest, is_open
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import documents, job_items, jobs, now
from rag_service.db.turns import Turns, Waiting
from rag_service.errors import LeaseLost, NotFound
from rag_service.types import Job, JobItem, JobState, Problem

MAX_ATTEMPTS = 3
CANCELLED = Problem("cancelled", "Ingestion was cancelled", "its job was cancelled before the document was ready")
_OPEN = ("queued", "processing")


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to ingest one document's new content, until the lease ends or another claim takes it."""

    item_id: int
    worker: str
    attempt: int
    token: int
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
        self._served_last: dict[tuple[str, bool], str] = {}

    def claim(
        self, worker: str, lease_seconds: float, limit: int, job_id: str | None = None, *, slow: bool = False
    ) -> list[Claim]:
        """Up to `limit` items: waiting ones, and those whose worker fell silent, each of these alone.

        Knowledge bases take turns, the one after that which this worker served last coming first; of one knowledge
        base the oldest come first. Those marked slow are only given to who asks for `slow`. An item that was claimed
        three times and never finished takes workers down; it fails here instead of being claimed again.
        """
        turns = Turns(self._served_last.get((worker, slow), ""), slow, job_id)
        with self._database.read() as connection:
            # Idle workers ask often: this costs a read, and writers never wait for it.
            if not turns.is_any(connection):
                return []
        with self._database.write() as connection:
            taken = _take(connection, turns, limit)
            if not taken:
                return []
            claims = _claim(connection, [waiting.id for waiting in taken], worker, lease_seconds)
            _set_documents(connection, [claim.document_id for claim in claims], "processing")
        failpoints.reach("claim.committed")
        self._served_last[worker, slow] = taken[-1].knowledge_base_id
        return claims

    def renew(self, claims: Sequence[Claim], lease_seconds: float) -> list[Claim]:
        """The heartbeat. Those that still hold; claims that were lost or cancelled stay lost."""
        longer = {"lease_until": now() + lease_seconds}
        with self._database.write() as connection:
            return [
                claim
                for claim in _in_order(claims)
                if connection.execute(update(job_items).where(_still(claim)).values(**longer)).rowcount
            ]

    def release(self, claims: Sequence[Claim], *, slow: bool = False) -> None:
        """Give back what was not begun: at once claimable again, the attempt not counted.

        `slow` marks it: from now on only those get it who ask for slow ones.
        """
        with self._database.write() as connection:
            for claim in _in_order(claims):
                values = {"state": "queued", "attempts": claim.attempt - 1, "lease_until": None}
                marked = {**values, "slow": 1} if slow else values
                if connection.execute(update(job_items).where(_still(claim)).values(**marked)).rowcount:
                    _set_documents(connection, [claim.document_id], "queued")

    def postpone(self, claim: Claim, seconds: float) -> None:
        """Not now, through no fault of the document: claimable again after so long, the attempt not counted."""
        values = {
            "attempts": claim.attempt - 1, "token": claim.token + 1, "worker": None, "lease_until": now() + seconds,
        }  # fmt: skip
        with self._database.write() as connection:
            connection.execute(update(job_items).where(_still(claim)).values(**values))

    def fail(self, claim: Claim, problem: Problem) -> None:
        """The document is `failed` with a reason a person can act on; one that has a version stays `ready` with it.

        Raises LeaseLost.
        """
        with self._database.write() as connection:
            finish_item(connection, claim, "failed", problem)
            _fail_documents(connection, [claim.document_id], problem)

    def get(self, tenant: str, job_id: str) -> Job:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.tenant == tenant)).one_or_none()
            if row is None:
                raise NotFound("no such job", job_id=job_id)
            if row.kind == reembedding_jobs.KIND:
                return reembedding_jobs.seen(connection, row)
            columns = (job_items.c.document_id, job_items.c.state, job_items.c.problem)
            query = select(*columns).where(job_items.c.job_id == job_id).order_by(job_items.c.id)
            found = tuple(
                JobItem(r.document_id, r.state, problems.from_json(r.problem)) for r in connection.execute(query)
            )
        state = _state_of([item.state for item in found])
        return Job(
            id=row.id, kind=row.kind, state=state,
            done=sum(item.state not in _OPEN for item in found), total=len(found), stage=_STAGES[state],
            items=found, created_at=row.created_at, finished_at=row.finished_at,
        )  # fmt: skip

    def done(self, job_id: str) -> int:
        """How many documents of it are no longer open: what `get` says too, for who looks often."""
        closed = select(func.count()).where(job_items.c.job_id == job_id, ~is_open())
        with self._database.read() as connection:
            return connection.scalar(closed) or 0

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Nothing of it that is still open will be published, whoever is at it, and a change of the embedder leaves
        nothing. Raises NotFound.

        A document without a version becomes `failed` with code `cancelled`; one that has a version keeps it.
        """
        with self._database.write() as connection:
            _demand(connection, tenant, job_id)
            reembedding_jobs.cancel(connection, job_id)
            open_items = items.lock(connection, job_items.c.job_id == job_id, is_open())
            cancel_items(connection, open_items)
            for some in batches(open_items):
                of_items = select(job_items.c.document_id).where(job_items.c.id.in_(some))
                failed = {"state": "failed", "error": problems.to_json(CANCELLED), "updated_at": now()}
                connection.execute(
                    update(documents)
                    .where(documents.c.id.in_(of_items), documents.c.version == 0, documents.c.deleted_at.is_(None))
                    .values(**failed)
                )
        return self.get(tenant, job_id)

    def retry(self, tenant: str, job_id: str) -> Job:
        """What of it failed or was cancelled is queued again, with all its attempts; the job is open again.

        Not those documents that are deleted, or that something was accepted for since. Raises NotFound, and
        EmbedderChanging where another job changes the same knowledge base's.
        """
        ended = (job_items.c.job_id == job_id, job_items.c.state.in_(("failed", "cancelled")))
        with self._database.write() as connection:
            _demand(connection, tenant, job_id)
            reembedding_jobs.retry(connection, job_id)
            items.lock(connection, job_items.c.document_id.in_(select(job_items.c.document_id).where(*ended)))
            alive = select(documents.c.id).where(documents.c.deleted_at.is_(None))
            again = connection.execute(
                update(job_items)
                .where(*ended, is_newest(), job_items.c.document_id.in_(alive))
                .values(
                    state="queued", attempts=0, token=job_items.c.token + 1, worker=None, lease_until=None, problem=None
                )
                .returning(job_items.c.document_id)
            )  # fmt: skip
            queued = list(again.scalars())
            if queued:
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(finished_at=None))
            queue_documents(connection, queued)
        return self.get(tenant, job_id)

    def open_jobs(self, document_id: str) -> list[str]:
        """The jobs that still have this document to do."""
        with self._database.read() as connection:
            mine = select(job_items.c.job_id).where(job_items.c.document_id == document_id, is_open())
            return list(connection.scalars(mine))

    def is_finished(self, job_id: str) -> bool:
        """Also when it is gone, with its knowledge base."""
        unfinished = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.finished_at.is_(None))
        with self._database.read() as connection:
            return connection.scalar(unfinished) is None

    def seconds_since_heartbeat(self) -> float | None:
        """How long ago the oldest lease under way ran out; None when every claimed item has a living worker."""
        under_way = (is_open(), job_items.c.state == "processing")
        with self._database.read() as connection:
            late = connection.scalar(select(func.max(now() - job_items.c.lease_until)).where(*under_way))
        return late if late is not None and late > 0 else None


def _claiming() -> ReturningUpdate[Any]:
    i = job_items.c
    values = {
        "state": "processing", "attempts": i.attempts + 1, "token": i.token + 1, "worker": bindparam("by_worker"),
        "lease_until": now() + bindparam("lease_seconds", type_=Double()),
    }  # fmt: skip
    claim = (
        i.id.label("item_id"), i.worker, i.attempts.label("attempt"), i.token, i.job_id, i.document_id,
        i.knowledge_base_id, i.filename, i.media_type, i.sha256, i.bytes,
    )  # fmt: skip
    these = i.id.in_(bindparam("of_items", expanding=True))
    return update(job_items).where(these).values(**values).returning(*claim)


# Made once: every document goes through them.
_CLAIM = _claiming()
_SET_DOCUMENTS = (
    update(documents)
    .where(documents.c.id.in_(bindparam("of_documents", expanding=True)), documents.c.version == 0)
    .values(state=bindparam("to_state"), updated_at=now())
)
_FINISH = (
    update(job_items)
    .where(
        job_items.c.id == bindparam("held_item"), job_items.c.token == bindparam("held_token"),
        job_items.c.state == "processing",
    )
    .values(state=bindparam("to_state"), lease_until=None)
)  # fmt: skip
_LOCK_JOB = select(jobs.c.id).where(jobs.c.id == bindparam("of_job")).with_for_update()
_STILL_OPEN = select(job_items.c.id).where(job_items.c.job_id == bindparam("of_job"), is_open()).exists()
_CLOSE_JOB = (
    update(jobs)
    .where(jobs.c.id == bindparam("of_job"), jobs.c.finished_at.is_(None), ~_STILL_OPEN)
    .values(finished_at=now())
)


def open_job(connection: Connection, tenant: str, knowledge_base_id: str, kind: str) -> str:
    job_id = new_id()
    connection.execute(
        insert(jobs).values(id=job_id, tenant=tenant, knowledge_base_id=knowledge_base_id, kind=kind, created_at=now())
    )
    return job_id


def finish_item(connection: Connection, claim: Claim, state: str, problem: Problem | None = None) -> None:
    """Raises LeaseLost unless the claim still holds; then nothing of the transaction may be committed."""
    stored = None if problem is None else problems.to_json(problem)
    held = {"held_item": claim.item_id, "held_token": claim.token}
    if connection.execute(_FINISH, {**held, "to_state": state, "problem": stored}).rowcount == 0:
        raise LeaseLost("cancelled, deleted or claimed by another worker since", document_id=claim.document_id)
    close_finished(connection, claim.job_id)


def cancel_items(connection: Connection, item_ids: Collection[int]) -> None:
    """Of items locked and open: whoever works on them has lost them; jobs of which nothing is open are finished."""
    touched: set[str] = set()
    for some in batches(item_ids):
        cancelled = update(job_items).where(job_items.c.id.in_(some)).values(state="cancelled", lease_until=None)
        touched.update(connection.scalars(cancelled.returning(job_items.c.job_id)))
    for job_id in sorted(touched):
        close_finished(connection, job_id)


def close_finished(connection: Connection, job_id: str) -> None:
    """Stamp the job once nothing of it is open."""
    # Locked, so that of two who finish its last items at once the second sees the first's.
    connection.execute(_LOCK_JOB, {"of_job": job_id})
    connection.execute(_CLOSE_JOB, {"of_job": job_id})


def queue_documents(connection: Connection, document_ids: Iterable[str]) -> None:
    """They wait again, and what went wrong before is of no interest any more; those with a version stay `ready`."""
    waiting = case((documents.c.version == 0, "queued"), else_=documents.c.state)
    for some in batches(document_ids):
        connection.execute(
            update(documents).where(documents.c.id.in_(some)).values(state=waiting, error=None, updated_at=now())
        )


def _demand(connection: Connection, tenant: str, job_id: str) -> None:
    if connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.tenant == tenant)) is None:
        raise NotFound("no such job", job_id=job_id)


def _still(claim: Claim) -> ColumnElement[bool]:
    return and_(job_items.c.id == claim.item_id, job_items.c.token == claim.token, job_items.c.state == "processing")


def _in_order(claims: Sequence[Claim]) -> list[Claim]:
    # By id, like everyone who locks several.
    return sorted(claims, key=lambda claim: claim.item_id)


def _take(connection: Connection, turns: Turns, limit: int) -> list[Waiting]:
    while waiting := turns.take(connection, limit):
        _fail_abandoned(connection, [one.id for one in waiting if one.attempts >= MAX_ATTEMPTS])
        hopeful = [one for one in waiting if one.attempts < MAX_ATTEMPTS]
        if hopeful:
            # Its worker died over it once: should it do so again, it takes nobody with it.
            return hopeful[:1] if hopeful[0].attempts else list(takewhile(lambda one: not one.attempts, hopeful))
    return []


def _claim(connection: Connection, ids: Sequence[int], worker: str, lease_seconds: float) -> list[Claim]:
    rows = connection.execute(_CLAIM, {"of_items": ids, "by_worker": worker, "lease_seconds": lease_seconds})
    claims = {row["item_id"]: Claim(**row) for row in rows.mappings()}
    return [claims[item_id] for item_id in ids]


def _fail_abandoned(connection: Connection, ids: Sequence[int]) -> None:
    if not ids:
        return
    problem = Problem(
        "worker-died", "Ingestion did not survive this document",
        f"its worker stopped {MAX_ATTEMPTS} times while working on it", {"attempts": MAX_ATTEMPTS},
    )  # fmt: skip
    abandoned = connection.execute(
        update(job_items)
        .where(job_items.c.id.in_(ids))
        .values(state="failed", problem=problems.to_json(problem), lease_until=None)
        .returning(job_items.c.document_id, job_items.c.job_id)
    ).all()
    for job_id in sorted({row.job_id for row in abandoned}):
        close_finished(connection, job_id)
    _fail_documents(connection, [row.document_id for row in abandoned], problem)


def _fail_documents(connection: Connection, document_ids: Sequence[str], problem: Problem) -> None:
    # One that answers with an older version goes on answering, and says what became of the newer.
    state = case((documents.c.version == 0, "failed"), else_=documents.c.state)
    connection.execute(
        update(documents)
        .where(documents.c.id.in_(document_ids))
        .values(state=state, error=problems.to_json(problem), updated_at=now())
    )


def _set_documents(connection: Connection, document_ids: Sequence[str], state: str) -> None:
    # A document that already answers with an older version stays `ready` while the next one is made.
    connection.execute(_SET_DOCUMENTS, {"of_documents": document_ids, "to_state": state})


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
