"""Whose turn it is: knowledge bases take turns, so that many documents of one make nobody of another wait.

The index over open items leads from one knowledge base to the next without a look at the items between: a claim costs
the same beside ten waiting items and beside ten thousand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, String, bindparam, func, select

from rag_service.db.items import is_claimable, is_open
from rag_service.db.reembedding_jobs import is_closing
from rag_service.db.tables import job_items, jobs


@dataclass(frozen=True, slots=True)
class Turns:
    """One worker's place in the round: the knowledge base it served last, and which items it looks for."""

    after: str = ""
    slow: bool = False
    job_id: str | None = None

    def is_any(self, connection: Connection) -> bool:
        if self.job_id is None:
            return bool(self._knowledge_bases(connection, 1))
        asked = {"of_job": self.job_id, "slow": int(self.slow), "most": 1}
        return connection.execute(_OF_JOB, asked).first() is not None

    def take(self, connection: Connection, limit: int) -> list[Waiting]:
        """Up to `limit` claimable items, locked, in the order of turns; those of one knowledge base oldest first."""
        if self.job_id is not None:
            queues = [self._locked(connection, _LOCKED_OF_JOB, {"of_job": self.job_id}, limit)]
        else:
            found = self._knowledge_bases(connection, limit)
            share = -(-limit // max(1, len(found)))
            queues = [self._locked(connection, _LOCKED_OF_KNOWLEDGE_BASE, {"of_kb": kb}, share) for kb in found]
        return [waiting for turn in zip_longest(*queues) for waiting in turn if waiting is not None][:limit]

    def _knowledge_bases(self, connection: Connection, limit: int) -> list[str]:
        """Those that have something to claim, beginning after the one served last, and once around."""
        wanted = {"slow": int(self.slow), "most": limit}
        found = list(connection.scalars(_ROUND, {**wanted, "after": self.after}))
        if len(found) < limit and self.after:
            found += [kb for kb in connection.scalars(_ROUND, {**wanted, "after": ""}) if kb <= self.after]
        return found[:limit]

    def _locked(
        self, connection: Connection, locking: Select[Any], whose: Mapping[str, str], limit: int
    ) -> list[Waiting]:
        rows = connection.execute(locking, {**whose, "slow": int(self.slow), "most": limit})
        return [Waiting(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Waiting:
    id: int
    knowledge_base_id: str
    attempts: int


def _claimable(*whose: ColumnElement[bool]) -> Select[Any]:
    """The first `most` of these that are claimable."""
    slow, most = bindparam("slow", type_=Integer()), bindparam("most", type_=Integer())
    return (
        select(job_items.c.id, job_items.c.knowledge_base_id, job_items.c.attempts)
        .where(is_claimable(), job_items.c.slow == slow, *whose)
        .order_by(job_items.c.id)
        .limit(most)
    )


def _of_job() -> Select[Any]:
    # By its knowledge base, too: a job of many finished items is not looked through for the open ones.
    own = select(jobs.c.knowledge_base_id).where(jobs.c.id == bindparam("of_job")).scalar_subquery()
    mine = (job_items.c.knowledge_base_id == own, job_items.c.job_id == bindparam("of_job"))
    return _claimable(*mine, ~is_closing(own))


def _round() -> Select[Any]:
    """From each knowledge base with open items straight to the next: SQLite and PostgreSQL have no skip scan for it."""
    first, following, item = (job_items.alias(name) for name in ("first", "following", "item"))
    after = bindparam("after", type_=String())
    start = select(func.min(first.c.knowledge_base_id).label("id")).where(
        is_open(first), first.c.knowledge_base_id > after
    )
    walk = start.cte("walk", recursive=True)
    step = select(func.min(following.c.knowledge_base_id)).where(
        is_open(following), following.c.knowledge_base_id > walk.c.id
    )
    walk = walk.union_all(select(step.scalar_subquery()).where(walk.c.id.is_not(None)))
    slow = bindparam("slow", type_=Integer())
    has_some = select(item.c.id).where(is_claimable(item), item.c.knowledge_base_id == walk.c.id, item.c.slow == slow)
    ready = (walk.c.id.is_not(None), has_some.exists(), ~is_closing(walk.c.id))
    return select(walk.c.id).where(*ready).limit(bindparam("most", type_=Integer()))


# Built once: every claim goes through them.
_ROUND = _round()
_OF_JOB = _of_job()
_LOCKED_OF_JOB = _OF_JOB.with_for_update(skip_locked=True)
_LOCKED_OF_KNOWLEDGE_BASE = _claimable(job_items.c.knowledge_base_id == bindparam("of_kb")).with_for_update(
    skip_locked=True
)
