"""How the two legs become one score. Pure.

Both legs are absolute: the dense score is a cosine, the lexical score is BM25 divided by the most the query could
score. So a leg that found nothing of meaning says so by itself (a Chinese question over English text scores near 0
on the lexical leg, for every passage), and neither can outvote the other by rank, whatever the language pair.
"""

from __future__ import annotations

from collections.abc import Iterable

from rag_service.types import Hit, Scores

# R@1 on XQuAD questions over ZH (3,344 passages) and EN (5,774), zh→ZH / en→EN / zh→EN / en→ZH; bench/retrieval.py
# reproduces the middle column through the REST API.
#   0.5   .890 .910 .485 .515
#   0.6   .902 .914 .489 .509   chosen: every direction is near its best
#   0.7   .916 .925 .493 .442
#   0.8   .921 .910 .503 .271
LEXICAL_WEIGHT = 0.6


def fuse(hit: Hit) -> Scores:
    """A weighted mean in [0, 1], monotone in both legs."""
    return Scores(hit.dense, hit.lexical, (1 - LEXICAL_WEIGHT) * hit.dense + LEXICAL_WEIGHT * hit.lexical)


def ranked(hits: Iterable[Hit]) -> list[tuple[int, Scores]]:
    """(chunk id, scores), best first; ties go to the older chunk, so equal corpora rank equally."""
    return sorted(((hit.chunk_id, fuse(hit)) for hit in hits), key=lambda pair: (-pair[1].fused, pair[0]))
