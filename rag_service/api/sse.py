"""Server-sent events: `event:` and a JSON `data:`, a `: ping` every 15 seconds."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from rag_service.api import problems
from rag_service.api.shapes import ProblemShape
from rag_service.errors import YoujuError

_PING_SECONDS = 15
# Ends of a line to Unicode, though not to SSE: readers that split with `str.splitlines`, as httpx does, would tear the
# data there. In JSON they stand inside of strings only, where an escape means the same.
_LINE_ENDS = {ord(end): json.dumps(end)[1:-1] for end in "\x85\u2028\u2029"}
# In /openapi.json, for a route that may answer with events.
RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def event(name: str, data: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data.model_dump_json().translate(_LINE_ENDS))


def unnamed(members: dict[str, Any]) -> ServerSentEvent:
    """As OpenAI sends them: `data:` only."""
    return ServerSentEvent(data=json.dumps(members, ensure_ascii=False).translate(_LINE_ENDS))


def error(fault: YoujuError, request_id: str) -> ServerSentEvent:
    """After the first byte a failure can only be an event."""
    return event("error", ProblemShape(**problems.body(problems.told(fault, request_id), instance=request_id)))


def openai_error(fault: YoujuError, request_id: str) -> ServerSentEvent:
    """As OpenAI's clients look for it: the last thing in a stream that has no `[DONE]`."""
    return unnamed(problems.for_openai(problems.body(problems.told(fault, request_id), instance=request_id)))


def unforeseen(error: Exception) -> YoujuError:
    """A fault that nobody foresaw as one that has a code; like all from inside it is told to the log alone."""
    return YoujuError(f"{type(error).__name__}: {error}")


class _Streamed(EventSourceResponse):
    """Closes what the events are made of, also where the client is gone before the first of them was asked for: a
    generator that never began does not run its own `finally`."""

    def __init__(self, events: AsyncIterator[ServerSentEvent], source: AsyncGenerator[Any] | None, **kw: Any) -> None:
        super().__init__(events, **kw)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._source is not None:
                await self._source.aclose()


def response(events: AsyncIterator[ServerSentEvent], source: AsyncGenerator[Any] | None = None) -> EventSourceResponse:
    """`source` is closed with the response."""
    return _Streamed(
        events,
        source,
        ping=_PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        sep="\n",
        headers={"Cache-Control": "no-store"},
    )
