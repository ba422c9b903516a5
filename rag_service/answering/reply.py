"""A model's reply as it comes: what of it may be shown already, and what it was in the end."""

from __future__ import annotations

from rag_service.answering.stream_guard import StreamGuard
from rag_service.errors import YoujuError
from rag_service.ports import Delivery
from rag_service.text import storable
from rag_service.types import Finished


class Reply:
    """Takes what a generator delivers. `raw` is the model's own text, `text` what the guard let through."""

    def __init__(self, guard: StreamGuard) -> None:
        self._guard = guard
        self._raw: list[str] = []
        self._shown: list[str] = []
        self.finished: Finished | None = None

    @property
    def done(self) -> bool:
        """Nothing more is to come: the generator has ended, or what follows is not for anybody's eyes."""
        return self.finished is not None or self._guard.stopped

    @property
    def cut_off(self) -> bool:
        """Its tokens were used up before it had finished."""
        return self.finished is not None and self.finished.reason == "length"

    @property
    def raw(self) -> str:
        return "".join(self._raw)

    @property
    def text(self) -> str:
        return "".join(self._shown)

    @property
    def begun(self) -> bool:
        """Whether anything was shown."""
        return bool(self._shown)

    def take(self, delivery: Delivery) -> str:
        """What may be shown now. Raises the error that was delivered."""
        if isinstance(delivery, YoujuError):
            raise delivery
        if isinstance(delivery, Finished):
            self.finished = delivery
            return self._show(self._guard.finish())
        self._raw.append(delivery)
        shown = self._guard.feed(storable(delivery))
        return self._show(shown + self._guard.finish() if self._guard.stopped else shown)

    def _show(self, text: str) -> str:
        if text:
            self._shown.append(text)
        return text
