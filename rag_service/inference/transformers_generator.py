"""Replies of a model in this process, through transformers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from rag_service.errors import GenerationFailed, InvalidConfiguration, Overloaded
from rag_service.inference import model_directory, model_loading
from rag_service.inference.continuous_batching import BatchedWorker, planned
from rag_service.inference.model_directory import Quantization
from rag_service.inference.model_location import locate
from rag_service.inference.model_turns import take_turns
from rag_service.inference.prompt_lookup import STEP_WIDTHS
from rag_service.inference.reading import readings
from rag_service.inference.solo_worker import SoloWorker, shut_down
from rag_service.inference.transformers_reply import Reply, TimeLimits
from rag_service.ports import Delivery
from rag_service.types import Sampling

log = logging.getLogger(__name__)

Mode = Literal["auto", "solo", "batched"]
WATCH_SECONDS = 0.1
# One step of a prompt: short enough to leave within a second, long enough to keep the device busy. On an H200 2,048
# tokens of a 34-billion-parameter model are 140 TFLOP; on two CPU cores 256 of a 135-million one are 70 GFLOP.
STEP_TOKENS = {"cuda": 2_048, "cpu": 256}
BATCH_REQUESTS = {"cuda": 32, "cpu": 8}
BATCH_MEMORY_SHARE = {"cuda": 0.8, "cpu": 0.25}
REMEMBERED_REPLIES = 16


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts' tokenizer, as far as a generator needs it. `decode` leaves special tokens out."""

    encode: Callable[[str], Sequence[int]]
    decode: Callable[[Sequence[int]], str]
    highest_id: int


class Worker(Protocol):
    def add(self, reply: Reply) -> None: ...
    def leave(self, reply: Reply) -> None: ...
    def ready(self) -> str: ...
    def close(self) -> None: ...


