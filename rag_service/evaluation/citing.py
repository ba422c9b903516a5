"""Citation recall and precision after ALCE (Gao et al. 2023, "Enabling Large Language Models to Generate Text with
Citations", section 4): per statement whether all it cites together supports it, per citation whether it is of use.

The judge there is an NLI model. Here it is the project's own verifier, which reads both languages, and which has
already taken unsupported sentences out of what a model wrote: the figures say how consistent answers are with it, and
are no second opinion. Only what it calls `supported` counts. A sentence that stands in its passage word for word is
supported without asking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rag_service.answering import marks
from rag_service.answering.verification.verifier import Verifier
from rag_service.text import language_of, lexical_terms
from rag_service.types import Passage

Supports = Callable[[str, Sequence[Passage]], bool]


@dataclass(frozen=True, slots=True)
class CitationScores:
    recall: float
    precision: float


def citation_scores(text: str, cited: Mapping[int, Passage], supports: Supports) -> CitationScores | None:
    """Of an answer with marks, `cited` by number. None where it states nothing."""
    statements = [s for s in marks.split(text) if s.kind != "heading" and lexical_terms(s.plain)]
    if not statements:
        return None
    recalled, useful, citations = 0, 0, 0
    for statement in statements:
        passages = [cited[number] for number in statement.numbers if number in cited]
        citations += len(passages)
        if passages and supports(statement.plain, passages):
            recalled += 1
            useful += sum(_is_useful(statement.plain, passages, at, supports) for at in range(len(passages)))
    return CitationScores(recalled / len(statements), useful / citations if citations else 0.0)


def judge(verifier: Verifier) -> Supports:
    def supports(statement: str, passages: Sequence[Passage]) -> bool:
        if any(statement in passage.text for passage in passages):
            return True
        whole = replace(
            passages[0],
            text="\n\n".join(passage.text for passage in passages),
            headings=tuple(heading for passage in passages for heading in passage.headings),
        )
        found = verifier.check(statement, verifier.read([whole], language_of(statement)), [0])
        return found is not None and found.verdict == "supported"

    return supports


def _is_useful(statement: str, passages: Sequence[Passage], at: int, supports: Supports) -> bool:
    """It supports the statement by itself, or the others do not without it."""
    others = [*passages[:at], *passages[at + 1 :]]
    return not others or supports(statement, [passages[at]]) or not supports(statement, others)
