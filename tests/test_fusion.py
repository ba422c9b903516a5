from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rag_service.retrieval.fusion import fuse, ranked
from rag_service.types import Hit

# Not of all floats: 0.4 of the smallest one is nothing.
SHARES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
HITS = st.lists(st.builds(Hit, st.integers(1, 10**12), SHARES, SHARES), max_size=30, unique_by=lambda hit: hit.chunk_id)


@given(SHARES, SHARES)
def test_a_fused_score_lies_between_the_legs(dense: float, lexical: float) -> None:
    scores = fuse(Hit(1, dense, lexical))
    assert min(dense, lexical) - 1e-12 <= scores.fused <= max(dense, lexical) + 1e-12
    assert (scores.dense, scores.lexical, scores.rerank) == (dense, lexical, None)
    assert fuse(Hit(1, 0.0, 0.0)).fused == 0.0
    assert fuse(Hit(1, 1.0, 1.0)).fused == 1.0


@given(SHARES, SHARES, SHARES, SHARES)
def test_more_of_either_leg_is_never_worse(
    dense: float, lexical: float, more_dense: float, more_lexical: float
) -> None:
    better = Hit(1, max(dense, more_dense), max(lexical, more_lexical))
    assert fuse(better).fused >= fuse(Hit(1, dense, lexical)).fused


@given(HITS, st.sampled_from(["dense", "lexical"]))
def test_a_leg_that_found_nothing_leaves_the_others_order(hits: list[Hit], leg: str) -> None:
    """As a Chinese question does over English text: its words are nowhere."""
    alone = [Hit(h.chunk_id, h.dense if leg == "dense" else 0.0, h.lexical if leg == "lexical" else 0.0) for h in hits]
    best_first = [getattr(scores, leg) for _, scores in ranked(alone)]
    assert best_first == sorted(best_first, reverse=True)


@given(HITS, st.randoms(use_true_random=False))
def test_the_order_depends_on_the_hits_alone(hits: list[Hit], choice: object) -> None:
    shuffled = list(hits)
    choice.shuffle(shuffled)  # type: ignore[attr-defined]
    order = ranked(hits)
    assert ranked(shuffled) == order
    assert sorted(chunk_id for chunk_id, _ in order) == sorted(hit.chunk_id for hit in hits)
    keys = [(-scores.fused, chunk_id) for chunk_id, scores in order]
    assert keys == sorted(keys)


def test_equal_scores_go_to_the_older_chunk() -> None:
    assert [chunk_id for chunk_id, _ in ranked([Hit(9, 0.5, 0.5), Hit(2, 0.5, 0.5)])] == [2, 9]


def test_neither_leg_can_drown_the_other() -> None:
    words_only, meaning_only, both = Hit(1, 0.1, 0.9), Hit(2, 0.9, 0.1), Hit(3, 0.8, 0.8)
    assert ranked([words_only, meaning_only, both])[0][0] == 3
    assert {chunk_id for chunk_id, scores in ranked([words_only, meaning_only]) if scores.fused > 0.3} == {1, 2}
