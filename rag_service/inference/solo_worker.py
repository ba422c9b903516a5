"""One reply at a time, each as fast as it can be had: prompt-lookup decoding on a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

import torch

from rag_service.errors import GenerationFailed, GeneratorUnavailable
from rag_service.inference.prompt_lookup import replied
from rag_service.inference.reading import Reading
from rag_service.inference.transformers_reply import Reply

log = logging.getLogger(__name__)


class SoloWorker:
    """First come, first served. `released` is called with a reply once nothing is held for it any more."""

    def __init__(self, begin: Callable[[], Reading], prefill_tokens: int, released: Callable[[Reply], None]) -> None:
        self._begin = begin
        self._prefill_tokens = prefill_tokens
        self._released = released
        self._waiting: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="youju-solo", daemon=True)
        self._thread.start()

    def add(self, reply: Reply) -> None:
        with self._changed:
            closed = self._closed
            if not closed:
                self._waiting.append(reply)
                self._changed.notify()
        if closed:
            self._released(reply)

    def leave(self, reply: Reply) -> None:
        """The reply is over: at once if it was still waiting, else at the model's next step."""
        with self._changed:
            waiting = reply in self._waiting
            if waiting:
                self._waiting.remove(reply)
        if waiting:
            self._released(reply)

    def ready(self) -> str:
        return "ok" if self._thread.is_alive() else "the model's thread has ended"

    def close(self) -> None:
        """Returns once the thread has ended, at the model's next step. Every reply must be over by then."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (reply := self._next()) is not None:
            try:
                self._answer(reply)
            finally:
                self._released(reply)

    def _next(self) -> Reply | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()

    def _answer(self, reply: Reply) -> None:
        try:
            for tokens in replied(self._begin, reply.prompt, reply.sampling, self._prefill_tokens):
                if not reply.take(tokens):
                    break
        except Exception as error:
            # Whatever a model fails at ends this reply and no other.
            log.exception("a reply to %d tokens failed", len(reply.prompt))
            failure = failed(error, reply)
        else:
            return
        # Outside the handler, whose traceback holds the tensors that are to be given back.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        reply.fail(failure)


def failed(error: Exception | str, reply: Reply) -> GenerationFailed:
    """What a caller is told of a fault of the model's; the log has the rest."""
    no_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in str(error).lower()
    detail = "the model ran out of memory" if no_memory else "the model failed"
    return GenerationFailed(detail, prompt_tokens=len(reply.prompt), completion_tokens=reply.tokens)


def shut_down() -> GeneratorUnavailable:
    return GeneratorUnavailable("the generator is shut down")
