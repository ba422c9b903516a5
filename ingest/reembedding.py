"""Changing the embedder of a knowledge base while it answers: batch by batch, then all at once.

The new generation is made beside the old one. Each batch is committed, so whoever goes on after a crash does so from
there. Once nothing is missing its base segment is written, and one transaction lets it answer. Documents that come
meanwhile are published with vectors of the old generation, and are embedded like the rest. Only at the end, while the
segment is written and what came since is embedded, no further document of the knowledge base is begun: else a slow
embedder would never catch up with a quick one.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ingest.pipeline import Embedders, stacked
from rag_service import failpoints
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.problems import of
from rag_service.db.publication import Halves, Publisher
from rag_service.db.reembeddings import Change, Lacking, Made, Reembeddings, Stage
from rag_service.errors import (
    EmbedderTimeout,
    EmbedderUnavailable,
    LeaseLost,
    NotFound,
    Overloaded,
    StorageFull,
    YoujuError,
)
from rag_service.index import rebuild, segments
from rag_service.ports import Segment, Vectors
from rag_service.types import Problem

log = logging.getLogger(__name__)

EMBEDDED_AT_ONCE = 32
_LOOK_SECONDS = 1.0
_PAUSE_SECONDS = 15.0
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})


class OpenEmbedders(Embedders, Protocol):
    def demand(self, embedder: str) -> int:
        """Its dimensions, once it is open. Raises InvalidConfiguration where it cannot be, and what `embed` does."""
        ...


class _Stopped(Exception):
    """Told to stop between two batches."""


class Reembedder:
    def __init__(
        self,
        changes: Reembeddings,
        publisher: Publisher,
        feed: SqlChangeFeed,
        index_root: Path,
        embedders: OpenEmbedders,
        lease_seconds: float,
    ) -> None:
        self._changes = changes
        self._publisher = publisher
        self._feed = feed
        self._index_root = index_root
        self._embedders = embedders
        self._lease_seconds = lease_seconds
        self.name = f"{socket.gethostname()}:{os.getpid()}:{id(self):x}"

    def run(self, stopping: threading.Event) -> None:
        """Look every second for a change to make, until told to stop; one under way is given back then."""
        while not stopping.wait(_LOOK_SECONDS):
            try:
                while self.look(stopping):
                    pass
            except (StorageFull, Overloaded) as error:
                log.error("no embedder can be changed now: %s", error.detail)

    def finish(self, job_id: str, is_finished: Callable[[str], bool], stopping: threading.Event) -> None:
        """Return once the job is finished, by this worker or another, or when told to stop."""
        while not stopping.is_set() and not is_finished(job_id):
            if not self.look(stopping, job_id):
                stopping.wait(_LOOK_SECONDS)

    def look(self, stopping: threading.Event, job_id: str | None = None) -> bool:
        """Whether there was one to work on that nobody was at. A fault of its own is recorded with its job."""
        if stopping.is_set():
            return False
        change = self._changes.claim(self.name, self._lease_seconds, job_id)
        if change is None:
            return False
        with self._kept(change):
            self._guarded(change, stopping)
        return True

    def _guarded(self, change: Change, stopping: threading.Event) -> None:
        try:
            self._make(change, stopping)
        except _Stopped:
            self._changes.release(change)
        except (LeaseLost, NotFound) as error:
            log.warning("embedder of %s: %s; dropped", change.knowledge_base_id, error.detail)
        except (StorageFull, Overloaded, EmbedderUnavailable, EmbedderTimeout) as error:
            # Nothing is wrong with the change: it waits for what is not there, and the attempt does not count.
            log.error("embedder of %s: %s; will be tried again", change.knowledge_base_id, error.detail)
            self._put_off(change, stopping)
        except OSError as error:
            log.error("embedder of %s: %s; will be tried again", change.knowledge_base_id, error)
            if error.errno in _NO_ROOM:
                self._put_off(change, stopping)
            # Else it may be its own doing: it counts, and is tried again once the lease is over.
        except YoujuError as error:
            self._fail(change, of(error))
        except Exception as error:
            # A fault nobody foresaw becomes the job's recorded failure.
            log.exception("embedder of %s", change.knowledge_base_id)
            self._fail(change, Problem("internal", "Internal error", f"{type(error).__name__} while embedding"))

    def _make(self, change: Change, stopping: threading.Event) -> None:
        self._enter(change, "embedding", stopping)
        # Before anything is embedded: it is there, and makes what it made before.
        self._changes.demand(change, self._embedders.demand(change.embedder))
        self._embed_lacking(change, stopping)
        self._enter(change, "closing", stopping)
        segment: Segment | None = None
        try:
            while True:
                self._embed_lacking(change, stopping)
                failpoints.reach("reembed.complete")
                segment = segment or self._written(change)
                if segment is None:
                    continue  # A document was published since.
                outcome = self._changes.swap(change, segment)
                if outcome.made:
                    self._remove(change, outcome.replaced)
                    segment = None
                    return
                if outcome.is_hidden:
                    self._remove(change, [segment.id])
                    segment = None
        finally:
            if segment is not None:
                self._remove(change, [segment.id])

    def _enter(self, change: Change, stage: Stage, stopping: threading.Event) -> None:
        if stopping.is_set():
            raise _Stopped
        self._changes.enter(change, stage)
        failpoints.reach(f"reembed.{stage}")

    def _embed_lacking(self, change: Change, stopping: threading.Event) -> None:
        """Everything that lacks its vector, each batch committed."""
        after = 0
        while some := self._changes.lacking(change, after, EMBEDDED_AT_ONCE):
            if stopping.is_set():
                raise _Stopped
            self._embed(change, some)
            after = some[-1].chunk_id

    def _embed(self, change: Change, some: Sequence[Lacking]) -> None:
        hashes = [hashlib.sha256(one.text.encode()).hexdigest() for one in some]
        texts = dict(zip(hashes, (one.text for one in some), strict=True))
        rows: dict[str, Vectors | Halves] = dict(self._publisher.known_vectors(texts, change.embedder))
        missing = [text_sha256 for text_sha256 in texts if text_sha256 not in rows]
        if missing:
            made = self._embedders.embed(change.embedder, [texts[text_sha256] for text_sha256 in missing])
            rows |= dict(zip(missing, made, strict=True))
        failpoints.reach("reembed.embedded")
        self._changes.store(
            change,
            [Made(one.chunk_id, text_sha256) for one, text_sha256 in zip(some, hashes, strict=True)],
            stacked([rows[text_sha256] for text_sha256 in hashes], change.embedder),
        )

    def _written(self, change: Change) -> Segment | None:
        """The generation's base segment, not named yet; None where a chunk lacks its vector."""
        with self._feed.snapshot(change.knowledge_base_id) as snapshot:
            coming = snapshot.as_if_answered_by(change.embedder)
            if not coming.is_complete():
                return None
            return rebuild.written(self._index_root, change.knowledge_base_id, coming)

    def _remove(self, change: Change, segment_ids: Sequence[str]) -> None:
        for segment_id in segment_ids:
            segments.remove(self._index_root, change.knowledge_base_id, segment_id)
            failpoints.reach("reembed.segment-removed")

    def _put_off(self, change: Change, stopping: threading.Event) -> None:
        try:
            self._changes.release(change, 0.0 if stopping.is_set() else _PAUSE_SECONDS)
        except (StorageFull, Overloaded) as error:
            # Then it waits until the lease is over.
            log.error("embedder of %s: not given back: %s", change.knowledge_base_id, error.detail)

    def _fail(self, change: Change, problem: Problem) -> None:
        try:
            self._changes.fail(change, problem)
        except LeaseLost:
            log.warning("embedder of %s: failed, and was no longer this worker's", change.knowledge_base_id)

    @contextmanager
    def _kept(self, change: Change) -> Iterator[None]:
        """The lease is renewed while the block runs: opening a model, or one slow batch, may outlast it."""
        over = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(change, over), name="reembed-lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            over.set()
            keeper.join()

    def _keep(self, change: Change, over: threading.Event) -> None:
        while not over.wait(self._lease_seconds / 3):
            try:
                if not self._changes.renew(change, self._lease_seconds):
                    return  # Lost: the next batch finds out.
            except (StorageFull, Overloaded) as error:
                log.error("embedder of %s: lease not renewed: %s", change.knowledge_base_id, error.detail)