class TransformersGenerator:
    """Implements `ports.Generator` and `ports.Ready`, over a model that is loaded (`open_generator` does both).

    *Solo*: one reply at a time with prompt-lookup decoding. *Batched*: many at once by continuous batching. With
    `auto` a reply that finds no other begins solo and any other batched; each stays where it began. Greedy replies say
    the same in both, but where two tokens score alike up to rounding, which a batch may decide otherwise.

    Replies drawn at a temperature, or with a repetition penalty, are solo in every mode: only there does a seed give
    the same text whatever runs beside it.

    `close` must be called: transformers' batching thread would keep the process alive.
    """

    def __init__(
        self,
        model: Any,
        model_name: str,
        *,
        decode: Callable[[Sequence[int]], str],
        mode: Mode,
        window_tokens: int,
        queue: int,
        limits: TimeLimits,
        batch_requests: int | None = None,
    ) -> None:
        self.name = f"transformers:{model_name}"
        self._decode = decode
        self._mode = mode
        self._window_tokens = window_tokens
        self._queue = queue
        self._limits = limits
        self._open: dict[Reply, Worker] = {}
        self._seconds: deque[float] = deque(maxlen=REMEMBERED_REPLIES)
        self._changed = threading.Condition()
        self._closed = False
        self._end_turns = take_turns(model)
        device = model.device.type
        # Before the batch, which is given what memory is then free.
        begin = readings(model, window_tokens, STEP_WIDTHS)
        self._solo = SoloWorker(begin, STEP_TOKENS.get(device, 2_048), self._release)
        self._batched = None if mode == "solo" else self._batch(model, batch_requests or BATCH_REQUESTS.get(device, 32))
        self._watch = threading.Thread(target=self._watch_limits, name="youju-limits", daemon=True)
        self._watch.start()

    def start(self, prompt: Sequence[int], sampling: Sampling, deliver: Callable[[Delivery], None]) -> Reply:
        """`deliver` must not wait for a lock that its caller holds while it cancels."""
        reply = Reply(tuple(prompt), sampling, self._decode, deliver, self._leave)
        with self._changed:
            if self._closed:
                raise shut_down()
            if len(self._open) >= self._queue:
                raise self._overloaded()
            worker = self._worker_for(sampling)
            self._open[reply] = worker
            self._changed.notify()
        if not 0 < len(prompt) <= self._window_tokens - sampling.max_tokens:
            reply.fail(self._does_not_fit(reply))
        worker.add(reply)
        return reply

    def ready(self) -> str:
        states = [worker.ready() for worker in (self._solo, self._batched) if worker is not None]
        return "the generator is shut down" if self._closed else next((s for s in states if s != "ok"), "ok")

    def close(self) -> None:
        """Ends every reply under way with GeneratorUnavailable, and the threads. May be called again."""
        with self._changed:
            closed, self._closed = self._closed, True
            replies = list(self._open)
            self._changed.notify()
        for reply in replies:
            reply.fail(shut_down())
        if not closed:
            for worker in (self._solo, self._batched):
                if worker is not None:
                    worker.close()
            self._watch.join()
            self._end_turns()

    def _worker_for(self, sampling: Sampling) -> Worker:
        if self._batched is None or not self._batched.takes(sampling):
            return self._solo
        return self._solo if self._mode == "auto" and not self._open else self._batched

    def _leave(self, reply: Reply) -> None:
        with self._changed:
            worker = self._open.get(reply)
        if worker is not None:
            worker.leave(reply)

    def _release(self, reply: Reply) -> None:
        with self._changed:
            self._open.pop(reply, None)
            self._seconds.append(time.monotonic() - reply.begun_at)

    def _watch_limits(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._open or self._closed)
                if self._closed:
                    return
                replies = list(self._open)
            for reply in replies:
                reply.expire(self._limits)
            time.sleep(WATCH_SECONDS)

    def _overloaded(self) -> Overloaded:
        usual = sum(self._seconds) / len(self._seconds) if self._seconds else 1.0
        return Overloaded(
            f"{self._queue} replies are under way or waiting", retry_after_seconds=max(1, math.ceil(usual))
        )

    def _does_not_fit(self, reply: Reply) -> GenerationFailed:
        prompt, most = len(reply.prompt), reply.sampling.max_tokens
        return GenerationFailed(
            f"a prompt of {prompt} tokens and a reply of {most} do not fit into {self._window_tokens}",
            prompt_tokens=prompt,
            max_tokens=most,
            window_tokens=self._window_tokens,
        )

    def _batch(self, model: Any, requests: int) -> BatchedWorker | None:
        device = model.device.type
        free = _free_bytes(model.device) * BATCH_MEMORY_SHARE.get(device, 0.8)
        shape = model_directory.shape_of(model.config.to_dict(), model.dtype.itemsize)
        plan = planned(shape, self._window_tokens, requests, STEP_TOKENS.get(device, 2_048), int(free))
        if plan is not None and model_loading.on_one_device(model):
            return BatchedWorker(model, plan, self._release)
        reason = "not even one window fits beside the model" if plan is None else "the model is on several devices"
        if self._mode == "batched":
            self._solo.close()
            self._end_turns()
            raise InvalidConfiguration(
                f"batched mode is not possible: {reason}", reason="batched", free_bytes=int(free)
            )
        log.warning("replies are generated one at a time: %s", reason)
        return None


def open_generator(
    model: str,
    *,
    prompts: Prompts,
    mode: Mode,
    dtype: str,
    quantization: Quantization,
    window_tokens: int,
    queue: int,
    limits: TimeLimits,
) -> TransformersGenerator:
    """Checks all that can be checked of `model`, a directory or a hub name, and only then loads it.

    Raises InvalidConfiguration.
    """
    path = locate(model)
    found = model_directory.inspect(path, window_tokens)
    model_directory.check_quantization(found, quantization)
    model_directory.check_tokenizer(path, prompts.encode, prompts.highest_id, found.shape.vocabulary)
    trap = model_directory.tokenizer_trap(path)
    if trap is not None:
        log.warning("%s", trap)
    free = model_loading.free_memory()
    model_directory.check_memory(found, window_tokens, dtype, quantization, free.total_bytes)
    loaded = model_loading.load(found, dtype, quantization, window_tokens * found.shape.cache_bytes)
    name = Path(model).name if Path(model).is_dir() else model
    return TransformersGenerator(
        loaded,
        name,
        decode=prompts.decode,
        mode=mode,
        window_tokens=window_tokens,
        queue=queue,
        limits=limits,
    )


def _free_bytes(device: torch.device) -> int:
    free = model_loading.free_memory()
    return free.gpus[device.index or 0] if device.type == "cuda" else free.ram_bytes
