"""What must be true after any death, once a fresh process has finished what waits. Every breach, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ledger import Ledger, sha256
from legs import always, in_words
from rig import QuickParser, Rig, Words
from rooms import TENANT, vectors_of

from ingest.chunker import chunk
from ingest.pipeline import CHUNK_TOKENS
from rag_service.db.passages import SqlPassageStore
from rag_service.errors import IndexDamaged
from rag_service.index import segments
from rag_service.types import Document, PassageFilter
from rag_service.verify import differences

_SEARCHED = 6


def breaches(rig: Rig, ledger: Ledger) -> Iterator[str]:
    """`rig` has recovered and ingested whatever waited."""
    documents = _documents(rig)
    yield from _of_uploads(rig, ledger, documents)
    yield from _of_deletions(rig, ledger, documents)
    for document in documents.values():
        yield from _of_content(rig, document)
    yield from _of_index(rig, ledger, documents)
    yield from (f"{found.where}: {found.what}" for found in differences(rig.storage, deep=True))


def lost_segments(rig: Rig) -> Iterator[str]:
    """What SQL names had reached the disk: it heals, but never has to after a death alone."""
    for segment in rig.storage.feed.segments():
        try:
            segments.load(rig.storage.index_root, segment)
        except IndexDamaged as error:
            yield f"named and not whole: {error.detail}"


def _documents(rig: Rig) -> dict[str, Document]:
    found: dict[str, Document] = {}
    cursor = None
    while True:
        page = rig.storage.documents.browse(TENANT, rig.kb, None, 200, cursor)
        found |= {document.id: document for document in page.items}
        cursor = page.next_cursor
        if cursor is None:
            return found


def _of_uploads(rig: Rig, ledger: Ledger, documents: dict[str, Document]) -> Iterator[str]:
    for document_id, hashes in ledger.kept().items():
        document = documents.get(document_id)
        if document is None:
            yield f"{document_id} was acknowledged and is lost"
        elif document.sha256 not in hashes and not _gave_up(document) and not _came_second(document):
            yield f"{document_id} holds {document.sha256} and not one of {sorted(hashes)}"
    for document in documents.values():
        if document.id not in ledger.may_hold and document.sha256 not in ledger.under_way:
            yield f"{document.id} was never uploaded"
    for hash_, count in Counter(document.sha256 for document in documents.values()).items():
        if count > 1:
            yield f"{hash_} is {count} documents"


def _of_deletions(rig: Rig, ledger: Ledger, documents: dict[str, Document]) -> Iterator[str]:
    for document_id in ledger.deleted & documents.keys():
        yield f"{document_id} was deleted and is back"


def _gave_up(document: Document) -> bool:
    """Three processes died over its newest content: that is told, and the older version stays."""
    return document.error is not None and document.error.code == "worker-died"


def _came_second(document: Document) -> bool:
    """Its newest content was uploaded as a document of its own before it could have it: that is told, too."""
    return document.version > 0 and document.error is not None and document.error.code == "content-taken"


def _of_content(rig: Rig, document: Document) -> Iterator[str]:
    """A document is whole or not there: its bytes, its text, its chunks."""
    if document.state not in ("ready", "failed"):
        yield f"{document.id} is {document.state} and nothing waits"
        return
    if document.state == "failed" and not _gave_up(document):
        yield f"{document.id} failed: {document.error}"
    with rig.storage.blobs.open(document.sha256) as file:
        content = file.read()
    if sha256(content) != document.sha256:
        yield f"{document.id} has other bytes than were uploaded"
    elif document.version:
        parsed = QuickParser().parse(rig.storage.blobs.path(document.sha256), document.media_type)
        wanted = [draft.text for draft in chunk(parsed, Words().count, CHUNK_TOKENS)]
        have = [c.text for c in rig.storage.documents.chunks(TENANT, document.id, 200, None).items]
        if wanted != have or rig.storage.documents.text(TENANT, document.id, 0, None).text != parsed.text:
            yield f"{document.id} is not what its bytes say: {len(have)} chunks of {len(wanted)}"


def _of_index(rig: Rig, ledger: Ledger, documents: dict[str, Document]) -> Iterator[str]:
    """What is there is found by its own words, through the gate; what is deleted is not."""
    index, store = rig.index(), SqlPassageStore(rig.storage.database)

    def found(text: str) -> set[str]:
        candidates = index.search(rig.kb, always(in_words(vectors_of([text])[0], text)), 50)
        ids = [hit.chunk_id for hit in candidates.hits]
        return {p.document_id for p in store.passages(TENANT, [rig.kb], ids, PassageFilter()).values()}

    ready = [document for document in documents.values() if document.version]
    for document in ready[:: max(1, len(ready) // _SEARCHED)]:
        text = rig.storage.documents.text(TENANT, document.id, 0, 40).text.split()[0]
        if document.id not in found(text):
            yield f"{document.id} is ready and not found by {text!r}"
    everything: Any = found("的 编号 仓库")
    if gone := everything & ledger.deleted:
        yield f"deleted and found: {sorted(gone)}"
