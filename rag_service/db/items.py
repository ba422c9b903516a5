"""Job items: which are open, which can be claimed, which bytes they keep, and the lock on all that is done to one.

Whoever changes what is to become of a document locks its items first, all of them, by id; then jobs, then the knowledge
base, then documents. So no two of them wait for each other, and none of them misses an item made meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Connection, FromClause, and_, literal, or_, select

from rag_service.db.batches import batches
from rag_service.db.tables import job_items, now

_OPEN = ("queued", "processing")


def is_open(items: FromClause = job_items) -> ColumnElement[bool]:
    # Spelt out in the statement: only for a literal does SQLite use the index over open items.
    return items.c.state.in_([literal(state, literal_execute=True) for state in _OPEN])


def is_claimable(items: FromClause = job_items) -> ColumnElement[bool]:
    """Waiting, or its worker fell silent."""
    lapsed = and_(items.c.state == "processing", items.c.lease_until < now())
    return and_(is_open(items), or_(items.c.state == "queued", lapsed))


def is_newest(items: FromClause = job_items) -> ColumnElement[bool]:
    """Nothing was accepted for its document since."""
    later = job_items.alias("later")
    same_document = later.c.document_id == items.c.document_id
    return ~select(later.c.id).where(same_document, later.c.id > items.c.id).exists()


def keeps_bytes(items: FromClause = job_items) -> ColumnElement[bool]:
    """It is open, or may be tried again."""
    return or_(is_open(items), and_(items.c.state.in_(("failed", "cancelled")), is_newest(items)))


def open_of(connection: Connection, document_id: str) -> list[int]:
    return list(connection.scalars(select(job_items.c.id).where(job_items.c.document_id == document_id, is_open())))


def newest_bytes(connection: Connection, document_id: str) -> list[str]:
    """What was last accepted for it; of anything older only what is live is kept."""
    newest = select(job_items.c.sha256).where(job_items.c.document_id == document_id, is_newest())
    return list(connection.scalars(newest))


def lock(connection: Connection, *which: ColumnElement[bool]) -> list[int]:
    """Until the transaction ends; their ids."""
    query = select(job_items.c.id).where(*which).order_by(job_items.c.id)
    return list(connection.scalars(query.with_for_update()))


def lock_documents(connection: Connection, document_ids: Collection[str]) -> None:
    """Every item there is of these documents."""
    # Twice: while the first waits, whoever it waits for may make another item, which a statement begun before does not
    # see. After that nobody makes one, as for this all others have to be locked.
    for _ in range(2):
        for some in batches(sorted(document_ids)):
            lock(connection, job_items.c.document_id.in_(some))
