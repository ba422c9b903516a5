"""Packing reports: what went into the prompt of an answer and what stayed out, exactly as the packer reported it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, insert, select

from rag_service.db.sessions import Database
from rag_service.db.tables import answers, packing_reports
from rag_service.errors import NotFound
from rag_service.types import PackedBlock, PackingReport


class PackingReports:
    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, tenant: str, answer_id: str) -> PackingReport:
        """Raises NotFound, also for an answer that was made without a prompt."""
        query = (
            select(answers.c.generator, packing_reports.c.report, packing_reports.c.prompt_sha256)
            .outerjoin(packing_reports, packing_reports.c.answer_id == answers.c.id)
            .where(answers.c.id == answer_id, answers.c.tenant == tenant)
        )
        with self._database.glance() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NotFound("no such answer", answer_id=answer_id)
        if row.prompt_sha256 is None:
            detail = f"this answer was made without a prompt ({row.generator}), so it has no packing report"
            raise NotFound(detail, answer_id=answer_id, generator=row.generator)
        return _report(row.report, row.prompt_sha256)


def keep_report(connection: Connection, answer_id: str, report: PackingReport) -> None:
    members = asdict(report)
    prompt_sha256 = members.pop("prompt_sha256")
    row = {"answer_id": answer_id, "report": members, "prompt_sha256": prompt_sha256}
    connection.execute(insert(packing_reports).values(**row))


def kept_report(connection: Connection, answer_id: str) -> PackingReport | None:
    row = connection.execute(select(packing_reports).where(packing_reports.c.answer_id == answer_id)).one_or_none()
    return None if row is None else _report(row.report, row.prompt_sha256)


def _report(members: dict[str, Any], prompt_sha256: str) -> PackingReport:
    blocks = tuple(PackedBlock(**block) for block in members["blocks"])
    return PackingReport(**{**members, "blocks": blocks}, prompt_sha256=prompt_sha256)
