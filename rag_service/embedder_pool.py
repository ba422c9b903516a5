"""Embedders by name, opened when first needed: knowledge bases may each have their own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from rag_service.errors import EmbedderUnavailable, InvalidConfiguration
from rag_service.ports import Bounded, Closing, Embedder, TextEmbedder, Vector, Vectors

Kind = TypeVar("Kind", bound=TextEmbedder)


@dataclass(slots=True)
class _Place(Generic[Kind]):
    opening: threading.Lock = field(default_factory=threading.Lock)
    opened: Kind | None = None
    users: int = 0


class TextEmbedders(Generic[Kind]):
    """Thread-safe. `kept` are open already and stay so; of the others the `most` used last do, longer only while
    somebody works with them. Opening one makes nobody wait who wants another."""

    def __init__(self, open_by_name: Callable[[str], Kind], kept: Mapping[str, Kind], most: int = 2) -> None:
        self._open = open_by_name
        self._kept = dict(kept)
        self._most = most
        self._lock = threading.Lock()
        self._places: OrderedDict[str, _Place[Kind]] = OrderedDict()

    def embed(self, embedder: str, texts: Sequence[str]) -> Vectors:
        """As `TextEmbedder.embed`; raises InvalidConfiguration where it cannot be opened."""
        with self.using(embedder) as opened:
            return opened.embed(texts)

    def dimensions(self, embedder: str) -> int:
        with self.using(embedder) as opened:
            return opened.dimensions

    def demand(self, embedder: str) -> int:
        """Its dimensions, once it has loaded what it works with: some know them before. Raises as `embed` does."""
        with self.using(embedder) as opened:
            return int(opened.embed([]).shape[1])

    def most_tokens(self, embedder: str) -> int | None:
        """See `ports.Bounded`."""
        with self.using(embedder) as opened:
            return opened.most_tokens if isinstance(opened, Bounded) else None

    @contextmanager
    def using(self, embedder: str) -> Iterator[Kind]:
        """Open while the block runs. Raises what opening it raises."""
        if embedder in self._kept:
            yield self._kept[embedder]
            return
        with self._lock:
            place = self._places.setdefault(embedder, _Place())
            self._places.move_to_end(embedder)
            place.users += 1
        try:
            with place.opening:
                place.opened = place.opened or self._open(embedder)
            yield place.opened
        finally:
            self._leave(place)

    def close(self) -> None:
        """Also those that are kept."""
        with self._lock:
            places, self._places = list(self._places.values()), OrderedDict()
        for opened in (*self._kept.values(), *(place.opened for place in places)):
            _close(opened)

    def _leave(self, place: _Place[Kind]) -> None:
        with self._lock:
            place.users -= 1
            left = self._pop_idle()
        for one in left:
            _close(one.opened)

    def _pop_idle(self) -> list[_Place[Kind]]:
        """Those that could not be opened, and those of which there are too many; the least used first."""
        idle = {name: place for name, place in self._places.items() if not place.users}
        failed = [name for name, place in idle.items() if place.opened is None]
        surplus = len(self._places) - len(failed) - self._most
        others = [name for name in idle if name not in failed]
        return [self._places.pop(name) for name in (*failed, *others[: max(0, surplus)])]


class QuestionEmbedders(TextEmbedders[Embedder]):
    """Implements `ports.Embedders`."""

    def embed_query(self, embedder: str, text: str) -> Vector:
        try:
            with self.using(embedder) as opened:
                return opened.embed_query(text)
        except InvalidConfiguration as error:
            # A knowledge base's embedder that other processes have, and this one has not.
            raise EmbedderUnavailable(f"{embedder} cannot be opened here: {error.detail}", embedder=embedder) from error


def _close(opened: object) -> None:
    if isinstance(opened, Closing):
        opened.close()
