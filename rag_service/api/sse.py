"""Server-sent events: `event:` and a JSON `data:`, a `: ping` every 15 seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

_PING_SECONDS = 15


def event(name: str, data: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data.model_dump_json())


def response(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(
        events,
        ping=_PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        sep="\n",
        headers={"Cache-Control": "no-store"},
    )
