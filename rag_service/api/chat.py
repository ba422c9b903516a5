"""OpenAI's chat completions over knowledge bases: a knowledge base is a model, and answers keep their citations."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from sse_starlette import ServerSentEvent

from rag_service.answering.events import Delta, Done, Event, Retrieved
from rag_service.answering.question import Question, Wishes
from rag_service.api import live, problems, sse
from rag_service.api.chat_shapes import (
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    Chunks,
    ModelList,
    ModelShape,
    completion,
    model_shape,
    wire,
)
from rag_service.api.context import CallerOf, ServiceOf, asked
from rag_service.bootstrap import Service
from rag_service.errors import InvalidInput, NotFound, YoujuError
from rag_service.types import Caller, KnowledgeBase, Turn

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", tags=["openai"])


@router.get("/models")
def models(service: ServiceOf, caller: CallerOf) -> ModelList:
    """Every knowledge base, by its name."""
    found: list[ModelShape] = []
    cursor: str | None = None
    while True:
        page = service.storage.knowledge_bases.browse(caller.tenant, 200, cursor)
        found += [model_shape(kb) for kb in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return ModelList(data=found)


@router.get("/models/{model:path}")
def model(model: str, service: ServiceOf, caller: CallerOf) -> ModelShape:
    return model_shape(_knowledge_base(service, caller, model))


@router.post("/chat/completions", response_model=ChatCompletion, responses=sse.RESPONSES)
async def complete(body: ChatRequest, request: Request, service: ServiceOf, caller: CallerOf) -> object:
    """The last user message is the question, what stands before it the conversation; `model` is a knowledge base, by
    id or name. Citations are a member of the message, and in a stream of the last chunk's delta."""
    kb = await to_thread.run_sync(_knowledge_base, service, caller, body.model)
    question = _question(body, service, caller, kb)
    if not body.stream:
        answer = await live.answer_of(service.asker, question, request)
        return Response(status_code=live.CLIENT_LEFT) if answer is None else completion(answer, body.model)
    events = live.checked(service.asker, question)
    first = await anext(events)
    usage = body.stream_options is not None and body.stream_options.include_usage
    assert isinstance(first, Retrieved)
    chunks = Chunks(first.answer_id, int(time.time()), body.model)
    return sse.response(_stream(chunks, events, usage, problems.request_id(request)))


def _knowledge_base(service: Service, caller: Caller, model: str) -> KnowledgeBase:
    """Raises NotFound."""
    knowledge_bases = service.storage.knowledge_bases
    try:
        return knowledge_bases.get(caller.tenant, model)
    except NotFound:
        return knowledge_bases.named(caller.tenant, model)


def _question(body: ChatRequest, service: Service, caller: Caller, kb: KnowledgeBase) -> Question:
    """Raises InvalidInput for messages that end in no question."""
    if body.messages[-1].role != "user":
        raise InvalidInput("the last message has to be the user's")
    wishes = Wishes(body.max_completion_tokens or body.max_tokens, body.temperature, body.top_p, body.seed)
    return Question(
        tenant=caller.tenant, query=asked(service.storage, body.messages[-1].text), knowledge_base_ids=(kb.id,),
        # Clients send these whatever the model is: extracts have no use for them.
        wishes=wishes if service.asker.heeds_wishes else Wishes(), history=tuple(_turns(body)),
    )  # fmt: skip


def _turns(body: ChatRequest) -> list[Turn]:
    """Exchanges before the question: each reply with what was said to it."""
    turns: list[Turn] = []
    said: list[str] = []
    for message in body.messages[:-1]:
        if message.role == "user":
            said.append(message.text)
        elif message.role == "assistant" and said:
            turns.append(Turn(f"message-{len(turns)}", "\n".join(said), message.text))
            said = []
    return turns


async def _stream(
    chunks: Chunks, events: AsyncGenerator[Event], usage: bool, request_id: str
) -> AsyncIterator[ServerSentEvent]:
    """As OpenAI sends them; it ends in `[DONE]`, or in an `error` and without.

    The text is the checked answer, sentence by sentence: what a client puts together is what is stored.
    """
    async with aclosing(events):
        try:
            yield _line(chunks.opening())
            async for event in events:
                match event:
                    case Delta(text):
                        yield _line(chunks.text(text))
                    case Done(answer):
                        yield _line(chunks.closing(answer))
                        if usage:
                            yield _line(chunks.usage(answer.usage))
            yield ServerSentEvent(data="[DONE]")
        except YoujuError as error:
            yield sse.openai_error(error, request_id)
        except Exception as error:
            # As in `answers`: after the first byte a failure can only be said in the stream.
            log.exception("request %s", request_id)
            yield sse.openai_error(sse.unforeseen(error), request_id)


def _line(chunk: ChatChunk) -> ServerSentEvent:
    return ServerSentEvent(data=json.dumps(wire(chunk), ensure_ascii=False))
