"""An answer on its way, for routes: what takes a thread takes one for as long as it works, and a model that writes
takes none. It hands its text to the event loop through a queue, so two hundred answers under way cost two hundred
coroutines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import TypeVar

from anyio import to_thread
from fastapi import Request

from rag_service.answering.ask import Asker, Begun, Prepared
from rag_service.answering.events import Cited, Delta, Done, Event, Packed, Retrieved
from rag_service.answering.question import Question
from rag_service.answering.replay import Replay, Replayer
from rag_service.answering.reply import Reply
from rag_service.api.showing import Checked, Nothing, Provisional, Showing
from rag_service.errors import YoujuError
from rag_service.ports import Delivery, Generation
from rag_service.types import Finished

log = logging.getLogger(__name__)
Made = TypeVar("Made")

CLIENT_LEFT = 499
"""What nginx logs where the client closed the connection: nobody reads it."""
_LOOK_SECONDS = 0.3
"""How often a request without a stream looks whether its client is still there."""


def answered(asker: Asker, question: Question) -> AsyncGenerator[Event]:
    """The events of one answer, as `Asker.ask` emits them. Closing it, or cancelling what reads it, ends the
    generation. Raises what `Asker.ask` raises; the first event comes once the generator has taken the question."""
    return _events(asker, question, Provisional())


def checked(asker: Asker, question: Question) -> AsyncGenerator[Event]:
    """As `answered`, but every delta is checked already. Raises GenerationFailed where what was shown is no longer what
    can be answered: a document was deleted meanwhile."""
    return _events(asker, question, Checked(asker))


async def finished(asker: Asker, question: Question) -> Done:
    """The last event of an answer of which nothing is shown before."""
    async with aclosing(_events(asker, question, Nothing())) as events:
        async for event in events:
            if isinstance(event, Done):
                return event
    raise AssertionError("every answer ends in Done")


async def done_with(asker: Asker, question: Question, request: Request) -> Done | None:
    """As `finished`; None when the client has left."""
    return await unless_left(request, finished(asker, question))


async def unless_left(request: Request, making: Coroutine[object, object, Made]) -> Made | None:
    """What `making` returns; None when the client has left, and with it the reason to go on."""
    task = asyncio.ensure_future(making)
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                return None
        return task.result()
    finally:
        task.cancel()


async def written(start: Callable[[Callable[[Delivery], None]], Generation]) -> str:
    """A generator's whole reply, as `answering.writing.written`. Raises what the generator fails with."""
    delivered, generation = _started(start)
    text: list[str] = []
    try:
        while not isinstance(delivery := await delivered.get(), Finished):
            if isinstance(delivery, YoujuError):
                raise delivery
            text.append(delivery)
        return "".join(text)
    finally:
        generation.cancel()


async def replayed(replayer: Replayer, tenant: str, answer_id: str) -> Replay:
    """As `Replayer.replay`, without holding a thread while the model writes."""
    replaying = await to_thread.run_sync(replayer.begin, tenant, answer_id)
    text = await written(lambda deliver: replayer.start(replaying, deliver)) if replaying.writes else None
    return await to_thread.run_sync(replayer.conclude, replaying, text)


async def _events(asker: Asker, question: Question, showing: Showing) -> AsyncGenerator[Event]:
    begun = await to_thread.run_sync(asker.begin, question)
    rewritten = await _rewritten(asker, begun) if begun.rewriting else None
    prepared = await to_thread.run_sync(asker.prepare, begun, rewritten)
    cut_off = False
    if prepared.plan is None:
        yield Retrieved(prepared.answer_id, prepared.retrieval)
        answer = await to_thread.run_sync(asker.extract, prepared)
    else:
        reply = asker.reply(prepared)
        try:
            async with aclosing(_generated(asker, prepared, reply, showing)) as events:
                async for event in events:
                    yield event
        except YoujuError as error:
            answer = await to_thread.run_sync(asker.instead, prepared, error, showing.begun)
        else:
            answer = await to_thread.run_sync(asker.conclude, prepared, reply)
            cut_off = reply.cut_off
    if rest := showing.rest(answer):
        yield Delta(rest)
    for citation in answer.citations:
        yield Cited(citation)
    yield Done(answer, cut_off)


async def _rewritten(asker: Asker, begun: Begun) -> str | None:
    try:
        return await written(lambda deliver: asker.start_rewriting(begun, deliver))
    except YoujuError as error:
        log.warning("a follow-up is left to the rules: %s: %s", error.code, error.detail)
        return None


async def _generated(asker: Asker, prepared: Prepared, reply: Reply, showing: Showing) -> AsyncGenerator[Event]:
    assert prepared.plan is not None
    delivered, generation = _started(lambda deliver: asker.start(prepared, deliver))
    try:
        yield Retrieved(prepared.answer_id, prepared.retrieval)
        yield Packed(prepared.plan.report)
        while not reply.done:
            piece = reply.take(await delivered.get())
            if piece and (shown := await showing.more(prepared, reply, piece)):
                yield Delta(shown)
    finally:
        generation.cancel()


def _started(
    start: Callable[[Callable[[Delivery], None]], Generation],
) -> tuple[asyncio.Queue[Delivery], Generation]:
    loop = asyncio.get_running_loop()
    delivered: asyncio.Queue[Delivery] = asyncio.Queue()

    def hand_over(delivery: Delivery) -> None:
        # The loop may have ended with the service while the generator was still writing.
        if not loop.is_closed():
            loop.call_soon_threadsafe(delivered.put_nowait, delivery)

    return delivered, start(hand_over)
