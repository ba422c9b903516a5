"""What routes take from the request: the service and the caller, both put there before routing."""

from __future__ import annotations

import time
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, Header, Query, Request

from rag_service.bootstrap import Service, Storage
from rag_service.errors import InvalidInput
from rag_service.types import Caller

# `async`, so that the framework calls them in place: a plain `def` costs a thread change each.


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _storage(request: Request) -> Storage:
    service: Service = request.app.state.service
    return service.storage


async def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


async def _seconds_open(request: Request) -> float:
    opened_at: float = request.app.state.opened_at
    return time.monotonic() - opened_at


async def _searching(request: Request) -> CapacityLimiter:
    limiter: CapacityLimiter = request.app.state.searching
    return limiter


ServiceOf = Annotated[Service, Depends(_service)]
StorageOf = Annotated[Storage, Depends(_storage)]
SecondsOpen = Annotated[float, Depends(_seconds_open)]
SearchingOf = Annotated[CapacityLimiter, Depends(_searching)]
CallerOf = Annotated[Caller, Depends(_caller)]
IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        description="The same request again under the same key, within a day, gets the same answer and does nothing.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=64, pattern="^[0-9A-Za-z-]+$")]


def ordinal(cursor: str | None) -> str | None:
    """A cursor that counts. Raises InvalidInput for one that nobody was given."""
    if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise InvalidInput("no such cursor", cursor=cursor)
    return cursor


def asked(storage: Storage, query: str) -> str:
    """The question, if it is one. Raises InvalidInput."""
    most = storage.settings.max_question_chars
    if len(query) > most:
        raise InvalidInput(f"a question has at most {most} characters", limit_characters=most, characters=len(query))
    if not query.strip():
        raise InvalidInput("the question is empty")
    return query.strip()
