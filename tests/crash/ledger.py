"""What a process was about to do and what it was told was done: the promises that must hold after its death."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Ledger:
    """`may_hold`: document to the hashes it may have now: of what was acknowledged last, and of what was under way."""

    may_hold: dict[str, set[str]] = field(default_factory=dict)
    deleting: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    under_way: set[str] = field(default_factory=set)
    """Hashes of uploads begun and never acknowledged: a document of such bytes may be there or not."""

    def note(self, entry: dict[str, Any]) -> None:
        """Entries in the order the process wrote them: `begin` before each operation, `done` after it."""
        match entry:
            case {"begin": "upload", "hashes": hashes}:
                self.under_way |= set(hashes)
            case {"done": "upload", "hashes": hashes, "documents": documents}:
                for hash_, document in zip(hashes, documents, strict=True):
                    self.under_way.discard(hash_)
                    # Whatever it was about to become before: it was told to have just these bytes.
                    if document is not None and document not in self.deleting:
                        self.may_hold[document] = {hash_}
            case {"begin": "replace", "document": document, "hash": hash_}:
                self.may_hold[document] = self.may_hold[document] | {hash_}
            case {"done": "replace", "document": document, "hash": hash_}:
                self.may_hold[document] = {hash_}
            case {"begin": "delete", "document": document}:
                self.deleting.add(document)
            case {"done": "delete", "document": document}:
                self.deleted.add(document)

    def kept(self) -> dict[str, set[str]]:
        """Documents that must be there, with the hashes they may have."""
        return {document: hashes for document, hashes in self.may_hold.items() if document not in self.deleting}
