"""Folds tails into new base segments in the background, and clears what crashes left behind."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ingest import heap
from rag_service import failpoints
from rag_service.blobs import BlobStore
from rag_service.db.documents import Documents
from rag_service.db.feed import SqlChangeFeed
from rag_service.db.knowledge_bases import KnowledgeBases
from rag_service.errors import NotFound, StorageFull
from rag_service.index import segments
from rag_service.index.compaction import is_due
from rag_service.index.rebuild import Rebuilder

log = logging.getLogger(__name__)

_RESERVED_SECONDS = 600.0
_LOOK_SECONDS = 1.0


class Compactor:
    def __init__(
        self, knowledge_bases: KnowledgeBases, feed: SqlChangeFeed, rebuilder: Rebuilder, least_chunks: int
    ) -> None:
        self._knowledge_bases = knowledge_bases
        self._feed = feed
        self._rebuilder = rebuilder
        self._least_chunks = least_chunks
        self._seen: dict[str, int] = {}

    def run(self, stopping: threading.Event) -> None:
        """Look every second at what has changed, until told to stop. Raises what is no knowledge base's own fault."""
        while not stopping.wait(_LOOK_SECONDS):
            for knowledge_base_id in self._knowledge_bases.all_ids():
                try:
                    self.look_at(knowledge_base_id)
                except NotFound:
                    self._seen.pop(knowledge_base_id, None)
                except StorageFull as error:
                    # The tail answers just as well; tried again when the reservation ends.
                    log.error("knowledge base %s not compacted: %s", knowledge_base_id, error.detail)

    def look_at(self, knowledge_base_id: str) -> bool:
        """Whether it was compacted. Raises NotFound, StorageFull."""
        revision = self._feed.head(knowledge_base_id).revision
        if self._seen.get(knowledge_base_id) == revision:
            return False
        added, retired, base = self._feed.unindexed(knowledge_base_id)
        compacted = False
        if is_due(added, retired, base, self._least_chunks):
            if not self._feed.reserve(knowledge_base_id, _RESERVED_SECONDS):
                # Another is at it, or died at it: not seen, so the next look asks again.
                return False
            self._rebuild(knowledge_base_id)
            heap.give_back()
            compacted = True
        self._seen[knowledge_base_id] = revision
        return compacted

    def _rebuild(self, knowledge_base_id: str) -> None:
        try:
            self._rebuilder.rebuild(knowledge_base_id)
        except Exception:
            # Its folder goes when it is deleted: then NotFound is what happened, whatever was seen of it.
            self._feed.head(knowledge_base_id)
            raise


def clear_leftovers(documents: Documents, blobs: BlobStore, feed: SqlChangeFeed, index_root: Path) -> None:
    """Remove blobs and segment folders that nothing names: what a crash between two steps leaves behind.

    Safe beside uploads: a blob is removed inside a transaction that makes sure nothing refers to it, and whoever was
    about to refer to it finds out in its own.
    """
    in_use = documents.blobs_in_use()
    for sha256 in blobs.all():
        if sha256 not in in_use:
            documents.collect(sha256, blobs.remove)
            failpoints.reach("recover.bytes-removed")
    blobs.clear_incoming()
    oldest = time.time() - _RESERVED_SECONDS
    named = {(segment.knowledge_base_id, segment.id) for segment in feed.segments()}
    for folder in segments.folders(index_root):
        # A younger one may be another process's, about to be named.
        if folder.modified_at < oldest and (folder.knowledge_base_id, folder.name) not in named:
            segments.remove(index_root, folder.knowledge_base_id, folder.name)
            failpoints.reach("recover.segment-removed")
