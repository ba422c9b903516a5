"""What a claim says that its scope does not, or says otherwise: numbers, units, dates, names, denial. Pure.

Every fault is a reason to call a sentence unsupported, in words a person can check.
"""

from __future__ import annotations

from collections.abc import Iterator

from rag_service.answering.verification import figures, names, polarity
from rag_service.answering.verification.alignment import align, gaps
from rag_service.answering.verification.reading import ReadPassage
from rag_service.answering.verification.scope import Scope
from rag_service.answering.verification.tokens import Reading, joined
from rag_service.types import Language


def faults(claim: Reading, language: Language, scope: Scope, passage: ReadPassage) -> Iterator[str]:
    inside = [passage.said[at].reading for at in scope.at]
    everything = [one.reading for one in passage.said]
    yield from figures.absent(claim, [*inside, *passage.about], everything)
    yield from _foreign(names.foreign_codes(claim, passage.known))
    if scope.across:
        best = passage.said[scope.best].reading
        yield from figures.elsewhere(claim, best, [reading for reading in inside if reading is not best])
        yield from _foreign(names.unheard(claim, language, everything, passage.known))
        turned = polarity.turned_across(claim, inside)
    else:
        held = joined(inside)
        pairs = align([token.key for token in claim.tokens], [token.key for token in held.tokens])
        places = list(gaps(pairs, len(claim.tokens), len(held.tokens)))
        yield from figures.exchanged(claim, held, places)
        yield from _foreign(names.foreign_words(claim, passage.known))
        yield from _foreign(names.foreign_characters(claim, passage.known))
        yield from (
            f"name {name} in the place of another" for name in names.renamed(claim, held, places, passage.known)
        )
        turned = polarity.turned(claim, held, pairs)
    if turned:
        yield turned


def _foreign(found: Iterator[str]) -> Iterator[str]:
    return (f"name {name} is not in the passage" for name in found)
