"""Requests that may come twice: what was answered under a key is answered again, and nothing is done again.

The answer is stored in the transaction of what it tells of: there is never one without the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from rag_service.db.sessions import Database, take_turns
from rag_service.db.tables import idempotency_keys, now
from rag_service.errors import KeyReused

_KEPT_SECONDS = 86_400
Json = dict[str, Any]


class Replayed(Exception):
    """No fault: the request was answered before, and this is the answer. Raised so that nothing is committed."""

    def __init__(self, answer: Json) -> None:
        super().__init__("answered before")
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Once:
    """A request under a key. `request_sha256` tells it from every other; `told` is what of the answer is known."""

    tenant: str
    key: str
    request_sha256: str
    told: Json

    def begin(self, connection: Connection) -> None:
        """First in the transaction: of two at once the second waits here. Raises Replayed, KeyReused."""
        take_turns(connection, f"idempotency:{self.tenant}:{self.key}")
        answer = _answer(connection, self.tenant, self.key, self.request_sha256)
        if answer is not None:
            raise Replayed(answer)

    def end(self, connection: Connection, made: Json) -> None:
        """Last in it: the answer is what was known, and `made`."""
        keys = idempotency_keys.c
        # Asked for by itself: a clock that goes on while the statement runs is no condition for PostgreSQL's index.
        oldest = select(now() - _KEPT_SECONDS).scalar_subquery()
        connection.execute(delete(idempotency_keys).where(keys.created_at < oldest))
        row = {"tenant": self.tenant, "key": self.key, "request_sha256": self.request_sha256}
        connection.execute(insert(idempotency_keys).values(**row, response={**self.told, **made}, created_at=now()))


class Answered:
    def __init__(self, database: Database) -> None:
        self._database = database

    def find(self, tenant: str, key: str, request_sha256: str) -> Json | None:
        """What was answered under the key within a day. Raises KeyReused where it was to another request."""
        with self._database.read() as connection:
            return _answer(connection, tenant, key, request_sha256)


def _answer(connection: Connection, tenant: str, key: str, request_sha256: str) -> Json | None:
    keys = idempotency_keys.c
    query = select(keys.request_sha256, keys.response).where(
        keys.tenant == tenant, keys.key == key, keys.created_at >= now() - _KEPT_SECONDS
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    if row.request_sha256 != request_sha256:
        raise KeyReused("this Idempotency-Key came with another request before", key=key)
    answer: Json = row.response
    return answer
