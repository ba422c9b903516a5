"""Folding everything live into a new base segment: what compaction does when it pays, and healing when it must."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from uuid_utils import uuid7

from rag_service import failpoints
from rag_service.index import segments
from rag_service.ports import ChangeFeed, Segment, Snapshot


class SegmentNames(Protocol):
    """Where segments are named: naming one is what makes it the base."""

    def name_segment(self, segment: Segment) -> list[str]:
        """Ids of the segments that are of no use any more (its own, if it came too late)."""
        ...


class Rebuilder:
    """Reads SQL, writes files, names them: in this order, so a crash between leaves an orphan, never a wrong base."""

    def __init__(self, root: Path, feed: ChangeFeed, names: SegmentNames) -> None:
        self._root = root
        self._feed = feed
        self._names = names

    def rebuild(self, knowledge_base_id: str) -> Segment:
        """Raises NotFound, StorageFull. Files of what it replaces are removed: open readers keep what they mapped."""
        with self._feed.snapshot(knowledge_base_id) as snapshot:
            segment = written(self._root, knowledge_base_id, snapshot)
        failpoints.reach("compact.written")
        for replaced in self._names.name_segment(segment):
            failpoints.reach("compact.named")
            segments.remove(self._root, knowledge_base_id, replaced)
        return segment


def written(root: Path, knowledge_base_id: str, snapshot: Snapshot) -> Segment:
    """A segment of all that is live in `snapshot`, not named yet. Raises StorageFull."""
    space = snapshot.head.space
    # Without a vector there is no row either.
    dimensions = space.dimensions or 1
    revision, rows = snapshot.head.revision, snapshot.added(0)
    return segments.build(root, knowledge_base_id, str(uuid7()), revision, space.embedder, dimensions, rows)
