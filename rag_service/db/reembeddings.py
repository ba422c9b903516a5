"""Changing a knowledge base's embedder: a job that any worker takes, and the one transaction in which the new
generation begins to answer.

A claim works as one on a document does (see `jobs`): for a lease, fenced by a token that is raised at every claim.
Whoever changes one locks its row first, then its job, then the knowledge base.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import ColumnElement, Connection, and_, exists, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from rag_service import failpoints
from rag_service.db import feed, generations, reembedding_jobs
from rag_service.db.jobs import MAX_ATTEMPTS, open_job
from rag_service.db.knowledge_bases import raise_revision
from rag_service.db.reembedding_jobs import KIND, is_open
from rag_service.db.sessions import Database
from rag_service.db.tables import chunks, index_segments, now, reembeddings, vectors
from rag_service.errors import EmbedderChanging, InvalidInput, LeaseLost, NotFound
from rag_service.ports import Segment, Vectors
from rag_service.text import in_context
from rag_service.types import Problem

HALF = np.dtype("<f2")
Stage = Literal["waiting", "embedding", "closing"]
"""`closing`: no further document of the knowledge base is begun, so that the end is reached."""
_ABANDONED = Problem(
    "worker-died", "The embedder was not changed",
    f"its worker stopped {MAX_ATTEMPTS} times before it had got any further", {"attempts": MAX_ATTEMPTS},
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """The right to embed a knowledge base by `embedder`, until the lease ends or another claim takes it."""

    job_id: str
    knowledge_base_id: str
    embedder: str
    token: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """A live chunk without a vector; `text` is what is to be embedded."""

    chunk_id: int
    text: str


@dataclass(frozen=True, slots=True)
class Made:
    chunk_id: int
    text_sha256: str


@dataclass(frozen=True, slots=True)
class Swap:
    """`made`: the generation answers, and the segments in `replaced` are of no use any more. Else nothing changed: a
    chunk still lacks its vector, or the segment `is_hidden` by a newer one and has to be written anew."""

    made: bool
    replaced: tuple[str, ...] = ()
    is_hidden: bool = False


class Reembeddings:
    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, tenant: str, knowledge_base_id: str, embedder: str) -> str:
        """The id of the job that will change it. Raises NotFound, EmbedderChanging, and InvalidInput where it is this
        embedder that answers."""
        try:
            with self._database.write() as connection:
                reembedding_jobs.demand_none(connection, tenant, knowledge_base_id)
                if generations.lock(connection, knowledge_base_id) == embedder:
                    raise InvalidInput(f"{embedder} is the knowledge base's embedder", embedder=embedder)
                job_id = open_job(connection, tenant, knowledge_base_id, KIND)
                row = {
                    "job_id": job_id, "knowledge_base_id": knowledge_base_id, "embedder": embedder,
                    "state": "queued", "stage": "waiting", "done": 0, "attempts": 0, "token": 0,
                    "total": _live(connection, knowledge_base_id),
                }  # fmt: skip
                connection.execute(insert(reembeddings).values(**row))
        except IntegrityError as error:
            raise EmbedderChanging("somebody else began to change it just now") from error
        return job_id

    def before(self, tenant: str, knowledge_base_id: str) -> str:
        """The embedder that answered before the present one. Raises NotFound where there was none, and where its
        vectors are forgotten."""
        change = reembeddings.c
        with self._database.read() as connection:
            reembedding_jobs.demand_knowledge_base(connection, tenant, knowledge_base_id)
            last = select(change.replaced).where(
                change.knowledge_base_id == knowledge_base_id, change.revision.is_not(None)
            )
            replaced = connection.scalar(last.order_by(change.revision.desc()).limit(1))
            kept = replaced and generations.of(connection, knowledge_base_id, replaced).dimensions is not None
        if not kept:
            raise NotFound("there is no earlier generation to go back to", knowledge_base_id=knowledge_base_id)
        return str(replaced)

    def forget(self, tenant: str, knowledge_base_id: str) -> int:
        """Drop every generation but the one that answers; how many vectors that were. Raises NotFound,
        EmbedderChanging."""
        with self._database.write() as connection:
            reembedding_jobs.demand_none(connection, tenant, knowledge_base_id)
            answering = generations.lock(connection, knowledge_base_id)
            others = generations.others(connection, knowledge_base_id, answering)
            return sum(generations.drop(connection, knowledge_base_id, embedder) for embedder in others)

    def claim(self, worker: str, lease_seconds: float, job_id: str | None = None) -> Change | None:
        """The oldest that waits, or whose worker fell silent. One that was claimed three times without getting any
        further takes workers down; it fails here."""
        wanted = reembeddings.c.job_id == job_id if job_id is not None else _claimable()
        query = select(reembeddings.c.job_id, reembeddings.c.attempts).where(_claimable(), wanted)
        query = query.order_by(reembeddings.c.job_id).limit(1)
        with self._database.glance() as connection:
            # Idle workers ask often: this costs a read, and writers never wait for it.
            if connection.execute(query).first() is None:
                return None
        with self._database.write() as connection:
            waiting = connection.execute(query.with_for_update(skip_locked=True)).first()
            if waiting is None:
                return None
            if waiting.attempts >= MAX_ATTEMPTS:
                reembedding_jobs.finish(connection, waiting.job_id, "failed", _ABANDONED)
                return None
            change = _claim(connection, waiting.job_id, worker, lease_seconds)
        failpoints.reach("reembed.claimed")
        return change

    def renew(self, change: Change, lease_seconds: float) -> bool:
        """Whether it still holds."""
        with self._database.write() as connection:
            return _update(connection, change, lease_until=now() + lease_seconds)

    def release(self, change: Change, seconds: float = 0.0) -> None:
        """Give it back through no fault of its own: claimable again after so long, and the attempt does not count."""
        with self._database.write() as connection:
            _update(
                connection, change, state="processing" if seconds > 0 else "queued", stage="waiting",
                attempts=reembeddings.c.attempts - 1, token=change.token + 1, lease_until=now() + seconds,
            )  # fmt: skip

    def fail(self, change: Change, problem: Problem) -> None:
        """What was made is kept for a retry. Raises LeaseLost."""
        with self._database.write() as connection:
            _fence(connection, change)
            reembedding_jobs.finish(connection, change.job_id, "failed", problem)

    def demand(self, change: Change, dimensions: int) -> None:
        """Begin the generation, or make sure that what it has is of this length. Raises LeaseLost, NotFound,
        WrongDimensions."""
        with self._database.write() as connection:
            _fence(connection, change)
            generations.lock(connection, change.knowledge_base_id)
            generations.demand(connection, change.knowledge_base_id, change.embedder, dimensions, answers=False)

    def enter(self, change: Change, stage: Stage) -> None:
        """Say how far it is, and count anew. Raises LeaseLost, NotFound."""
        lacking = generations.lacking(change.knowledge_base_id, change.embedder)
        with self._database.write() as connection:
            _fence(connection, change)
            total = _live(connection, change.knowledge_base_id)
            missing = connection.scalar(select(func.count()).select_from(lacking.subquery())) or 0
            _update(connection, change, stage=stage, total=total, done=total - missing)

    def lacking(self, change: Change, after: int, limit: int) -> list[Lacking]:
        """Live chunks above the id `after` that lack a vector, by ascending id."""
        ids = generations.lacking(change.knowledge_base_id, change.embedder).where(chunks.c.id > after)
        query = ids.add_columns(chunks.c.headings, chunks.c.text).order_by(chunks.c.id).limit(limit)
        with self._database.read() as connection:
            return [Lacking(row[0], in_context(row[1], row[2])) for row in connection.execute(query)]

    def store(self, change: Change, made: Sequence[Made], embedded: Vectors) -> None:
        """`embedded` is float32 or float16 [len(made), dimensions]. Of chunks retired since nothing is kept.

        Raises LeaseLost, NotFound, WrongDimensions; then nothing changed.
        """
        kb = change.knowledge_base_id
        with self._database.write() as connection:
            _fence(connection, change)
            # Deletion takes this lock, too: no vector outlives the text it was made of.
            generations.lock(connection, kb)
            generations.demand(connection, kb, change.embedder, embedded.shape[1], answers=False)
            wanted = generations.lacking(kb, change.embedder).where(chunks.c.id.in_([one.chunk_id for one in made]))
            live = set(connection.scalars(wanted))
            halves = np.ascontiguousarray(embedded, HALF)
            rows = [
                {
                    "chunk_id": one.chunk_id, "embedder": change.embedder, "vector": half.tobytes(),
                    "text_sha256": one.text_sha256,
                }
                for one, half in zip(made, halves, strict=True)
                if one.chunk_id in live
            ]  # fmt: skip
            if rows:
                connection.execute(insert(vectors), rows)
            _update(connection, change, done=reembeddings.c.done + len(rows), attempts=1)
            failpoints.reach("reembed.batch-written")
        failpoints.reach("reembed.batch-committed")

    def swap(self, change: Change, segment: Segment) -> Swap:
        """Let the new generation answer, with `segment` as its base: one transaction, that makes sure that no live
        chunk lacks its vector, of the generation's length. Raises LeaseLost, NotFound, WrongDimensions."""
        kb = change.knowledge_base_id
        with self._database.write() as connection:
            _fence(connection, change)
            before = generations.lock(connection, kb)
            if _is_hidden(connection, segment):
                return Swap(made=False, is_hidden=True)
            if not generations.is_complete(connection, kb, change.embedder):
                return Swap(made=False)
            generations.answer(connection, kb, change.embedder)
            revision = raise_revision(connection, kb)
            replaced = feed.replace_segments(connection, segment)
            _update(connection, change, replaced=before, revision=revision)
            reembedding_jobs.finish(connection, change.job_id, "ready")
            failpoints.reach("reembed.swap-written")
        failpoints.reach("reembed.swapped")
        return Swap(made=True, replaced=tuple(replaced))


