"""A reply of a model in this process: token ids in, text out, ended exactly once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from rag_service.errors import GeneratorTimeout, YoujuError
from rag_service.inference.stop_text import StopText
from rag_service.inference.token_text import TokenText
from rag_service.ports import Delivery
from rag_service.types import Finished, Sampling, Usage

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """`first_token` and `total` count from the start, waiting in the queue included."""

    first_token_seconds: float
    between_tokens_seconds: float
    total_seconds: float


class Reply:
    """Implements `ports.Generation`. Used by three threads: who asked, the model's, and the one that watches limits.

    What is delivered is delivered under the reply's lock, so that nothing follows a `cancel` that has returned.
    `ended` is called once, without that lock, after the last delivery.
    """

    def __init__(
        self,
        prompt: tuple[int, ...],
        sampling: Sampling,
        decode: Callable[[Sequence[int]], str],
        deliver: Callable[[Delivery], None],
        ended: Callable[[Reply], None],
    ) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.tokens = 0
        """How many the model has said; a stop id counts, as engines count it."""
        self._text = TokenText(decode)
        self._stop = StopText(sampling.stop)
        self._deliver = deliver
        self._tell = ended
        self._lock = threading.RLock()
        self._over = False
        self._told = False
        self.begun_at = self._token_at = time.monotonic()

    @property
    def over(self) -> bool:
        return self._over

    def take(self, tokens: Sequence[int]) -> bool:
        """What the model says next. False: the reply is over, and no more is wanted."""
        with self._lock:
            for token in tokens:
                if self._over:
                    break
                self._take(token)
        return not self._settled()

    def fail(self, error: YoujuError) -> None:
        with self._lock:
            self._end(error)
        self._settled()

    def cancel(self) -> None:
        with self._lock:
            self._over = True
        self._settled()

    def expire(self, limits: TimeLimits) -> None:
        """Fails with GeneratorTimeout if one of the limits has passed."""
        with self._lock:
            passed = None if self._over else self._passed(limits)
            if passed is not None:
                name, seconds = passed
                text = f"the limit for {name.replace('_', ' ')} of {seconds:g} s passed"
                self._end(GeneratorTimeout(text, limit=name, seconds=seconds))
        self._settled()

    def _take(self, token: int) -> None:
        self.tokens += 1
        self._token_at = time.monotonic()
        if token in self.sampling.stop_ids:
            self._finish("stop")
            return
        self._say(self._stop.feed(self._text.feed(token)))
        if self._stop.stopped:
            self._finish("stop")
        elif self.tokens >= self.sampling.max_tokens:
            self._finish("length")

    def _finish(self, reason: Literal["stop", "length"]) -> None:
        if not self._stop.stopped:
            self._say(self._stop.feed(self._text.rest()))
            self._say(self._stop.rest())
        usage = Usage(len(self.prompt), self.tokens)
        self._end(Finished("stop" if self._stop.stopped else reason, usage))

    def _say(self, text: str) -> None:
        if text and not self._over:
            self._hand_over(text)

    def _end(self, last: Finished | YoujuError) -> None:
        if not self._over:
            self._over = True
            self._hand_over(last)

    def _hand_over(self, delivery: Delivery) -> None:
        try:
            self._deliver(delivery)
        except Exception:
            # Whoever listens is broken, which must not cost the others their model.
            log.exception("a reply could not be delivered and is given up")
            self._over = True

    def _passed(self, limits: TimeLimits) -> tuple[str, float] | None:
        now = time.monotonic()
        if now - self.begun_at > limits.total_seconds:
            return "total", limits.total_seconds
        if self.tokens == 0 and now - self.begun_at > limits.first_token_seconds:
            return "first_token", limits.first_token_seconds
        if self.tokens > 0 and now - self._token_at > limits.between_tokens_seconds:
            return "between_tokens", limits.between_tokens_seconds
        return None

    def _settled(self) -> bool:
        """Whether the reply is over; says so to whom it concerns, the first time."""
        with self._lock:
            first, self._told = self._over and not self._told, self._told or self._over
        if first:
            self._tell(self)
        return self._over
