"""Evaluation runs, and what they found of each question.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "eval_runs",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("knowledge_base_ids", sa.JSON(), nullable=False),
        sa.Column("revision", sa.JSON(), nullable=False),
        sa.Column("set_name", sa.Text(), nullable=False),
        sa.Column("set_sha256", sa.String(length=64), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("error", sa.JSON(none_as_null=True)),
        sa.Column("metrics", sa.JSON(none_as_null=True)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'succeeded', 'failed')", name=op.f("ck_eval_runs_state")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_eval_runs")),
    )  # fmt: skip
    op.create_index(op.f("ix_eval_runs_tenant_id"), "eval_runs", ["tenant", "id"], unique=False)
    op.create_table(
        "eval_results",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("question_id", sa.Text(), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("direction", sa.String(length=32), nullable=False),
        sa.Column("answerable", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.Integer(), nullable=False),
        sa.Column("ranks", sa.JSON(), nullable=False, comment="of gold passages among the first ten, from 1"),
        sa.Column("evidence_recall", sa.Double()),
        sa.Column("score", sa.Double(), comment="evidence score"),
        sa.Column("outcome", sa.String(length=16)),
        sa.Column("contained", sa.Boolean()),
        sa.Column("citation_recall", sa.Double()),
        sa.Column("citation_precision", sa.Double()),
        sa.Column("quotes_exact", sa.Boolean()),
        sa.Column("timings_ms", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["eval_runs.id"], name=op.f("fk_eval_results_run_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("run_id", "position", name=op.f("pk_eval_results")),
    )  # fmt: skip


def downgrade() -> None:
    op.drop_table("eval_results")
    op.drop_index(op.f("ix_eval_runs_tenant_id"), table_name="eval_runs")
    op.drop_table("eval_runs")
