"""Conversations and their messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from rag_service.db.pages import Page, page
from rag_service.db.sessions import Database, new_id
from rag_service.db.tables import answers, conversations, messages, now
from rag_service.errors import NotFound
from rag_service.types import Conversation, Message, Turn

_TITLE_CHARS = 80
_TURN = (answers.c.id, answers.c.query, answers.c.text, answers.c.outcome)


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

    def turns(self, tenant: str, conversation_id: str, limit: int) -> tuple[Turn, ...]:
        """The newest `limit` exchanges in the order they were stored, oldest first. Raises NotFound.

        A refused question is a turn with the answer "": later questions may refer to it, but a refusal in a prompt
        teaches a model to refuse. However long the conversation is, only its end is read.
        """
        newest = (
            select(messages.c.id, messages.c.answer_id)
            .where(messages.c.conversation_id == conversation_id, messages.c.answer_id.is_not(None))
            .order_by(messages.c.id.desc())
            .limit(limit)
            .subquery()
        )
        query = select(*_TURN).join(newest, newest.c.answer_id == answers.c.id).order_by(newest.c.id)
        with self._database.read() as connection:
            _one(connection, tenant, conversation_id)
            return tuple(_turn(*row) for row in connection.execute(query))

    def turns_of(self, tenant: str, answer_ids: Sequence[str]) -> tuple[Turn, ...]:
        """The exchanges with these answers, in the order of the ids, as `turns` gave them; those gone are left out."""
        wanted = select(*_TURN).where(answers.c.id.in_(answer_ids), answers.c.tenant == tenant)
        with self._database.glance() as connection:
            found = {row.id: _turn(*row) for row in connection.execute(wanted)}
        return tuple(found[answer_id] for answer_id in answer_ids if answer_id in found)

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


def _turn(answer_id: str, question: str, answer: str, outcome: str) -> Turn:
    return Turn(answer_id, question, "" if outcome == "refused" else answer)


def _shape(row: Row[Any]) -> Conversation:
    return Conversation(row.id, row.title, tuple(row.knowledge_base_ids), row.created_at)
