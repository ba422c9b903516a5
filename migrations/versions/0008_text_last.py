"""The text of a document's version behind everything else of it.

SQLite finds a column by walking through those before it, and what is longer than a page lies in a chain of pages: to
learn the file name of a passage it read the whole document. PostgreSQL keeps long texts elsewhere.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_context().dialect.name != "sqlite":
        return
    # Column by column and not by a table made anew: dropping the old one would take its chunks along. SQLite adds no
    # column that must not be NULL without a default; nothing relies on it.
    op.add_column("document_versions", sa.Column("moved", sa.Text(), nullable=False, server_default=""))
    op.execute("UPDATE document_versions SET moved = text")
    op.drop_column("document_versions", "text")
    op.execute("ALTER TABLE document_versions RENAME COLUMN moved TO text")


def downgrade() -> None:
    """The order of columns is nothing that an older version could trip over."""
