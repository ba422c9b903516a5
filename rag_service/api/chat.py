"""OpenAI's chat completions over knowledge bases: a knowledge base is a model, and answers keep their citations."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import accumulate, groupby

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from sse_starlette import ServerSentEvent

from rag_service.answering.ask import TURNS
from rag_service.answering.events import Delta, Done, Event, Retrieved
from rag_service.answering.question import Question, Wishes
from rag_service.answering.refusal import is_refusal
from rag_service.api import live, problems, sse
from rag_service.api.chat_shapes import (
    ChatChunk,
    ChatCompletion,
    ChatMessage,
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
_HISTORY_CHARACTERS = 200_000
"""Far more than a window holds, and a bound on what is read of what a caller sends."""


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
    """The user's last words are the question, what stands before them the conversation; `model` is a knowledge base,
    by id or name. Citations are a member of the message, and in a stream of the last chunk's delta."""
    kb = await to_thread.run_sync(_knowledge_base, service, caller, body.model)
    question = _question(body, service, caller, kb)
    if not body.stream:
        done = await live.done_with(service.asker, question, request)
        return Response(status_code=live.CLIENT_LEFT) if done is None else completion(done, body.model)
    events = live.checked(service.asker, question)
    first = await live.unless_left(request, anext(events))
    if first is None:
        return Response(status_code=live.CLIENT_LEFT)
    usage = body.stream_options is not None and body.stream_options.include_usage
    assert isinstance(first, Retrieved)
    chunks = Chunks(first.answer_id, int(time.time()), body.model)
    return sse.response(_stream(chunks, events, usage, problems.request_id(request)), events)


def _knowledge_base(service: Service, caller: Caller, model: str) -> KnowledgeBase:
    """Raises NotFound."""
    knowledge_bases = service.storage.knowledge_bases
    try:
        return knowledge_bases.get(caller.tenant, model)
    except NotFound:
        return knowledge_bases.named(caller.tenant, model)


def _question(body: ChatRequest, service: Service, caller: Caller, kb: KnowledgeBase) -> Question:
    """Raises InvalidInput for messages that end in no question."""
    history, query = _spoken(body.messages)
    return Question(
        tenant=caller.tenant, query=asked(service.storage, query), knowledge_base_ids=(kb.id,),
        wishes=_wishes(body, service), history=_newest(history),
    )  # fmt: skip


def _wishes(body: ChatRequest, service: Service) -> Wishes:
    """Clients send these whatever the model is: extracts have no use for them, and what they call a maximum may be
    more than a reply gets."""
    if not service.asker.heeds_wishes:
        return Wishes()
    most = body.max_completion_tokens or body.max_tokens
    if most is not None:
        most = min(most, service.storage.settings.reply_tokens)
    return Wishes(most, body.temperature, body.top_p, body.seed)


def _spoken(messages: Sequence[ChatMessage]) -> tuple[list[Turn], str]:
    """The exchanges so far, and the question. Messages in a row by the same speaker are one, of as many lines; those
    by an assistant who speaks first answer nothing and are left out. Raises InvalidInput where there is no question."""
    heard = (message for message in messages if message.role in ("user", "assistant"))
    runs = [(role, "\n".join(filter(None, map(_said, run)))) for role, run in groupby(heard, lambda one: one.role)]
    if not runs or runs[-1][0] != "user":
        raise InvalidInput("the last message has to be the user's")
    texts = [text for _, text in runs[runs[0][0] == "assistant" :]]
    exchanges = zip(texts[0:-1:2], texts[1::2], strict=True)
    return [Turn(f"message-{at}", said, answer) for at, (said, answer) in enumerate(exchanges)], texts[-1]


def _said(message: ChatMessage) -> str:
    """A refusal is an answer "", as in `Conversations.turns`: in a prompt it would teach the model to refuse."""
    return "" if message.role == "assistant" and is_refusal(message.text) else message.text


def _newest(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    totals = accumulate(len(turn.question) + len(turn.answer) for turn in reversed(turns[-TURNS:]))
    fitting = sum(total <= _HISTORY_CHARACTERS for total in totals)
    return tuple(turns[len(turns) - fitting :])


async def _stream(
    chunks: Chunks, events: AsyncGenerator[Event], usage: bool, request_id: str
) -> AsyncIterator[ServerSentEvent]:
    """As OpenAI sends them; it ends in `[DONE]`, or in an `error` and without.

    The text is the checked answer, sentence by sentence: what a client puts together is what is stored.
    """
    try:
        yield _line(chunks.opening())
        async for event in events:
            match event:
                case Delta(text):
                    yield _line(chunks.text(text))
                case Done() as done:
                    yield _line(chunks.closing(done))
                    if usage:
                        yield _line(chunks.usage(done.answer.usage))
        yield ServerSentEvent(data="[DONE]")
    except YoujuError as error:
        yield sse.openai_error(error, request_id)
    except Exception as error:
        # As in `answers`: after the first byte a failure can only be said in the stream.
        log.exception("request %s", request_id)
        yield sse.openai_error(sse.unforeseen(error), request_id)


def _line(chunk: ChatChunk) -> ServerSentEvent:
    return sse.unnamed(wire(chunk))