def _claim(connection: Connection, job_id: str, worker: str, lease_seconds: float) -> Change:
    r = reembeddings.c
    row = connection.execute(
        update(reembeddings)
        .where(r.job_id == job_id)
        .values(
            state="processing", stage="embedding", attempts=r.attempts + 1, token=r.token + 1, worker=worker,
            lease_until=now() + lease_seconds,
        )
        .returning(r.job_id, r.knowledge_base_id, r.embedder, r.token)
    ).one()  # fmt: skip
    return Change(*row)


def _claimable() -> ColumnElement[bool]:
    lapsed = and_(reembeddings.c.state == "processing", reembeddings.c.lease_until < now())
    return and_(is_open(), or_(reembeddings.c.state == "queued", lapsed))


def _update(connection: Connection, change: Change, **values: object) -> bool:
    """Whether the claim still held."""
    r = reembeddings.c
    still = (r.job_id == change.job_id, r.token == change.token, r.state == "processing")
    return bool(connection.execute(update(reembeddings).where(*still).values(**values)).rowcount)


def _fence(connection: Connection, change: Change) -> None:
    """Raises LeaseLost unless the claim still holds; its row is locked until the transaction ends."""
    if not _update(connection, change, token=change.token):
        raise LeaseLost("cancelled, deleted or claimed by another worker since", job_id=change.job_id)


def _live(connection: Connection, knowledge_base_id: str) -> int:
    mine = chunks.c.knowledge_base_id == knowledge_base_id
    live = select(func.count()).select_from(chunks).where(mine, chunks.c.retired_revision.is_(None))
    return connection.scalar(live) or 0


def _is_hidden(connection: Connection, segment: Segment) -> bool:
    """Whether a newer segment has been named: what that absorbed is forgotten, and this one would bring it back."""
    newer = (
        index_segments.c.knowledge_base_id == segment.knowledge_base_id,
        index_segments.c.revision > segment.revision,
    )
    return bool(connection.scalar(select(exists().where(*newer))))
