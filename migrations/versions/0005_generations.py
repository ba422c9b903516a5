"""Vectors of several embedders side by side: generations, and the changes from one to another.

`vectors` gets a key of two columns, for which SQLite has to make it anew; nothing refers to it, so nothing is lost.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_OPEN = sa.text("state IN ('queued', 'processing')")
_DIMENSIONS_UNTIL_NOW = 512
"""Of `use-multilingual`, the only embedder there was: for knowledge bases that have no vector to count them by."""


def upgrade() -> None:
    op.drop_index(op.f("ix_vectors_text_sha256"), table_name="vectors")
    _key_vectors_by("chunk_id", "embedder")
    op.create_index(
        op.f("ix_vectors_text_sha256_embedder_chunk_id"), "vectors", ["text_sha256", "embedder", "chunk_id"],
        unique=False,
    )  # fmt: skip
    op.create_table(
        "generations",
        sa.Column("knowledge_base_id", sa.String(length=36), nullable=False),
        sa.Column("embedder", sa.String(length=200), nullable=False),
        sa.Column("dimensions", sa.Integer(), nullable=False),
        sa.Column(
            "answered", sa.Boolean(), nullable=False, comment="whether questions were ever answered by it"
        ),
        sa.ForeignKeyConstraint(
            ["knowledge_base_id"], ["knowledge_bases.id"],
            name=op.f("fk_generations_knowledge_base_id"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("knowledge_base_id", "embedder", name=op.f("pk_generations")),
    )  # fmt: skip
    _count_dimensions()
    _create_reembeddings()


def downgrade() -> None:
    op.drop_index("uq_reembeddings_open", table_name="reembeddings", sqlite_where=_OPEN, postgresql_where=_OPEN)
    op.drop_index(op.f("ix_reembeddings_knowledge_base_id_revision"), table_name="reembeddings")
    op.drop_table("reembeddings")
    op.drop_table("generations")
    # Before this there was one generation a knowledge base: the one that answers stays.
    op.execute(
        "DELETE FROM vectors WHERE embedder <> (SELECT knowledge_bases.embedder FROM chunks"
        " JOIN knowledge_bases ON knowledge_bases.id = chunks.knowledge_base_id WHERE chunks.id = vectors.chunk_id)"
    )
    op.execute("DELETE FROM jobs WHERE kind = 'reembed'")
    op.drop_index(op.f("ix_vectors_text_sha256_embedder_chunk_id"), table_name="vectors")
    _key_vectors_by("chunk_id")
    op.create_index(op.f("ix_vectors_text_sha256"), "vectors", ["text_sha256"], unique=False)


def _key_vectors_by(*columns: str) -> None:
    if op.get_context().dialect.name == "sqlite":
        with op.batch_alter_table("vectors", recreate="always") as batch:
            batch.drop_constraint(op.f("pk_vectors"), type_="primary")
            batch.create_primary_key(op.f("pk_vectors"), list(columns))
    else:
        op.drop_constraint(op.f("pk_vectors"), "vectors", type_="primary")
        op.create_primary_key(op.f("pk_vectors"), "vectors", list(columns))


def _count_dimensions() -> None:
    """A generation of each knowledge base that has a vector, or had one that an index segment was made of."""
    op.execute(
        "INSERT INTO generations (knowledge_base_id, embedder, dimensions, answered)"
        f" SELECT id, embedder, COALESCE(bytes / 2, {_DIMENSIONS_UNTIL_NOW}), true FROM"
        " (SELECT id, embedder,"
        "   (SELECT MAX(LENGTH(vectors.vector)) FROM chunks JOIN vectors ON vectors.chunk_id = chunks.id"
        "     WHERE chunks.knowledge_base_id = knowledge_bases.id AND vectors.embedder = knowledge_bases.embedder)"
        "   AS bytes,"
        "   (SELECT COUNT(*) FROM index_segments WHERE index_segments.knowledge_base_id = knowledge_bases.id)"
        "   AS segments"
        " FROM knowledge_bases) AS known WHERE bytes IS NOT NULL OR segments > 0"
    )


def _create_reembeddings() -> None:
    op.create_table(
        "reembeddings",
        sa.Column("job_id", sa.String(length=36), nullable=False),
        sa.Column("knowledge_base_id", sa.String(length=36), nullable=False),
        sa.Column("embedder", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column(
            "done", sa.BigInteger(), nullable=False, comment="live chunks that have a vector of the embedder"
        ),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="claims since something was last stored"),
        sa.Column("token", sa.BigInteger(), nullable=False, comment="raised at claim: fences effects"),
        sa.Column("worker", sa.String(length=200)),
        sa.Column("lease_until", sa.Double()),
        sa.Column("problem", sa.JSON(none_as_null=True)),
        sa.Column("replaced", sa.String(length=200), comment="the embedder that answered before"),
        sa.Column("revision", sa.BigInteger(), comment="the first that the embedder answered"),
        sa.CheckConstraint(
            "state in ('queued', 'processing', 'ready', 'failed', 'cancelled')", name=op.f("ck_reembeddings_state")
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_reembeddings_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["knowledge_base_id"], ["knowledge_bases.id"],
            name=op.f("fk_reembeddings_knowledge_base_id"), ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_reembeddings")),
    )  # fmt: skip
    op.create_index(
        "uq_reembeddings_open", "reembeddings", ["knowledge_base_id"],
        unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN,
    )  # fmt: skip
    op.create_index(
        op.f("ix_reembeddings_knowledge_base_id_revision"), "reembeddings", ["knowledge_base_id", "revision"],
        unique=False,
    )  # fmt: skip
