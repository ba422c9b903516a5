"""The text of a document's version behind everything else of it.

SQLite finds a column by walking through those before it, and what is longer than a page lies in a chain of pages: to
learn the file name of a passage it read the whole document. PostgreSQL keeps long texts elsewhere.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Column by column and not by a table made anew: dropping the old one would take its chunks along.

    Row by row, because SQLite keeps in memory what one statement has changed; and by a second table, because a column
    is dropped by writing every row once more, with whatever else is in it.
    """
    if op.get_context().dialect.name != "sqlite":
        return
    ids = op.get_bind().scalars(sa.text("SELECT id FROM document_versions ORDER BY id")).all()
    op.create_table("moving", sa.Column("id", sa.Integer(), primary_key=True), sa.Column("text", sa.Text()))
    _of_each(
        ids,
        "INSERT INTO moving SELECT id, text FROM document_versions WHERE id = :id",
        "UPDATE document_versions SET text = '' WHERE id = :id",
    )
    op.drop_column("document_versions", "text")
    # SQLite adds no column that must not be NULL without a default; nothing relies on it.
    op.add_column("document_versions", sa.Column("text", sa.Text(), nullable=False, server_default=""))
    _of_each(
        ids,
        "UPDATE document_versions SET text = (SELECT text FROM moving WHERE id = :id) WHERE id = :id",
        "DELETE FROM moving WHERE id = :id",
    )
    op.drop_table("moving")


def _of_each(ids: Sequence[int], *statements: str) -> None:
    connection = op.get_bind()
    for version_id in ids:
        for statement in statements:
            connection.execute(sa.text(statement), {"id": version_id})


def downgrade() -> None:
    """The order of columns is nothing that an older version could trip over."""
