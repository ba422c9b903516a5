"""The index in this process: for every knowledge base the newest view, brought up to date before it is searched.

SQL is the truth, so whether a view is current is asked of SQL at every search. Views are immutable: a reader keeps the
one it took while another thread publishes the next by replacing one reference.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np

from rag_service.errors import IndexDamaged, InvalidInput, NotFound, StorageFull, WrongDimensions
from rag_service.index import segments
from rag_service.index.dense import Bytes, DenseBase
from rag_service.index.segments import Base
from rag_service.index.view import View
from rag_service.ports import Asked, Candidates, ChangeFeed, Head, IndexQuery, Segment, VectorSpace

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

    def wants(self, head: Head) -> bool:
        """Whether the view is of another generation than answers, or there is a segment to load."""
        if self.view is None or self.view.base.space != head.space:
            return True
        segment = head.segment
        return segment is not None and segment.id not in (self.given_up, self.view.base.segment_id)


class LiveIndex:
    """Implements `ports.Index` over segment files below `root` and the change feed of SQL.

    A view is of one generation; once another answers, a view of that is made from the ground up. The question is
    embedded by the view's own embedder, so the two always fit.

    `heal` rebuilds a knowledge base's segment from SQL, commits it and returns it; it is called at most once at a time
    for a knowledge base, when its newest segment is missing or damaged. `dense_base` makes a dense base of its verified
    bytes: `Gpu.base` where a GPU searches.
    """

    def __init__(
        self,
        root: Path,
        feed: ChangeFeed,
        heal: Callable[[str], Segment],
        dense_base: Callable[[Bytes], DenseBase] = DenseBase.deserialised,
    ) -> None:
        self._root = root
        self._feed = feed
        self._heal = heal
        self._dense_base = dense_base
        self._shelves: dict[str, _Shelf] = {}

    def search(self, knowledge_base_id: str, asked: Asked, limit: int) -> Candidates:
        """The best `limit` live chunks of each leg together, at a revision no older than the last commit.

        Raises WrongDimensions, InvalidInput for a vector with a NaN or infinity, NotFound, and what `asked` raises.
        """
        if limit < 1:
            raise InvalidInput("limit must be at least 1", limit=limit)
        view = self._current(knowledge_base_id)
        space = view.base.space
        return view.search(_checked(asked(space.embedder), space), limit)

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

    def _current(self, knowledge_base_id: str) -> View:
        """A view no older than what SQL had committed when this was called."""
        # setdefault is atomic; a shelf made in vain costs nothing.
        shelf = self._shelves.setdefault(knowledge_base_id, _Shelf())
        try:
            while True:
                head = self._feed.head(knowledge_base_id)
                if shelf.wants(head):
                    self._adopt(knowledge_base_id, shelf, head)
                view = shelf.view
                if view is not None and view.base.space != head.space:
                    continue  # Another thread has put a newer one there, or the newest came too late.
                if view is not None and view.revision != head.revision:
                    view = self._advanced(knowledge_base_id, shelf, head.revision)
                if view is not None:
                    return view
        except NotFound:
            self.drop(knowledge_base_id)
            raise

    def _adopt(self, knowledge_base_id: str, shelf: _Shelf, head: Head) -> None:
        """Put the newest segment under the view. Where the old view can still be brought up to date, whoever finds
        another thread at it goes on with the old one instead of waiting."""
        view = shelf.view
        usable = view is not None and _leads_to(view, head)
        if not shelf.loading.acquire(blocking=not usable):
            return
        try:
            newest = self._feed.head(knowledge_base_id)
            if shelf.wants(newest):
                self._rebase(knowledge_base_id, shelf, self._loaded(knowledge_base_id, shelf, newest))
        finally:
            shelf.loading.release()

    def _rebase(self, knowledge_base_id: str, shelf: _Shelf, base: Base) -> None:
        """Publish a view over `base`; nothing where another generation or a newer segment has come since, which is then
        loaded instead."""
        with shelf.syncing, self._feed.snapshot(knowledge_base_id) as snapshot:
            if base.space != snapshot.head.space:
                return
            if base.segment_id is not None and not _bridges(base.revision, snapshot.head.segment):
                return
            start = View.over(base, base.dense.dimensions)
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
                if not _leads_to(view, head):
                    if not shelf.wants(head):
                        shelf.view = None  # It was given up, and then SQL failed before all went into the tail.
                    return None
                added, retired = snapshot.added(view.revision), snapshot.retired(view.revision)
                shelf.view = view = view.changed(added, retired, head.revision)
                return view

    def _loaded(self, knowledge_base_id: str, shelf: _Shelf, head: Head) -> Base:
        """The newest segment, healed if need be; an empty base, hence everything in the tail, if even that fails."""
        tried: set[str] = set()
        base = self._newest(knowledge_base_id, head, tried)
        if base is not None:
            return base
        try:
            self._heal(knowledge_base_id)
            base = self._newest(knowledge_base_id, self._feed.head(knowledge_base_id), tried)
        except (StorageFull, OSError) as error:
            _log.error("knowledge base %s could not be healed: %s", knowledge_base_id, error)
        if base is not None:
            return base
        _log.error("knowledge base %s is searched without a segment", knowledge_base_id)
        newest = self._feed.head(knowledge_base_id)
        shelf.given_up = newest.segment.id if newest.segment is not None else None
        return Base.empty(newest.space)

    def _newest(self, knowledge_base_id: str, head: Head, tried: set[str]) -> Base | None:
        """The head's segment, or what has taken its place meanwhile (a compaction, another generation, another process
        that healed too); an empty base where there is none. None: those there are cannot be read."""
        while head.segment is not None:
            if head.segment.id in tried:
                return None
            tried.add(head.segment.id)
            try:
                return self._read(head.segment, head.space)
            except IndexDamaged as damage:
                _log.warning("%s", damage)
            head = self._feed.head(knowledge_base_id)
        return Base.empty(head.space)

    def _read(self, segment: Segment, space: VectorSpace) -> Base:
        base = segments.load(self._root, segment, self._dense_base)
        if space.dimensions not in (None, base.dense.dimensions):
            raise IndexDamaged(
                f"segment {segment.id} has {base.dense.dimensions} dimensions, not {space.dimensions}",
                segment_id=segment.id,
                file="dense.faiss",
            )
        return replace(base, space=space)


def _checked(query: IndexQuery, space: VectorSpace) -> IndexQuery:
    dimensions = space.dimensions
    if dimensions is None:
        # There is nothing to compare the vector with, whatever its length.
        return replace(query, vector=np.zeros(1, dtype=np.float32))
    if query.vector.shape != (dimensions,):
        raise WrongDimensions(
            f"the question's vector has shape {query.vector.shape}, and those of {space.embedder} in the index"
            f" have {dimensions} dimensions",
            embedder=space.embedder, known_dimensions=dimensions,
        )  # fmt: skip
    if not np.isfinite(query.vector).all():
        raise InvalidInput("the query vector has a NaN or an infinity in it")
    return replace(query, vector=np.ascontiguousarray(query.vector, dtype=np.float32))


def _leads_to(view: View, head: Head) -> bool:
    """Whether what has changed since the view is all there is to make of it what the head stands for."""
    return view.base.space == head.space and _bridges(view.revision, head.segment)


def _bridges(revision: int, newest: Segment | None) -> bool:
    """Whether SQL still tells everything retired since `revision`: at or before the newest segment it may forget."""
    return newest is None or newest.revision <= revision


def _status(view: View) -> ViewStatus:
    return ViewStatus(view.revision, view.base.segment_id, len(view.base.dense), len(view.tombstones), view.tail.live)
