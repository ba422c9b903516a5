"""Asks a generator and waits: what the benches of generation share."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rag_service.ports import Delivery, Generator
from rag_service.types import Finished, Sampling


@dataclass(frozen=True, slots=True)
class Timed:
    """`first_seconds` until the first piece, `seconds` until the end, from the same start."""

    text: str
    tokens: int
    first_seconds: float
    seconds: float


def ask_all(generator: Generator, prompts: Sequence[Sequence[int]], sampling: Sampling) -> tuple[list[Timed], float]:
    """All at once; the replies in the order of the prompts, and the seconds until the last one ended."""
    begun = time.perf_counter()
    heard: list[queue.Queue[tuple[float, Delivery]]] = [queue.Queue() for _ in prompts]
    for prompt, deliveries in zip(prompts, heard, strict=True):

        def deliver(delivery: Delivery, deliveries: queue.Queue[tuple[float, Delivery]] = deliveries) -> None:
            deliveries.put((time.perf_counter() - begun, delivery))

        generator.start(prompt, sampling, deliver)
    replies = [_reply(deliveries) for deliveries in heard]
    return replies, max(reply.seconds for reply in replies)


def _reply(deliveries: queue.Queue[tuple[float, Delivery]]) -> Timed:
    pieces: list[str] = []
    first = 0.0
    while True:
        seconds, delivery = deliveries.get()
        first = first or seconds
        match delivery:
            case str():
                pieces.append(delivery)
            case Finished(_, usage):
                return Timed("".join(pieces), usage.completion_tokens, first, seconds)
            case error:
                raise SystemExit(f"a reply failed: {error}")
