"""The HTTP side of a completions server: one question, its tries, and the pieces of its answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import httpx

from rag_service.errors import GenerationFailed, GeneratorTimeout
from rag_service.inference.completion_faults import refusal, unreachable
from rag_service.inference.completion_stream import Chunk, EventSource, SseEvents, WholeBody, chunk_of, shown
from rag_service.inference.model_server import ERROR_BODY_BYTES, Retries, address, below, client, sign_of_life
from rag_service.inference.reply_limits import Limits, Watch, watched
from rag_service.inference.reply_text import ReplyText
from rag_service.types import Finished


class CompletionsServer:
    """Used from one event loop. No connection is kept for the next question."""

    def __init__(self, url: str, api_key: str | None, limits: Limits, retries: Retries, *, ids_sent: bool) -> None:
        self._base = address(url, "YOUJU_GENERATOR_URL", "an API key")
        self._api_key = api_key
        self._limits = limits
        self._retries = retries
        self._ids_sent = ids_sent
        connections = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        headers = {"accept": "text/event-stream, application/json", "connection": "close"}
        self._client = client(api_key, "YOUJU_GENERATOR_API_KEY", headers, connections, limits.connect_seconds)

    async def reply(
        self, body: bytes, text: ReplyText, say: Callable[[str], None], answering: Callable[[], None]
    ) -> Finished:
        """Calls `say` with each piece, `answering` once before. Raises Fault for what happened before the first byte of
        an answer, GenerationFailed for what came after it, GeneratorTimeout for a limit that passed."""
        try:
            async with watched(self._limits) as watch:
                response = _Response(text, watch, say, answering, self._api_key)
                await self._retries.result(partial(self._try, body, response), watch.left)
        except GeneratorTimeout:
            if not text.ended:
                raise
        return text.finished()

    async def check(self) -> str:
        return await sign_of_life(self._client, self._base, self._limits.connect_seconds + 1.0, "the engine")

    async def close(self) -> None:
        await self._client.aclose()

    async def _try(self, body: bytes, response: _Response) -> None:
        try:
            async with self._client.stream("POST", below(self._base, "completions"), content=body) as incoming:
                await self._refuse(incoming)
                await response.read(incoming)
        except httpx.ConnectTimeout as error:
            seconds = self._limits.connect_seconds
            raise GeneratorTimeout(
                f"no connection to the engine within {seconds:g} s", limit="connect", seconds=seconds
            ) from error
        except httpx.TransportError as error:
            response.broke_off(error)

    async def _refuse(self, incoming: httpx.Response) -> None:
        if incoming.status_code == 200:
            return
        body = bytearray()
        # A status whose explanation breaks off is still a status.
        with suppress(httpx.TransportError):
            async for data in incoming.aiter_raw():
                body += data
                if len(body) > ERROR_BODY_BYTES:
                    break
        secret, shown_body = self._api_key, bytes(body[:ERROR_BODY_BYTES])
        raise refusal(incoming.status_code, incoming.headers, shown_body, secret, self._ids_sent)


class _Response:
    """The answer to one question, over all its tries; there is text of one try only, as text ends the trying."""

    def __init__(
        self,
        text: ReplyText,
        watch: Watch,
        say: Callable[[str], None],
        answering: Callable[[], None],
        secret: str | None,
    ) -> None:
        self._text = text
        self._watch = watch
        self._say = say
        self._answering: Callable[[], None] | None = answering
        self._secret = secret
        self._bytes_came = False

    async def read(self, incoming: httpx.Response) -> None:
        events = _events(incoming)
        async for data in incoming.aiter_raw():
            self._bytes_came = True
            self._take(events.feed(data))
            if self._text.complete:
                return
        self._take(events.close())
        if not self._bytes_came:
            raise unreachable("it closed the connection without an answer")

    def broke_off(self, error: httpx.TransportError) -> None:
        """What a connection that broke means now."""
        reason = str(error) or type(error).__name__
        if not self._bytes_came:
            raise unreachable(reason) from error
        if not self._text.ended:
            raise GenerationFailed(f"the connection to the engine broke in the middle: {shown(reason)}") from error

    def _take(self, events: list[str]) -> None:
        for event in events:
            chunk, had_ended = self._chunk(event), self._text.ended
            piece = self._text.take(chunk)
            if chunk.generated:
                self._progressed(had_ended)
            if piece:
                self._say(piece)
            if self._text.complete:
                return

    def _chunk(self, event: str) -> Chunk:
        try:
            return chunk_of(event)
        except GenerationFailed:
            if self._secret is None or self._secret not in event:
                raise
        # The error would quote the event: once more without the key, and outside the first error's context.
        return chunk_of(event.replace(self._secret, "***"))

    def _progressed(self, had_ended: bool) -> None:
        if self._answering is not None:
            self._answering()
            self._answering = None
        if not self._text.ended:
            self._watch.progressed()
        elif not had_ended:
            self._watch.ended()


def _events(incoming: httpx.Response) -> EventSource:
    if incoming.headers.get("content-encoding", "identity") != "identity":
        raise GenerationFailed("the engine compresses its answer although it was asked not to")
    kind = incoming.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in ("text/event-stream", ""):
        return SseEvents()
    if kind == "application/json":
        return WholeBody()
    raise GenerationFailed(f"the engine answers in {shown(kind)} instead of an event stream")
