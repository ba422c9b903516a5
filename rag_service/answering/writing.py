"""A generator's whole reply, waited for."""

from __future__ import annotations

from collections.abc import Sequence
from queue import SimpleQueue

from rag_service.errors import YoujuError
from rag_service.ports import Delivery, Generator
from rag_service.types import Finished, Sampling


def written(generator: Generator, prompt: Sequence[int], sampling: Sampling) -> str:
    """Its text as it came, in the caller's own thread. Raises what the generator fails with."""
    delivered: SimpleQueue[Delivery] = SimpleQueue()
    generation = generator.start(prompt, sampling, delivered.put)
    text: list[str] = []
    try:
        while not isinstance(delivery := delivered.get(), Finished):
            if isinstance(delivery, YoujuError):
                raise delivery
            text.append(delivery)
        return "".join(text)
    finally:
        generation.cancel()
