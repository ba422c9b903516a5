"""The index in this process: for every knowledge base the newest view, brought up to date before it is searched.

SQL is the truth, so whether a view is current is asked of SQL at every search. Views are immutable: a reader keeps the
one it took while another thread publishes the next by replacing one reference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from rag_service.errors import IndexDamaged, InvalidInput, NotFound, StorageFull
from rag_service.index import segments
from rag_service.index.dense import Bytes, DenseBase
from rag_service.index.segments import Base
from rag_service.index.view import View
from rag_service.ports import Candidates, ChangeFeed, Segment

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ViewStatus:
    """What is in memory for one knowledge base. `segment_id` is None where everything is in the tail."""

    revision: int
    segment_id: str | None
    base_chunks: int
    retired_chunks: int
    tail_chunks: int


@dataclass(slots=True)
class _Shelf:
    """One knowledge base. `loading` is held while a base is read, `syncing` while a next view is made from SQL."""

    view: View | None = None
    given_up: str | None = None
    """A segment that could be neither read nor rebuilt; until there is a newer one, all chunks are in the tail."""
    loading: Lock = field(default_factory=Lock)
    syncing: Lock = field(default_factory=Lock)

    def wants(self, segment: Segment | None) -> bool:
        """Whether `segment` is one to load."""
        if segment is None or segment.id == self.given_up:
            return False
        return self.view is None or self.view.base.segment_id != segment.id


class LiveIndex:
    """Implements `ports.Index` over segment files below `root` and the change feed of SQL.

    `heal` rebuilds a knowledge base's segment from SQL, commits it and returns it; it is called at most once at a time
    for a knowledge base, when its newest segment is missing or damaged. `dense_base` makes a dense base of its verified
    bytes: `Gpu.base` where a GPU searches.
    """

    def __init__(
        self,
        root: Path,
        feed: ChangeFeed,
        dimensions: int,
        heal: Callable[[str], Segment],
        dense_base: Callable[[Bytes], DenseBase] = DenseBase.deserialised,
    ) -> None:
        self._root = root
        self._feed = feed
        self._dimensions = dimensions
        self._heal = heal
        self._dense_base = dense_base
        self._shelves: dict[str, _Shelf] = {}

    def search(
        self, knowledge_base_id: str, vector: NDArray[np.float32], terms: Sequence[str], limit: int
    ) -> Candidates:
        """The best `limit` live chunks of each leg together, at a revision no older than the last commit.

        `vector` is a unit vector, float32 [dimensions]; `terms` are from `text.lexical_terms`, repeats count once.
        Raises InvalidInput for a vector of another shape or with a NaN or infinity, NotFound.
        """
        asked = self._checked(vector)
        if limit < 1:
            raise InvalidInput("limit must be at least 1", limit=limit)
        return self._current(knowledge_base_id).search(asked, terms, limit)

    def preload(self, knowledge_base_ids: Iterable[str]) -> None:
        """Load what is not in memory yet. A knowledge base deleted meanwhile is none to load."""
        for knowledge_base_id in knowledge_base_ids:
            with suppress(NotFound):
                self._current(knowledge_base_id)

    def drop(self, knowledge_base_id: str) -> None:
        """Forget what is in memory; searches running on it finish."""
        self._shelves.pop(knowledge_base_id, None)

    def status(self) -> dict[str, ViewStatus]:
        """By knowledge base id, of those that are in memory."""
        views = {name: shelf.view for name, shelf in list(self._shelves.items())}
        return {name: _status(view) for name, view in views.items() if view is not None}

    def _checked(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        if vector.shape != (self._dimensions,):
            raise InvalidInput(
                f"the query vector has shape {vector.shape}, the index has {self._dimensions} dimensions",
                dimensions=self._dimensions,
            )
        if not np.isfinite(vector).all():
            raise InvalidInput("the query vector has a NaN or an infinity in it")
        return np.ascontiguousarray(vector, dtype=np.float32)

    def _current(self, knowledge_base_id: str) -> View:
        """A view no older than what SQL had committed when this was called."""
        # setdefault is atomic; a shelf made in vain costs nothing.
        shelf = self._shelves.setdefault(knowledge_base_id, _Shelf())
        try:
            while True:
                head = self._feed.head(knowledge_base_id)
                if shelf.view is None or shelf.wants(head.segment):
                    self._adopt(knowledge_base_id, shelf, head.segment)
                view = shelf.view
                if view is not None and view.revision != head.revision:
                    view = self._advanced(knowledge_base_id, shelf, head.revision)
                if view is not None:
                    return view
        except NotFound:
            self.drop(knowledge_base_id)
            raise

    def _adopt(self, knowledge_base_id: str, shelf: _Shelf, segment: Segment | None) -> None:
        """Put the newest segment under the view. Where the old view can still be brought up to date, whoever finds
        another thread at it goes on with the old one instead of waiting."""
        view = shelf.view
        usable = view is not None and _bridges(view.revision, segment)
        if not shelf.loading.acquire(blocking=not usable):
            return
        try:
            newest = self._feed.head(knowledge_base_id).segment
            if shelf.view is None or shelf.wants(newest):
                self._rebase(knowledge_base_id, shelf, self._loaded(knowledge_base_id, shelf, newest))
        finally:
            shelf.loading.release()

    def _rebase(self, knowledge_base_id: str, shelf: _Shelf, base: Base) -> None:
        """Publish a view over `base`; nothing where a newer segment has come since, which is then loaded instead."""
        with shelf.syncing, self._feed.snapshot(knowledge_base_id) as snapshot:
            if base.segment_id is not None and not _bridges(base.revision, snapshot.head.segment):
                return
            start = View.over(base, self._dimensions)
            retired = snapshot.retired(base.revision) if base.segment_id is not None else []
            shelf.view = start.changed(snapshot.added(base.revision), retired, snapshot.head.revision)

    def _advanced(self, knowledge_base_id: str, shelf: _Shelf, wanted: int) -> View | None:
        """The next view by what changed since the present one; None where a segment has to be loaded first."""
        with shelf.syncing:
            view = shelf.view
            if view is None or view.revision == wanted:
                return view  # Another thread brought it here while this one waited.
            with self._feed.snapshot(knowledge_base_id) as snapshot:
                head = snapshot.head
                if head.revision < view.revision:
                    shelf.view = None  # SQL was restored from an older state: start over.
                    return None
                if not _bridges(view.revision, head.segment):
                    if not shelf.wants(head.segment):
                        shelf.view = None  # It was given up, and then SQL failed before all went into the tail.
                    return None
                added, retired = snapshot.added(view.revision), snapshot.retired(view.revision)
                shelf.view = view = view.changed(added, retired, head.revision)
                return view

    def _loaded(self, knowledge_base_id: str, shelf: _Shelf, segment: Segment | None) -> Base:
        """The newest segment, healed if need be; an empty base, hence everything in the tail, if even that fails."""
        if segment is None:
            return Base.empty(self._dimensions)
        tried: set[str] = set()
        base = self._newest(knowledge_base_id, segment, tried)
        if base is not None:
            return base
        try:
            healed = self._heal(knowledge_base_id)
            base = self._newest(knowledge_base_id, healed, tried)
        except (StorageFull, OSError) as error:
            _log.error("knowledge base %s could not be healed: %s", knowledge_base_id, error)
        if base is not None:
            return base
        _log.error("knowledge base %s is searched without a segment", knowledge_base_id)
        newest = self._feed.head(knowledge_base_id).segment
        shelf.given_up = newest.id if newest is not None else None
        return Base.empty(self._dimensions)

    def _newest(self, knowledge_base_id: str, segment: Segment | None, tried: set[str]) -> Base | None:
        """`segment`, or what has taken its place meanwhile (a compaction, another process that healed too)."""
        while segment is not None and segment.id not in tried:
            tried.add(segment.id)
            try:
                return self._read(segment)
            except IndexDamaged as damage:
                _log.warning("%s", damage)
            segment = self._feed.head(knowledge_base_id).segment
        return None

    def _read(self, segment: Segment) -> Base:
        base = segments.load(self._root, segment, self._dense_base)
        if base.dense.dimensions != self._dimensions:
            raise IndexDamaged(
                f"segment {segment.id} has {base.dense.dimensions} dimensions, not {self._dimensions}",
                segment_id=segment.id,
                file="dense.faiss",
            )
        return base


def _bridges(revision: int, newest: Segment | None) -> bool:
    """Whether SQL still tells everything retired since `revision`: at or before the newest segment it may forget."""
    return newest is None or newest.revision <= revision


def _status(view: View) -> ViewStatus:
    return ViewStatus(view.revision, view.base.segment_id, len(view.base.dense), len(view.tombstones), view.tail.live)
