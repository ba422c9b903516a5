"""A generator's whole reply, waited for."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue

from rag_service.errors import YoujuError
from rag_service.ports import Delivery, Generation
from rag_service.types import Finished


def written(start: Callable[[Callable[[Delivery], None]], Generation]) -> str:
    """The text of what `start` sets going, waited for in the caller's own thread; `api.live` waits on the event loop.
    Raises what the generator fails with."""
    delivered: SimpleQueue[Delivery] = SimpleQueue()
    generation = start(delivered.put)
    text: list[str] = []
    try:
        while not isinstance(delivery := delivered.get(), Finished):
            if isinstance(delivery, YoujuError):
                raise delivery
            text.append(delivery)
        return "".join(text)
    finally:
        generation.cancel()
