"""Idempotency keys by age: every request with a key removes those that are a day old.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEX = "ix_idempotency_keys_created_at"


def upgrade() -> None:
    op.create_index(_INDEX, "idempotency_keys", ["created_at"])


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="idempotency_keys")
