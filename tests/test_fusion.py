from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from rag_service.retrieval.fusion import fuse, ranked
from rag_service.types import Hit

# Not of all floats: 0.4 of the smallest one is nothing.
SHARES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
LEGS = st.tuples(SHARES, SHARES, SHARES)
HITS = st.lists(
    st.builds(Hit, st.integers(1, 10**12), SHARES, SHARES, SHARES), max_size=30, unique_by=lambda hit: hit.chunk_id
)


@given(LEGS)
def test_a_fused_score_is_a_share_between_the_weakest_leg_and_what_all_say_together(
    legs: tuple[float, float, float],
) -> None:
    dense, lexical, bilingual = legs
    scores = fuse(Hit(1, dense, lexical, bilingual))
    together = 1 - (1 - lexical) * (1 - bilingual)
    assert 0 <= scores.fused <= 1
    assert min(dense, lexical, bilingual) - 1e-12 <= scores.fused <= max(dense, together) + 1e-12
    assert (scores.dense, scores.lexical, scores.bilingual, scores.rerank) == (dense, lexical, bilingual, None)
    assert fuse(Hit(1, 0.0, 0.0, 0.0)).fused == 0.0
    assert fuse(Hit(1, 1.0, 1.0, 1.0)).fused == 1.0


@given(LEGS, LEGS)
def test_more_of_any_leg_is_never_worse(legs: tuple[float, float, float], more: tuple[float, float, float]) -> None:
    better = Hit(1, *(max(pair) for pair in zip(legs, more, strict=True)))
    assert fuse(better).fused >= fuse(Hit(1, *legs)).fused - 1e-12


@given(LEGS, st.integers(0, 2), SHARES)
def test_more_of_one_leg_alone_is_better_where_the_others_leave_room(
    legs: tuple[float, float, float], which: int, more: float
) -> None:
    raised = tuple(max(share, more) if leg == which else share for leg, share in enumerate(legs))
    gained = fuse(Hit(1, *raised)).fused - fuse(Hit(1, *legs)).fused
    saturated = which != 0 and legs[3 - which] > 0.999
    assert gained > -1e-12
    assert gained > 0 or raised == legs or saturated


@given(HITS, st.sampled_from(["dense", "lexical", "bilingual"]))
def test_legs_that_found_nothing_leave_the_others_order(hits: list[Hit], leg: str) -> None:
    """As a Chinese question's own words do over English text: they are nowhere."""
    alone = [Hit(h.chunk_id, *(getattr(h, one) if one == leg else 0.0 for one in LEG_NAMES)) for h in hits]
    best_first = [getattr(scores, leg) for _, scores in ranked(alone)]
    assert best_first == sorted(best_first, reverse=True)


@given(HITS, HITS, st.sampled_from(["lexical", "bilingual"]))
def test_a_leg_that_found_nothing_lowers_no_chunk_below_another(hits: list[Hit], others: list[Hit], empty: str) -> None:
    """What the dense leg and one lexical leg together put in an order keeps it, whatever hits stand beside it."""
    without = [replace(hit, **{empty: 0.0}) for hit in hits]
    order = [chunk_id for chunk_id, _ in ranked(without)]
    beside = [hit for hit in others if hit.chunk_id not in order]
    assert [i for i, _ in ranked([*without, *beside]) if i in set(order)] == order
    assert [scores.fused for _, scores in ranked(without)] == [
        fuse(hit).fused for i in order for hit in without if hit.chunk_id == i
    ]


LEG_NAMES = ("dense", "lexical", "bilingual")


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


def test_what_two_lexical_legs_say_is_more_than_what_one_says_and_less_than_their_sum() -> None:
    one, both = fuse(Hit(1, 0.5, 0.4)).fused, fuse(Hit(1, 0.5, 0.4, 0.4)).fused
    nothing = fuse(Hit(1, 0.5, 0.0)).fused
    assert one < both < one + (one - nothing)
    assert fuse(Hit(1, 0.5, 0.4)).fused == fuse(Hit(1, 0.5, 0.0, 0.4)).fused


def test_a_passage_in_the_other_language_can_come_first_by_meaning_and_translations() -> None:
    own, other = Hit(1, 0.3, 0.2, 0.2), Hit(2, 0.6, 0.0, 0.5)
    assert ranked([own, other])[0][0] == 2


def test_neither_leg_can_drown_the_other() -> None:
    words_only, meaning_only, both = Hit(1, 0.1, 0.9), Hit(2, 0.9, 0.1), Hit(3, 0.8, 0.8)
    assert ranked([words_only, meaning_only, both])[0][0] == 3
    assert {chunk_id for chunk_id, scores in ranked([words_only, meaning_only]) if scores.fused > 0.3} == {1, 2}
