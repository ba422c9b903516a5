"""Bringing a database to this version's schema, and telling whether it is there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import migrations
from rag_service.db.sessions import Database, take_turns
from rag_service.errors import SchemaOutdated


def configuration(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(database: Database, to: str = "head") -> None:
    """One transaction; safe to call from several processes at once: they take turns."""
    with database.write() as connection:
        take_turns(connection, "schema")
        command.upgrade(configuration(connection), to)


def downgrade(database: Database, to: str) -> None:
    with database.write() as connection:
        take_turns(connection, "schema")
        command.downgrade(configuration(connection), to)


def check(database: Database) -> None:
    """Raises SchemaOutdated unless the database stands exactly at this version's schema."""
    with database.read() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
        wanted = ScriptDirectory.from_config(configuration(connection)).get_current_head()
    if found != wanted:
        raise SchemaOutdated(
            f"the database is at {found or 'nothing'}, this version needs {wanted}",
            found=found,
            wanted=wanted,
        )
