from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from rag_service.answering.events import Cited, Delta, Done, Event, Packed, Retrieved
from rag_service.answering.question import Question, Wishes
from rag_service.api import live, problems, sse
from rag_service.api.context import CallerOf, ServiceOf, asked
from rag_service.api.shapes import (
    AnswerRequest,
    AnswerShape,
    CitationShape,
    GenerationWishes,
    PackingShape,
    PackRequest,
    PassageShape,
    ReplayRequest,
    ReplayShape,
    answer_shape,
    citation_shape,
    retrieval_shape,
)
from rag_service.bootstrap import Service
from rag_service.errors import YoujuError
from rag_service.types import Caller

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["asking"])


class RetrievalEvent(BaseModel):
    passages: list[PassageShape]


class PackingEvent(BaseModel):
    report: PackingShape


class DeltaEvent(BaseModel):
    text: str


class CitationEvent(BaseModel):
    citation: CitationShape


@router.post("/answers", response_model=AnswerShape, responses=sse.RESPONSES)
async def ask(body: AnswerRequest, request: Request, service: ServiceOf, caller: CallerOf) -> object:
    """The answer, or with `stream` its events: `retrieval`, `packing`?, `delta`*, `citation`*, then one `done` or
    `error`. What can be refused before the first event is refused with a status."""
    question = replace(_question(body, service, caller), wishes=_wishes(body.generation))
    if not body.stream:
        done = await live.done_with(service.asker, question, request)
        return Response(status_code=live.CLIENT_LEFT) if done is None else answer_shape(done.answer)
    events = live.answered(service.asker, question)
    first = await live.unless_left(request, anext(events))
    if first is None:
        return Response(status_code=live.CLIENT_LEFT)
    return sse.response(_stream(first, events, problems.request_id(request)), events)


@router.post("/pack")
def pack(body: PackRequest, service: ServiceOf, caller: CallerOf) -> PackingShape:
    """The prompt that the question would get, as a report: nothing is generated."""
    report = service.asker.pack(_question(body, service, caller), body.window_tokens, body.reply_tokens)
    return PackingShape.model_validate(report)


@router.get("/answers/{answer}")
def get(answer: str, service: ServiceOf, caller: CallerOf) -> AnswerShape:
    return answer_shape(service.answers.get(caller.tenant, answer))


@router.get("/answers/{answer}/packing")
def packing(answer: str, service: ServiceOf, caller: CallerOf) -> PackingShape:
    return PackingShape.model_validate(service.packing_reports.get(caller.tenant, answer))


@router.post("/answers/{answer}/replay", response_model=ReplayShape)
async def replay(answer: str, body: ReplayRequest, request: Request, service: ServiceOf, caller: CallerOf) -> object:
    """Retrieval at the stored revision, the prompt and the text made again: which are equal, and how they differ."""
    made = await live.unless_left(request, live.replayed(service.replayer, caller.tenant, answer))
    return Response(status_code=live.CLIENT_LEFT) if made is None else ReplayShape.model_validate(made)


def _question(body: AnswerRequest | PackRequest, service: Service, caller: Caller) -> Question:
    return Question(
        tenant=caller.tenant,
        query=asked(service.storage, body.query),
        knowledge_base_ids=tuple(dict.fromkeys(body.knowledge_base_ids)),
        conversation_id=body.conversation_id,
        language=None if body.language == "auto" else body.language,
    )


def _wishes(generation: GenerationWishes | None) -> Wishes:
    return Wishes() if generation is None else Wishes(**generation.model_dump())


async def _stream(first: Event, events: AsyncGenerator[Event], request_id: str) -> AsyncIterator[ServerSentEvent]:
    """Every stream ends in exactly one `done` or `error`; leaving it ends the generation."""
    try:
        yield _shaped(first)
        async for event in events:
            yield _shaped(event)
    except YoujuError as error:
        yield sse.error(error, request_id)
    except Exception as error:
        # After the first byte a failure can only be an event, and every stream ends in one.
        log.exception("request %s", request_id)
        yield sse.error(sse.unforeseen(error), request_id)


def _shaped(event: Event) -> ServerSentEvent:
    match event:
        case Retrieved(_, retrieval):
            return sse.event("retrieval", RetrievalEvent(passages=retrieval_shape(retrieval, False).passages))
        case Packed(report):
            return sse.event("packing", PackingEvent(report=PackingShape.model_validate(report)))
        case Delta(text):
            return sse.event("delta", DeltaEvent(text=text))
        case Cited(citation):
            return sse.event("citation", CitationEvent(citation=citation_shape(citation)))
        case Done(answer, _):
            return sse.event("done", answer_shape(answer))
