"""Conversations and their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from rag_service.db.pages import Page, page
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import conversations, messages, now
from rag_service.errors import NotFound
from rag_service.types import Conversation, Message

_TITLE_CHARS = 80


class Conversations:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, tenant: str, title: str, knowledge_base_ids: Sequence[str]) -> Conversation:
        with self._database.write() as connection:
            conversation_id = open_conversation(connection, tenant, title, knowledge_base_ids)
            return _one(connection, tenant, conversation_id)

    def get(self, tenant: str, conversation_id: str) -> Conversation:
        """Raises NotFound."""
        with self._database.read() as connection:
            return _one(connection, tenant, conversation_id)

    def browse(self, tenant: str, limit: int, cursor: str | None) -> Page[Conversation]:
        """Newest first."""
        query = select(conversations).where(conversations.c.tenant == tenant).order_by(conversations.c.id.desc())
        if cursor is not None:
            query = query.where(conversations.c.id < cursor)
        with self._database.read() as connection:
            rows = [_shape(row) for row in connection.execute(query.limit(limit + 1))]
        return page(rows, limit, lambda conversation: conversation.id)

    def messages(self, tenant: str, conversation_id: str, limit: int, cursor: str | None) -> Page[Message]:
        """Oldest first. Raises NotFound."""
        query = (
            select(messages)
            .where(messages.c.conversation_id == conversation_id, messages.c.id > (int(cursor) if cursor else 0))
            .order_by(messages.c.id)
            .limit(limit + 1)
        )
        with self._database.read() as connection:
            _one(connection, tenant, conversation_id)
            rows = connection.execute(query).all()
        shown = page(rows, limit, lambda row: str(row.id))
        return Page(
            tuple(Message(r.role, r.content, r.answer_id, r.created_at) for r in shown.items), shown.next_cursor
        )

    def delete(self, tenant: str, conversation_id: str) -> None:
        """With its messages and answers. Raises NotFound."""
        with self._database.write() as connection:
            _one(connection, tenant, conversation_id)
            connection.execute(delete(conversations).where(conversations.c.id == conversation_id))


def open_conversation(connection: Connection, tenant: str, title: str, knowledge_base_ids: Sequence[str]) -> str:
    conversation_id = new_id()
    connection.execute(
        insert(conversations).values(
            id=conversation_id, tenant=tenant, title=title.strip()[:_TITLE_CHARS],
            knowledge_base_ids=list(knowledge_base_ids), created_at=now(),
        )
    )  # fmt: skip
    return conversation_id


def _one(connection: Connection, tenant: str, conversation_id: str) -> Conversation:
    query = select(conversations).where(conversations.c.id == conversation_id, conversations.c.tenant == tenant)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise NotFound("no such conversation", conversation_id=conversation_id)
    return _shape(row)


def _shape(row: Row[Any]) -> Conversation:
    return Conversation(row.id, row.title, tuple(row.knowledge_base_ids), row.created_at)
