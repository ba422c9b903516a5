"""API keys: shown once, stored as SHA-256. A key carries 256 random bits, so a plain hash cannot be guessed back."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from sqlalchemy import insert, select, update

from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import api_keys, now
from rag_service.errors import NotFound, Unauthenticated
from rag_service.types import Caller

PREFIX = "yj_"


@dataclass(frozen=True, slots=True)
class ApiKey:
    id: str
    tenant: str
    name: str
    created_at: float
    revoked_at: float | None


class Keys:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant: str, name: str) -> tuple[str, str]:
        """(id, the key itself): the only time anybody sees it."""
        key_id, key = new_id(), PREFIX + secrets.token_urlsafe(32)
        with self._database.write() as connection:
            connection.execute(
                insert(api_keys).values(id=key_id, tenant=tenant, name=name, sha256=_hash(key), created_at=now())
            )
        return key_id, key

    def browse(self) -> list[ApiKey]:
        columns = (
            api_keys.c.id,
            api_keys.c.tenant,
            api_keys.c.name,
            api_keys.c.created_at,
            api_keys.c.revoked_at,
        )
        with self._database.read() as connection:
            return [ApiKey(*row) for row in connection.execute(select(*columns).order_by(api_keys.c.id))]

    def revoke(self, key_id: str) -> None:
        """From the next request on. Raises NotFound."""
        where = (api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
        with self._database.write() as connection:
            if connection.execute(update(api_keys).where(*where).values(revoked_at=now())).rowcount == 0:
                raise NotFound("no such live key", key_id=key_id)

    def caller(self, key: str) -> Caller:
        """Raises Unauthenticated for a key that is unknown or revoked: the answer does not say which."""
        query = select(api_keys.c.tenant, api_keys.c.id).where(
            api_keys.c.sha256 == _hash(key), api_keys.c.revoked_at.is_(None)
        )
        with self._database.glance() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise Unauthenticated("the API key is not valid")
        return Caller(tenant=row.tenant, key_id=row.id)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
