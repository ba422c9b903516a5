"""What a replay of a follow-up needs: the terms of the conversation that were asked for beside the question.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    context = sa.Column(
        "retrieval_context", sa.JSON(), nullable=False, server_default=sa.text("'{}'"), comment="term to weight"
    )
    op.add_column("answers", context)


def downgrade() -> None:
    op.drop_column("answers", "retrieval_context")
