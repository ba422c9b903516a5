"""What ingestion needs to replace a document's content, to retry, to be fair, to reuse vectors, to mirror folders.

Columns come with a default and by ADD COLUMN, as in 0002: a table with children is never made anew on SQLite.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN = sa.text("state IN ('queued', 'processing')")


def upgrade() -> None:
    for column in _item_columns():
        op.add_column("job_items", column)
    _say_of_attempts("counted at claim")
    # What was to be ingested stood on the document until now; an attempt was its own fencing token.
    op.execute(
        "UPDATE job_items SET token = attempts, "
        + ", ".join(
            f"{name} = (SELECT {name} FROM documents WHERE documents.id = job_items.document_id)"
            for name in ("knowledge_base_id", "filename", "media_type", "bytes", "sha256")
        )
    )
    op.create_index(op.f("ix_job_items_sha256"), "job_items", ["sha256"], unique=False)
    op.drop_index("ix_job_items_open", table_name="job_items")
    op.create_index(
        "ix_job_items_open", "job_items", ["knowledge_base_id", "slow", "id"],
        unique=False, sqlite_where=_OPEN, postgresql_where=_OPEN,
    )  # fmt: skip
    # A version is cited under the name it came by, also once there is a newer one with another.
    op.add_column("document_versions", sa.Column("filename", sa.Text(), nullable=False, server_default=""))
    op.execute(
        "UPDATE document_versions SET filename = "
        "(SELECT filename FROM documents WHERE documents.id = document_versions.document_id)"
    )
    op.add_column(
        "vectors",
        sa.Column("text_sha256", sa.String(length=64), comment="of what was embedded: the chunk in its context"),
    )
    op.create_index(op.f("ix_vectors_text_sha256"), "vectors", ["text_sha256"], unique=False)
    op.create_table(
        "workers",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("heartbeat_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workers")),
    )
    _create_mirrored_files()


def downgrade() -> None:
    op.drop_index(op.f("ix_mirrored_files_document_id"), table_name="mirrored_files")
    op.drop_table("mirrored_files")
    op.drop_table("workers")
    op.drop_index(op.f("ix_vectors_text_sha256"), table_name="vectors")
    op.drop_column("vectors", "text_sha256")
    op.drop_column("document_versions", "filename")
    op.drop_index("ix_job_items_open", table_name="job_items")
    op.create_index(
        "ix_job_items_open", "job_items", ["id"], unique=False, sqlite_where=_OPEN, postgresql_where=_OPEN
    )  # fmt: skip
    op.drop_index(op.f("ix_job_items_sha256"), table_name="job_items")
    _say_of_attempts("counted at claim; also the fencing token")
    for column in _item_columns():
        op.drop_column("job_items", column.name)


def _item_columns() -> tuple[sa.Column, ...]:
    return (
        sa.Column(
            "token", sa.BigInteger(), nullable=False, server_default=sa.text("0"),
            comment="raised at claim: fences effects",
        ),
        sa.Column(
            "slow", sa.Integer(), nullable=False, server_default=sa.text("0"),
            comment="1 once its parse outlasted its slice",
        ),
        sa.Column("knowledge_base_id", sa.String(length=36), nullable=False, server_default=""),
        sa.Column("filename", sa.Text(), nullable=False, server_default=""),
        sa.Column("media_type", sa.String(length=200), nullable=False, server_default=""),
        sa.Column("bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
        sa.Column("sha256", sa.String(length=64), nullable=False, server_default=""),
    )  # fmt: skip


def _say_of_attempts(comment: str) -> None:
    if op.get_context().dialect.supports_comments:
        op.alter_column("job_items", "attempts", comment=comment)


def _create_mirrored_files() -> None:
    op.create_table(
        "mirrored_files",
        sa.Column("knowledge_base_id", sa.String(length=36), nullable=False),
        sa.Column("root", sa.Text(), nullable=False, comment="absolute path of the mirrored folder"),
        sa.Column("path", sa.Text(), nullable=False, comment="below the root, parts joined by /"),
        sa.Column("document_id", sa.String(length=36), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=False),
        sa.Column(
            "owned", sa.Boolean(), nullable=False, comment="whether mirroring put the document there, and may remove it"
        ),
        sa.ForeignKeyConstraint(
            ["document_id"], ["documents.id"], name=op.f("fk_mirrored_files_document_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["knowledge_base_id"], ["knowledge_bases.id"],
            name=op.f("fk_mirrored_files_knowledge_base_id"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("knowledge_base_id", "root", "path", name=op.f("pk_mirrored_files")),
    )  # fmt: skip
    op.create_index(op.f("ix_mirrored_files_document_id"), "mirrored_files", ["document_id"], unique=False)
