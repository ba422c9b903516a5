"""Mistakes sown on purpose, each one that a real program has made: the harness must catch every one of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from rag_service import blobs
from rag_service.db import documents, feed, publication, registration
from rag_service.index import segments


def blobs_are_not_synced() -> None:
    """The bytes of an upload are renamed into place without having reached the disk."""
    _without_fsync(blobs)


def segments_are_not_synced() -> None:
    _without_fsync(segments)


def _without_fsync(module: Any) -> None:
    class Os:
        def __getattr__(self, name: str) -> Any:
            return (lambda descriptor: None) if name == "fsync" else getattr(os, name)

    module.os = Os()


def publication_takes_two_transactions() -> None:
    """The version and its chunks are committed before their vectors."""
    whole = publication._insert_vectors  # type: ignore[attr-defined]

    def split(connection: Any, *arguments: Any) -> None:
        connection.commit()
        connection.begin()
        whole(connection, *arguments)

    publication._insert_vectors = split  # type: ignore[attr-defined]


def deleted_chunks_stay_live() -> None:
    """A deletion marks the document and forgets its chunks."""
    documents._erase = lambda connection, document_id, revision: None  # type: ignore[attr-defined]


def the_older_version_stays_live() -> None:
    publication._retire_older = lambda connection, document_id, revision: None  # type: ignore[attr-defined]


def acknowledged_before_committed() -> None:
    """An upload is answered, and registered a little later."""
    register = documents.Documents.register

    def late(self: documents.Documents, *arguments: Any, **named: Any) -> Any:
        @contextmanager
        def rolled_back() -> Any:
            with self._database.engine.connect() as opened:
                connection = opened.execution_options(youju_write=True)
                transaction = connection.begin()
                yield connection
                transaction.rollback()

        whole, self._database.write = self._database.write, rolled_back  # type: ignore[method-assign]
        try:
            return register(self, *arguments, **named)
        finally:
            self._database.write = whole  # type: ignore[method-assign]

    documents.Documents.register = late  # type: ignore[method-assign]


def names_of_bytes_are_wrong() -> None:
    """A hash of something else than what was stored."""
    blobs.hashlib = type("Hashes", (), {"sha256": hashlib.sha1, "file_digest": hashlib.file_digest})  # type: ignore[attr-defined]


def the_feed_shows_retired_chunks() -> None:
    """The filter on live chunks is left out where the tail is read."""

    def added(self: feed.SqlSnapshot, after: int) -> Any:
        return self._rows(feed.chunks.c.created_revision > after)

    feed.SqlSnapshot.added = added  # type: ignore[method-assign]


def what_is_being_replaced_is_a_duplicate() -> None:
    """Bytes are said to be there that go when the replacement is published."""
    registration._changing = lambda connection, holders: set()  # type: ignore[attr-defined]


DEFECTS: dict[str, Callable[[], None]] = {
    defect.__name__: defect
    for defect in (
        blobs_are_not_synced, segments_are_not_synced, publication_takes_two_transactions, deleted_chunks_stay_live,
        the_older_version_stays_live, acknowledged_before_committed, names_of_bytes_are_wrong,
        the_feed_shows_retired_chunks, what_is_being_replaced_is_a_duplicate,
    )
}  # fmt: skip
