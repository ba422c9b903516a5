"""What a replay needs of an answer, refused questions by knowledge base, and a conversation's newest turns by index.

On SQLite a table with children is never made anew: dropping it would delete them with it. So columns come with a
default and go by DROP COLUMN, outside Alembic's batches.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in _answer_columns():
        op.add_column("answers", column)
    op.execute("UPDATE answers SET retrieval_query = query")
    op.add_column("answer_passages", sa.Column("rerank", sa.Double(), nullable=True))
    op.create_index(
        "ix_answers_refused",
        "answers",
        ["tenant", "id"],
        unique=False,
        sqlite_where=sa.text("outcome = 'refused'"),
        postgresql_where=sa.text("outcome = 'refused'"),
    )
    op.create_table(
        "refusals",
        sa.Column("knowledge_base_id", sa.String(length=36), nullable=False),
        sa.Column("answer_id", sa.String(length=36), nullable=False),
        sa.ForeignKeyConstraint(["answer_id"], ["answers.id"], name=op.f("fk_refusals_answer_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("knowledge_base_id", "answer_id", name=op.f("pk_refusals")),
    )
    op.create_index(op.f("ix_refusals_answer_id"), "refusals", ["answer_id"], unique=False)
    _list_refusals()
    op.create_index(op.f("ix_messages_conversation_id_id"), "messages", ["conversation_id", "id"], unique=False)
    op.drop_index(op.f("ix_messages_conversation_id"), table_name="messages")
    op.create_index(op.f("ix_messages_answer_id"), "messages", ["answer_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_messages_answer_id"), table_name="messages")
    op.create_index(op.f("ix_messages_conversation_id"), "messages", ["conversation_id"], unique=False)
    op.drop_index(op.f("ix_messages_conversation_id_id"), table_name="messages")
    op.drop_table("refusals")
    op.drop_index("ix_answers_refused", table_name="answers")
    op.drop_column("answer_passages", "rerank")
    for column in _answer_columns():
        op.drop_column("answers", column.name)


def _answer_columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column("retrieval_query", sa.Text(), server_default="", nullable=False),
        sa.Column("asked_language", sa.String(length=8), nullable=True),
        sa.Column(
            "reply",
            sa.JSON(none_as_null=True),
            nullable=True,
            comment="a string: JSON holds U+0000 and lone surrogates, which TEXT does not everywhere",
        ),
        sa.Column("sampling", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("history", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("given", sa.JSON(), server_default=sa.text("'[]'"), nullable=False),
        sa.Column("base_revision", sa.JSON(), server_default=sa.text("'{}'"), nullable=False),
    )


def _list_refusals() -> None:
    answers = sa.table("answers", sa.column("id"), sa.column("outcome"), sa.column("knowledge_base_ids", sa.JSON()))
    refusals = sa.table("refusals", sa.column("knowledge_base_id"), sa.column("answer_id"))
    connection = op.get_bind()
    refused = sa.select(answers.c.id, answers.c.knowledge_base_ids).where(answers.c.outcome == "refused")
    rows = [
        {"knowledge_base_id": knowledge_base_id, "answer_id": answer_id}
        for answer_id, knowledge_base_ids in connection.execute(refused)
        for knowledge_base_id in dict.fromkeys(knowledge_base_ids)
    ]
    if rows:
        connection.execute(sa.insert(refusals), rows)
