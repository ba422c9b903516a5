from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator

from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from rag_service.answering.ask import Question
from rag_service.answering.events import Cited, Delta, Done, Event, Retrieved
from rag_service.api import problems, sse
from rag_service.api.context import CallerOf, ServiceOf, asked
from rag_service.api.shapes import (
    AnswerRequest,
    AnswerShape,
    CitationShape,
    PassageShape,
    answer_shape,
    citation_shape,
    retrieval_shape,
)
from rag_service.bootstrap import Service
from rag_service.errors import YoujuError

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1/answers", tags=["asking"])


class RetrievalEvent(BaseModel):
    passages: list[PassageShape]


class DeltaEvent(BaseModel):
    text: str


class CitationEvent(BaseModel):
    citation: CitationShape


@router.post("", response_model=AnswerShape, responses=sse.RESPONSES)
async def ask(body: AnswerRequest, request: Request, service: ServiceOf, caller: CallerOf) -> object:
    """The answer, or with `stream` its events: `retrieval`, `delta`*, `citation`*, then one `done` or `error`."""
    question = Question(
        tenant=caller.tenant,
        query=asked(service.storage, body.query),
        knowledge_base_ids=tuple(dict.fromkeys(body.knowledge_base_ids)),
        conversation_id=body.conversation_id,
        language=None if body.language == "auto" else body.language,
    )
    if not body.stream:
        return answer_shape(await to_thread.run_sync(service.asker.ask, question))
    await to_thread.run_sync(service.asker.demand_scope, question)
    return sse.response(_stream(service, question, problems.request_id(request)))


@router.get("/{answer}")
def get(answer: str, service: ServiceOf, caller: CallerOf) -> AnswerShape:
    return answer_shape(service.answers.get(caller.tenant, answer))


async def _stream(service: Service, question: Question, request_id: str) -> AsyncIterator[ServerSentEvent]:
    """A thread answers and hands its events to the event loop; the stream itself holds none."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Queue[Event | YoujuError] = asyncio.Queue()

    gone = threading.Event()

    def hand_over(event: Event | YoujuError) -> None:
        if gone.is_set():
            raise _Gone
        loop.call_soon_threadsafe(waiting.put_nowait, event)

    def answer() -> None:
        if gone.is_set():
            return
        try:
            service.asker.ask(question, hand_over)
        except _Gone:
            log.info("request %s: nobody waits for the answer any more", request_id)
        except YoujuError as error:
            hand_over(error)
        except Exception as error:
            # After the first byte a failure can only be an event, and every stream ends in one.
            log.exception("request %s", request_id)
            hand_over(YoujuError(f"see the service's log for this request ({type(error).__name__})"))

    answering = loop.run_in_executor(None, answer)
    try:
        while True:
            event = await waiting.get()
            yield sse.error(event, request_id) if isinstance(event, YoujuError) else _shaped(event)
            if isinstance(event, (Done, YoujuError)):
                break
        await answering
    finally:
        gone.set()


class _Gone(Exception):
    """The client has left: what is under way for it ends at its next event."""


def _shaped(event: Event) -> ServerSentEvent:
    match event:
        case Retrieved(retrieval):
            return sse.event("retrieval", RetrievalEvent(passages=retrieval_shape(retrieval, False).passages))
        case Delta(text):
            return sse.event("delta", DeltaEvent(text=text))
        case Cited(citation):
            return sse.event("citation", CitationEvent(citation=citation_shape(citation)))
        case Done(answer):
            return sse.event("done", answer_shape(answer))
