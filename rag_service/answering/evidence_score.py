"""Whether there is an answer at all: one score for a question's evidence, and what it has to reach. Pure.

Where the passage that answers is missing, its neighbours are still about the same things, and each of them says about
as much of the question as the next. So what counts beside how much the best sentence says is how far it stands out
from the best ones of the other passages that were found. From the median of them: an answer that two documents give
stands out all the same.

Measured on the XQuAD questions over ZH and EN (2026-11-26), asked with their gold passages and with these withheld,
neighbours from the same article left; the floors chosen on half of the questions, the weight on all. AUROC zh→ZH,
en→EN, zh→EN, en→ZH:
.917, .952, .797, .779; .899, .936, .769, .753 for the best sentence's score alone. Where nine of ten that can be
answered are, 72, 87, 38, 41 % of the others are refused. Tried without gain: the margin to the next passage alone, the
best cosine beside it, names heard across languages, whether the kind asked for is there, length of the question.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from rag_service.answering.evidence import Evidence
from rag_service.types import Language

STANDING_OUT_WEIGHT = 1.0
"""Beside the best sentence's score, whose weight is 1. More separates XQuAD a little better (2: .919, .951, .805, .783)
and takes answers that every passage gives for none (RGB zh at noise 0 against 1.0: .735 with 0, .652 with 1, .601 with
2, .646 for the best cosine; SQuAD 2.0: .609 with 1, .596 with 2, .592)."""
FIELD = 4
"""Passages that the best one is compared with."""
BY_CHANCE = 0.2
"""What the best sentence of a passage scores that is about something else: in a small knowledge base nothing else may
be found, and a chance hit does not stand out for that."""

FLOORS: dict[tuple[Language, Language], float] = {
    ("zh", "zh"): 0.22,
    ("en", "en"): 0.31,
    ("zh", "en"): 0.15,
    ("en", "zh"): 0.17,
}
"""By the question's language and that of its best sentence. Nine of ten questions that can be answered reach it.

Words of one language say little in the other, and a dictionary does not know every name.
"""


def evidence_score(scored: Sequence[Evidence]) -> float:
    """In [0, 1], of sentences best first; 0 where there is none. To be compared among questions of one direction."""
    best: dict[int, float] = {}
    for evidence in scored:
        best.setdefault(evidence.sentence.ranked.passage.chunk_id, evidence.score)
    if not best:
        return 0.0
    first, *others = best.values()
    field = median([*others, *[0.0] * FIELD][:FIELD])
    standing_out = max(0.0, first - max(field, BY_CHANCE))
    return (first + STANDING_OUT_WEIGHT * standing_out) / (1 + STANDING_OUT_WEIGHT)


def floor(scored: Sequence[Evidence], question_language: Language) -> float:
    """What the evidence score has to reach for an answer; 1 where there is no evidence."""
    if not scored:
        return 1.0
    return FLOORS[question_language, scored[0].sentence.ranked.passage.language]
