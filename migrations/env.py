"""Alembic's entry: runs on the connection handed in by `rag_service.db.schema`, in that one transaction."""

from __future__ import annotations

from alembic import context

from rag_service.db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
