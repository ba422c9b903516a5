"""Many replies at once: continuous batching, as transformers has it, behind the replies' own ends."""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import ContinuousBatchingConfig, GenerationConfig

from rag_service.inference.model_directory import Shape
from rag_service.inference.solo_worker import failed
from rag_service.inference.token_choice import is_plain
from rag_service.inference.transformers_reply import Reply
from rag_service.types import Sampling

log = logging.getLogger(__name__)
PAGE_TOKENS = 256
POLL_SECONDS = 0.2
NO_STOP = (-1,)
"""Keeps the model's own configuration from naming one."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """`step_tokens` is the most the model takes in at once: a long prompt enters in parts, between other steps."""

    pages: int
    requests: int
    step_tokens: int


def planned(
    shape: Shape, window_tokens: int, requests: int, step_tokens: int, available_bytes: int
) -> BatchPlan | None:
    """A cache for `requests` full windows or for as many as fit; None if not even one does."""
    per_request = math.ceil(window_tokens / PAGE_TOKENS) + 1
    fixed = requests * shape.logits_bytes + step_tokens * shape.attention_bytes
    # Besides the cache: keys and values repeated for each head while one layer runs, and that layer's mask.
    per_token = shape.cache_bytes + shape.attention_bytes + step_tokens * shape.value_bytes
    # Two pages are transformers' own, and it starts no prompt while less than 15 % are free.
    affordable = (available_bytes - fixed) // (per_token * PAGE_TOKENS) - 2
    pages = min(math.ceil(requests * per_request / 0.85), affordable)
    return BatchPlan(pages, requests, step_tokens) if pages >= per_request else None


class BatchedWorker:
    """Takes greedy replies only: continuous batching draws from one generator for all requests, so that a seed would
    mean nothing, and knows no repetition penalty. Stop texts, limits and cancelling are the replies' own work here.

    A fault of the model ends all replies of the batch; the next one starts it again.
    """

    def __init__(self, model: Any, plan: BatchPlan, released: Callable[[Reply], None]) -> None:
        self._released = released
        self._under_way: dict[str, Reply] = {}
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._manager = model.init_continuous_batching(_greedy(), continuous_batching_config=_configuration(plan))
        self._manager.start()
        self._thread = threading.Thread(target=self._run, name="youju-batched", daemon=True)
        self._thread.start()

    @staticmethod
    def takes(sampling: Sampling) -> bool:
        return is_plain(sampling)

    def add(self, reply: Reply) -> None:
        """May take a second when the batch has to be started again."""
        with self._changed:
            number = str(next(self._numbers))
            taken = not self._closed and not reply.over and self._submit(number, reply)
            if taken:
                self._under_way[number] = reply
                self._changed.notify()
        if not taken:
            reply.fail(failed("the batch could not be started again", reply))
            self._released(reply)

    def leave(self, reply: Reply) -> None:
        """The reply is over: its part of the cache is free after the model's step under way."""
        with self._changed:
            numbers = [number for number, other in self._under_way.items() if other is reply]
            for number in numbers:
                del self._under_way[number]
                self._manager.cancel_request(number)
        if numbers:
            self._released(reply)

    def ready(self) -> str:
        return "ok" if self._thread.is_alive() else "the batch's thread has ended"

    def close(self) -> None:
        """Returns once the threads have ended, at the model's next step. Every reply must be over by then."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._manager.stop(block=True, hard_stop=True)
        self._manager.destroy()

    def _submit(self, number: str, reply: Reply) -> bool:
        for _ in range(2):
            accepted = self._manager.add_request(
                list(reply.prompt),
                request_id=number,
                max_new_tokens=reply.sampling.max_tokens,
                streaming=True,
                eos_token_id=list(reply.sampling.stop_ids or NO_STOP),
            )
            if accepted is not None:
                return True
            self._start_again()
        return False

    def _start_again(self) -> None:
        # What failed it has been told to its replies, through the results that are still in the queue.
        self._manager.join(time.perf_counter(), timeout=None)
        if not self._manager.is_running():
            self._manager.start()

    def _run(self) -> None:
        while self._wait_for_work():
            output = self._manager.get_result(timeout=POLL_SECONDS)
            if output is not None:
                self._pass_on(output)
            elif not self._manager.is_running():
                with self._changed:
                    self._start_again()

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._under_way or self._closed)
            return not self._closed

    def _pass_on(self, output: Any) -> None:
        with self._changed:
            reply = self._under_way.get(output.request_id)
        if reply is None:
            return
        if reply.take(output.generated_tokens[reply.tokens :]) and output.is_finished():
            log.error("a reply in the batch failed: %s", output.error)
            reply.fail(failed(output.error or "", reply))


def _greedy() -> GenerationConfig:
    return GenerationConfig(do_sample=False, num_return_sequences=1, eos_token_id=list(NO_STOP))


def _configuration(plan: BatchPlan) -> ContinuousBatchingConfig:
    return ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=plan.pages,
        max_batch_tokens=plan.step_tokens,
        max_requests_per_batch=plan.requests,
        # The other thread uses the same model: what attention it runs with is decided when it is loaded.
        auto_switch_to_flash=False,
        seed=0,
    )
