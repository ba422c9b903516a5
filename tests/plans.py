"""How a database goes about a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rooms import Room
from sqlalchemy import event, text


def plan_of(room: Room, part: str, call: Callable[[], object], *, few_rows: bool = False) -> str:
    """The plan of the one statement in `call` that has this `part`.

    `few_rows`: PostgreSQL would not care to use an index; where one is of no use it reads all rows in spite of this.
    """
    seen: list[tuple[str, Any]] = []

    def watch(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if part in statement:
            seen.append((statement, parameters))

    database = room.storage.database
    event.listen(database.engine, "before_cursor_execute", watch)
    call()
    event.remove(database.engine, "before_cursor_execute", watch)
    [(statement, parameters)] = seen
    explain = "EXPLAIN QUERY PLAN" if database.dialect == "sqlite" else "EXPLAIN"
    with database.read() as connection:
        if few_rows and database.dialect == "postgresql":
            connection.execute(text("SET LOCAL enable_seqscan = off"))
        return str([*connection.exec_driver_sql(f"{explain} {statement}", parameters)])
