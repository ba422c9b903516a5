"""Which of the ranked passages are shown: nothing twice, and no document or language crowds out the rest. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from operator import add

from rag_service.types import Passage, RankedPassage

MOST_OF_ONE_DOCUMENT = 3
# Jaccard similarity of fingerprints from which two passages say the same; version headers and page numbers differ in
# less than a tenth of a passage.
SAME_TEXT = 0.9
OTHER_LANGUAGE = 3
"""Every third place is for a passage in another language than the best one's, where there is one worth it."""
WORTH_A_PLACE = 0.2
"""The share of the best passage's score from which another language's passage is worth a place. A translation scores
less than the words themselves: nine of ten XQuAD passages have .29 to .34 of their twin's score or more."""


def selected(passages: Sequence[RankedPassage], size: int, one_document: bool = False) -> tuple[RankedPassage, ...]:
    """Up to `size` of `passages`, which come best first, as they do in the result.

    What one document had too much of comes back where there is no other document.
    """
    if not passages:
        return ()
    in_another = {id(passage) for passage in _in_another_language(passages)}
    places = min(size // OTHER_LANGUAGE, len(in_another))
    kept: list[RankedPassage] = []
    reserved: set[int] = set()
    for passage in _distinct(passages, size, one_document or len({p.passage.document_id for p in passages}) == 1):
        kept.append(passage)
        if len(reserved) < places and id(passage) in in_another:
            reserved.add(id(passage))
        if len(kept) >= size and len(reserved) == places:
            break  # None of those behind can be chosen any more.
    others = [id(passage) for passage in kept if id(passage) not in reserved]
    chosen = reserved.union(others[: size - len(reserved)])
    return tuple(passage for passage in kept if id(passage) in chosen)


def _distinct(passages: Sequence[RankedPassage], size: int, one_document: bool) -> Iterator[RankedPassage]:
    most = size if one_document else MOST_OF_ONE_DOCUMENT
    fingerprints: list[frozenset[str]] = []
    of_document: Counter[str] = Counter()
    for passage in passages:
        if of_document[passage.passage.document_id] >= most:
            continue
        fingerprint = _fingerprint(passage.passage)
        if not _is_known(fingerprint, fingerprints):
            of_document[passage.passage.document_id] += 1
            fingerprints.append(fingerprint)
            yield passage


def _in_another_language(passages: Sequence[RankedPassage]) -> list[RankedPassage]:
    best = passages[0]
    least = WORTH_A_PLACE * best.score
    return [p for p in passages if p.passage.language != best.passage.language and p.score >= least]


def _fingerprint(passage: Passage) -> frozenset[str]:
    """What two near-duplicates share nearly all of: words, or pairs of characters where there are no spaces."""
    text = passage.text
    return frozenset(map(add, text, text[1:]) if passage.language == "zh" else text.split())


def _is_known(fingerprint: frozenset[str], fingerprints: Sequence[frozenset[str]]) -> bool:
    """By a Jaccard similarity of `SAME_TEXT`, told from how many of the one are not in the other."""
    size = len(fingerprint)
    for other in fingerprints:
        if min(size, len(other)) >= SAME_TEXT * max(size, len(other)):
            shared = len(fingerprint & other)
            if shared >= SAME_TEXT * ((size + len(other) - shared) or 1):
                return True
    return False
