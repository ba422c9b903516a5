"""Replies from any server that speaks OpenAI's completions protocol: vLLM, SGLang, llama.cpp."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Literal

from rag_service.errors import GenerationFailed, GeneratorUnavailable, Overloaded, YoujuError
from rag_service.inference.background_loop import BackgroundLoop
from rag_service.inference.circuit_breaker import Admission, CircuitBreaker
from rag_service.inference.completion_faults import Fault
from rag_service.inference.completion_request import request_body
from rag_service.inference.completions_server import CompletionsServer
from rag_service.inference.model_server import Retries
from rag_service.inference.reply_limits import Limits
from rag_service.inference.reply_text import ReplyText
from rag_service.inference.server_health import ServerHealth
from rag_service.ports import Delivery
from rag_service.types import Finished, Sampling

Verdict = Literal["succeeded", "failed", "abandoned"]
"""What a reply says about the engine, in the circuit breaker's words."""


class OpenAIGenerator:
    """Implements `ports.Generator` and `ports.Ready`. One thread with an event loop; a reply costs a coroutine.

    - The prompt goes as token ids, as text only with `send_text`, every sampling member with it (`request_body`).
    - Tried again, within the first-token limit, only while no byte of an answer came: no connection, a reset, 408, 429
      (its Retry-After kept), 500, 502, 503, 504. A connection that hangs is not tried again: its limit has passed.
    - An answer that is not streamed is taken too, if it comes whole within the first-token limit.
    - No text of `sampling.stop` and nothing after it reaches `deliver`. The text of special tokens is left to the
      engine's `skip_special_tokens`: ids are known of the prompt, not of the reply.
    - A cancelled reply's connection is closed, which is how these servers learn that nobody reads on. No connection is
      kept for the next reply: beside generation a new one costs nothing, and a kept one breaks when it is needed.
    - Proxy variables, .netrc and redirects are ignored: prompts hold a team's documents and go to `url` and nowhere
      else. Certificates are checked against the system's store (SSL_CERT_FILE names another).
    - `api_key` goes as a bearer token and stands in no error, not even when the server repeats it.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None,
        queue: int,
        limits: Limits,
        send_text: bool,
        decode: Callable[[Sequence[int]], str],
        count: Callable[[str], int],
        retries: Retries | None = None,
        breaker: CircuitBreaker | None = None,
    ) -> None:
        """`queue`: replies under way at most. `count`: tokens of a text, where the server does not say."""
        self.name = f"openai:{model}"
        self._model = model
        self._queue = queue
        self._decode = decode if send_text else None
        self._count = count
        self._breaker = breaker or CircuitBreaker(failures=5, open_seconds=10.0, clock=time.monotonic)
        self._server = CompletionsServer(url, api_key, limits, retries or Retries(), ids_sent=not send_text)
        self._lock = threading.Lock()
        self._under_way: set[_Reply] = set()
        self._closed = False
        self._loop = BackgroundLoop("openai-generator")
        self._health = ServerHealth("the engine", GeneratorUnavailable, self._breaker, self._loop, self._server.check)
        self._health.state()

    def start(self, prompt: Sequence[int], sampling: Sampling, deliver: Callable[[Delivery], None]) -> _Reply:
        """`deliver` must not wait for a lock that its caller holds while it cancels."""
        content = self._decode(prompt) if self._decode else prompt
        body = request_body(self._model, content, len(prompt), sampling)
        text = ReplyText(len(prompt), sampling, self._count)
        with self._lock:
            if self._closed:
                raise GeneratorUnavailable("the generator is shut down")
            if len(self._under_way) >= self._queue:
                raise Overloaded(f"{self._queue} replies are under way", retry_after_seconds=1)
            admission = self._health.admit()
            ask = partial(self._server.reply, body, text, answering=partial(self._breaker.answering, admission))
            reply = _Reply(self._loop, ask, deliver, partial(self._over, admission))
            self._under_way.add(reply)
            self._loop.post(reply.begin)
        return reply

    def ready(self) -> str:
        return self._health.state()

    def close(self) -> None:
        """Ends every reply under way with GeneratorUnavailable, and the thread. May be called again."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self._loop.close(self._end_all())

    def _over(self, admission: Admission, reply: _Reply, verdict: Verdict, last: Finished | YoujuError) -> None:
        with self._lock:
            self._under_way.discard(reply)
        if verdict == "succeeded":
            self._breaker.succeeded(admission)
            self._health.learnt("ok")
        elif verdict == "failed":
            self._breaker.failed(admission)
            self._health.learnt(str(last))
        else:
            self._breaker.abandoned(admission)

    async def _end_all(self) -> None:
        with self._lock:
            replies = list(self._under_way)
        await asyncio.gather(*(reply.end() for reply in replies))
        await self._health.end()
        await self._server.close()


class _Reply:
    """Implements `ports.Generation`. All but `cancel` runs in the event loop."""

    def __init__(
        self,
        loop: BackgroundLoop,
        ask: Callable[[Callable[[str], None]], Awaitable[Finished]],
        deliver: Callable[[Delivery], None],
        over: Callable[[_Reply, Verdict, Finished | YoujuError], None],
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._deliver = deliver
        self._over = over
        self._task: asyncio.Task[Finished] | None = None
        # Reentrant, as whoever is delivered to may cancel from inside.
        self._delivering = threading.RLock()
        self._cancelled = False

    def cancel(self) -> None:
        with self._delivering:
            self._cancelled = True
        self._loop.post(self._stop)

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> Finished:
        return await self._ask(self._say)

    def _ended(self, task: asyncio.Task[Finished]) -> None:
        """Also runs for a task that was cancelled before its first step. What the reply occupied is free before its
        last word goes out: whoever waited for that may ask again at once."""
        last, verdict = _outcome(task)
        self._over(self, verdict, last)
        self._say(last)

    def _say(self, delivery: Delivery) -> None:
        with self._delivering:
            if not self._cancelled:
                self._deliver(delivery)


def _outcome(task: asyncio.Task[Finished]) -> tuple[Finished | YoujuError, Verdict]:
    if task.cancelled():
        return GeneratorUnavailable("the generator was shut down"), "abandoned"
    match task.exception():
        case None:
            return task.result(), "succeeded"
        case Fault() as fault:
            return fault.error, "failed" if fault.blames_engine else "abandoned"
        case YoujuError() as error:
            return error, "failed"
        case bug:
            task.get_loop().call_exception_handler({"message": "a reply could not be read", "exception": bug})
            return GenerationFailed("the reply could not be read"), "abandoned"
