"""What goes into a prompt when not everything fits. Pure.

What gives way, in this order: the oldest turns, passages in reverse rank, whole sentences, the last turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rag_service.prompting.budget import Budget
from rag_service.prompting.turns import Evidence, PastTurn
from rag_service.types import DropReason, RankedPassage

Cut = Callable[[Evidence, int], Evidence | None]
"""A passage cut to whole sentences of at most so many tokens, or None if not one fits."""


def candidates(passages: Sequence[RankedPassage], budget: Budget) -> tuple[list[Evidence], dict[int, DropReason]]:
    """Passages worth a place, best first, and by rank why the others are not."""
    kept: list[Evidence] = []
    refused: dict[int, DropReason] = {}
    least = budget.least_score * passages[0].score if passages else 0.0
    for rank, ranked in enumerate(passages):
        text = ranked.passage.text
        if any(text in other.ranked.passage.text for other in kept):
            refused[rank] = "duplicate"
        elif ranked.score < least:
            refused[rank] = "below_floor"
        elif len(kept) >= budget.most_passages:
            refused[rank] = "budget"
        else:
            kept.append(Evidence(ranked, 0, len(text)))
    return kept, refused


def choose(
    evidence: Sequence[Evidence], turns: Sequence[PastTurn], room_tokens: int, budget: Budget, cut: Cut
) -> tuple[list[Evidence], list[PastTurn]]:
    """The passages, best first, and the turns, oldest first, that have room together.

    The last turn stays as long as it leaves the floor to the evidence and some of it fits.
    """
    most = min(room_tokens, budget.passage_tokens)
    wanted = min(sum(one.tokens for one in evidence), most)
    kept = list(turns)
    while len(kept) > 1 and size(kept) + wanted > room_tokens:
        kept.pop(0)
    if size(kept) + min(wanted, room_tokens * budget.evidence_floor) > room_tokens:
        kept = []
    chosen = _evidence(evidence, min(room_tokens - size(kept), most), budget, cut)
    if chosen or not kept:
        return chosen, kept
    alone = _evidence(evidence, most, budget, cut)
    return (alone, []) if alone else ([], kept)


def _evidence(evidence: Sequence[Evidence], room: int, budget: Budget, cut: Cut) -> list[Evidence]:
    """Whole passages by rank. The first that has no room ends it, once the floor is reached; before, it is cut."""
    kept: list[Evidence] = []
    left = room
    for one in evidence:
        part = one if one.tokens <= left else None
        if part is None:
            if room - left >= room * budget.evidence_floor:
                break
            part = cut(one, left)
        if part is not None:
            kept.append(part)
            left -= part.tokens
    return kept


def placed(evidence: Sequence[Evidence]) -> list[Evidence]:
    """The order in the prompt: the best first, the second best last."""
    return list(evidence) if len(evidence) < 3 else [evidence[0], *evidence[2:], evidence[1]]


def size(turns: Iterable[PastTurn]) -> int:
    return sum(len(past.ids) for past in turns)
