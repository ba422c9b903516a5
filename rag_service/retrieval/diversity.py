"""Which of the ranked passages are shown: no document crowds out the rest, nothing is shown twice. Pure."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from rag_service.types import Passage, RankedPassage

MOST_OF_ONE_DOCUMENT = 3
# Jaccard similarity of fingerprints from which two passages say the same; version headers and page numbers differ in
# less than a tenth of a passage.
SAME_TEXT = 0.9


class Selection:
    """Takes passages best first and keeps up to `size`."""

    def __init__(self, size: int, one_document: bool = False) -> None:
        self._size = size
        self._most = size if one_document else MOST_OF_ONE_DOCUMENT
        self._kept: list[RankedPassage] = []
        self._terms: list[frozenset[str]] = []
        self._held_back: list[RankedPassage] = []
        self._of_document: Counter[str] = Counter()

    def offer(self, passage: RankedPassage) -> None:
        if self.is_full():
            return
        document = passage.passage.document_id
        if self._of_document[document] >= self._most:
            self._held_back.append(passage)
        elif self._keep(passage):
            self._of_document[document] += 1

    def is_full(self) -> bool:
        return len(self._kept) >= self._size

    def passages(self) -> tuple[RankedPassage, ...]:
        """Best first. What one document had too much of comes back when there is no other document."""
        if len(self._of_document) == 1:
            for passage in self._held_back:
                if self.is_full():
                    break
                self._keep(passage)
            self._held_back.clear()
        return tuple(self._kept)

    def _keep(self, passage: RankedPassage) -> bool:
        terms = _fingerprint(passage.passage)
        if any(_jaccard(terms, other) >= SAME_TEXT for other in self._terms):
            return False
        self._kept.append(passage)
        self._terms.append(terms)
        return True


def _fingerprint(passage: Passage) -> frozenset[str]:
    """What two near-duplicates share nearly all of: words, or pairs of characters where there are no spaces."""
    text = passage.text
    return frozenset(map("".join, pairwise(text)) if passage.language == "zh" else text.split())


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    if min(len(a), len(b)) < SAME_TEXT * max(len(a), len(b)):
        return 0.0
    return len(a & b) / (len(a | b) or 1)
