"""Server-sent events: `event:` and a JSON `data:`, a `: ping` every 15 seconds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from rag_service.api import problems
from rag_service.api.shapes import ProblemShape
from rag_service.errors import YoujuError
from rag_service.types import Problem

_PING_SECONDS = 15
# In /openapi.json, for a route that may answer with events.
RESPONSES: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}}


def event(name: str, data: BaseModel) -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data.model_dump_json())


def error(fault: YoujuError, request_id: str) -> ServerSentEvent:
    """After the first byte a failure can only be an event."""
    problem = Problem(fault.code, fault.title, fault.detail, dict(fault.data))
    return event("error", ProblemShape(**problems.body(problem, instance=request_id)))


def openai_error(fault: YoujuError, request_id: str) -> ServerSentEvent:
    """As OpenAI's clients look for it: the last thing in a stream that has no `[DONE]`."""
    problem = Problem(fault.code, fault.title, fault.detail, dict(fault.data))
    body = problems.body(problem, instance=request_id)
    return ServerSentEvent(data=json.dumps({"error": {"message": fault.detail, "code": fault.code, **body}}))


def unforeseen(error: Exception) -> YoujuError:
    """What a client is told of a fault that nobody foresaw."""
    return YoujuError(f"see the service's log for this request ({type(error).__name__})")


def response(events: AsyncIterator[ServerSentEvent]) -> EventSourceResponse:
    return EventSourceResponse(
        events,
        ping=_PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="ping"),
        sep="\n",
        headers={"Cache-Control": "no-store"},
    )
