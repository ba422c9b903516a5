"""A gate that withholds some documents from some questions: what a question finds where its gold passages are gone.

It stands before the real gate, so that what is withheld is as good as just deleted: its chunks still count in the
statistics of the lexical leg, as those of any deleted document do until the next compaction, and nothing else of it is
left. Only evaluation opens a service with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from rag_service.ports import PassageStore
from rag_service.types import Passage, PassageFilter

_withheld: ContextVar[frozenset[str]] = ContextVar("withheld", default=frozenset())


class WithholdingStore:
    """Implements `ports.PassageStore`."""

    def __init__(self, store: PassageStore) -> None:
        self._store = store

    def passages(
        self, tenant: str, knowledge_base_ids: Sequence[str], chunk_ids: Sequence[int], only: PassageFilter
    ) -> dict[int, Passage]:
        found = self._store.passages(tenant, knowledge_base_ids, chunk_ids, only)
        gone = _withheld.get()
        return {chunk_id: passage for chunk_id, passage in found.items() if passage.document_id not in gone}


@contextmanager
def withheld(document_ids: Collection[str]) -> Iterator[None]:
    """For what this thread asks inside of the block."""
    token = _withheld.set(frozenset(document_ids))
    try:
        yield
    finally:
        _withheld.reset(token)
