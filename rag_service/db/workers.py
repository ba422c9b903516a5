"""Ingestion workers that live: each tells the database so, whatever it is doing."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update

from rag_service.db.sessions import Database
from rag_service.db.tables import now, workers

_KEPT_SECONDS = 86_400


class Workers:
    def __init__(self, database: Database) -> None:
        self._database = database

    def beat(self, name: str) -> None:
        """`name` lives now. Workers that have not said so for a day are forgotten."""
        with self._database.write() as connection:
            again = update(workers).where(workers.c.name == name).values(heartbeat_at=now())
            if connection.execute(again).rowcount == 0:
                connection.execute(insert(workers).values(name=name, started_at=now(), heartbeat_at=now()))
            connection.execute(delete(workers).where(workers.c.heartbeat_at < now() - _KEPT_SECONDS))

    def leave(self, name: str) -> None:
        """It ends, and is not missed."""
        with self._database.write() as connection:
            connection.execute(delete(workers).where(workers.c.name == name))

    def seconds_since_beat(self) -> float | None:
        """Since the youngest heartbeat of any worker; None where there is none."""
        with self._database.glance() as connection:
            return connection.scalar(select(func.min(now() - workers.c.heartbeat_at)))
