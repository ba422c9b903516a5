"""An answer on its way, for routes: what takes a thread takes one for as long as it works, and a model that writes
takes none. It hands its text to the event loop through a queue, so two hundred answers under way cost two hundred
coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from anyio import to_thread
from fastapi import Request

from rag_service.answering.ask import Asker, Prepared, told
from rag_service.answering.events import Delta, Done, Event, Packed, Retrieved
from rag_service.answering.question import Question
from rag_service.answering.reply import Reply
from rag_service.errors import GenerationFailed, YoujuError
from rag_service.ports import Delivery
from rag_service.text import may_end_a_sentence
from rag_service.types import Answer

CLIENT_LEFT = 499
"""What nginx logs where the client closed the connection: nobody reads it."""
_LOOK_SECONDS = 0.5
"""How often a request without a stream looks whether its client is still there."""


async def answered(asker: Asker, question: Question) -> AsyncGenerator[Event]:
    """The events of one answer, as `Asker.ask` emits them. Closing it, or cancelling what reads it, ends the
    generation. Raises what `Asker.ask` raises; the first event comes once the generator has taken the question."""
    prepared = await to_thread.run_sync(asker.prepare, question)
    if prepared.plan is None:
        yield Retrieved(prepared.answer_id, prepared.retrieval)
        answer = await to_thread.run_sync(asker.extract, prepared)
    else:
        reply = asker.reply(prepared)
        try:
            async with aclosing(_generated(asker, prepared, reply)) as events:
                async for event in events:
                    yield event
        except YoujuError as error:
            answer = await to_thread.run_sync(asker.instead, prepared, error, reply.begun)
        else:
            answer = await to_thread.run_sync(asker.conclude, prepared, reply)
    for event in told(answer):
        yield event


async def checked(asker: Asker, question: Question) -> AsyncGenerator[Event]:
    """As `answered`, but every delta is checked already: a sentence is shown once the next has begun, and together
    they are the text of Done. Raises GenerationFailed where what was shown is no longer what can be answered: a
    document was deleted meanwhile."""
    prepared = await to_thread.run_sync(asker.prepare, question)
    shown, ending = "", False
    if prepared.plan is None:
        yield Retrieved(prepared.answer_id, prepared.retrieval)
        answer = await to_thread.run_sync(asker.extract, prepared)
    else:
        reply = asker.reply(prepared)
        try:
            async with aclosing(_generated(asker, prepared, reply)) as events:
                async for event in events:
                    if not isinstance(event, Delta):
                        yield event
                        continue
                    # A look at the whole reply: not for pieces that neither end a sentence nor begin the next.
                    ended, ending = ending, may_end_a_sentence(event.text)
                    if not (ended or ending):
                        continue
                    text = await to_thread.run_sync(asker.checked_so_far, prepared, reply)
                    if text != shown:
                        yield Delta(_after(shown, text))
                        shown = text
        except YoujuError as error:
            answer = await to_thread.run_sync(asker.instead, prepared, error, bool(shown))
        else:
            answer = await to_thread.run_sync(asker.conclude, prepared, reply)
    if answer.text != shown:
        yield Delta(_after(shown, answer.text))
    for event in told(answer):
        if not isinstance(event, Delta):
            yield event


def _after(shown: str, text: str) -> str:
    if not text.startswith(shown):
        raise GenerationFailed("a document that was cited has been deleted meanwhile")
    return text[len(shown) :]


async def _generated(asker: Asker, prepared: Prepared, reply: Reply) -> AsyncGenerator[Event]:
    assert prepared.plan is not None
    loop = asyncio.get_running_loop()
    delivered: asyncio.Queue[Delivery] = asyncio.Queue()

    def hand_over(delivery: Delivery) -> None:
        # The loop may have ended with the service while the generator was still writing.
        if not loop.is_closed():
            loop.call_soon_threadsafe(delivered.put_nowait, delivery)

    generation = asker.start(prepared, hand_over)
    try:
        yield Retrieved(prepared.answer_id, prepared.retrieval)
        yield Packed(prepared.plan.report)
        while not reply.done:
            text = reply.take(await delivered.get())
            if text:
                yield Delta(text)
    finally:
        generation.cancel()


async def answer_of(asker: Asker, question: Question, request: Request) -> Answer | None:
    """The finished answer; None when the client has left, and with it the reason to go on."""
    finishing = asyncio.ensure_future(_last(asker, question))
    try:
        while not (await asyncio.wait({finishing}, timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                return None
        return finishing.result()
    finally:
        finishing.cancel()


async def _last(asker: Asker, question: Question) -> Answer:
    async with aclosing(answered(asker, question)) as events:
        async for event in events:
            if isinstance(event, Done):
                return event.answer
    raise AssertionError("every answer ends in Done")
