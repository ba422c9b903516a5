"""The parts of verification that need no vectors: alignment, denial and opposites, names, sounds, scripts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.answering.verification import names, polarity, transliteration
from rag_service.answering.verification.alignment import align, gaps
from rag_service.answering.verification.tokens import read
from rag_service.text import simplified

TOKENS = st.lists(st.sampled_from("abcde"), max_size=12)


def turned(claim: str, passage: str) -> bool:
    mine, theirs = read(claim), read(passage)
    pairs = align([token.key for token in mine.tokens], [token.key for token in theirs.tokens])
    return polarity.turned(mine, theirs, pairs) is not None


# ------------------------------------------------------------------------------------------------------- alignment


@given(TOKENS, TOKENS)
def test_an_alignment_rises_and_pairs_only_equal_tokens(claim: list[str], passage: list[str]) -> None:
    pairs = align(claim, passage)
    assert all(claim[i] == passage[j] for i, j in pairs)
    assert all(a < c and b < d for (a, b), (c, d) in pairwise(pairs))


@given(TOKENS)
def test_a_text_is_aligned_with_itself_from_end_to_end(tokens: list[str]) -> None:
    assert align(tokens, tokens) == [(at, at) for at in range(len(tokens))]


@given(TOKENS, TOKENS)
def test_every_token_of_a_claim_is_paired_or_in_a_gap(claim: list[str], passage: list[str]) -> None:
    pairs = align(claim, passage)
    between = [at for gap in gaps(pairs, len(claim), len(passage)) for at in range(gap.a, gap.b)]
    assert sorted([*between, *(i for i, _ in pairs)]) == list(range(len(claim)))


def test_one_run_is_better_than_scattered_matches() -> None:
    assert align(list("abc"), list("axbxcxabc")) == [(0, 6), (1, 7), (2, 8)]


# -------------------------------------------------------------------------------------------------------- polarity


@pytest.mark.parametrize(
    ("claim", "passage"),
    [
        ("The pump may not run dry.", "The pump may run dry."),
        ("The pump may run dry.", "The pump may not run dry."),
        ("The pump never runs dry.", "The pump runs dry every day."),
        ("Sales increased in May.", "Sales decreased in May."),
        ("Send it before the audit.", "Send it after the audit."),
        ("At most 14 characters are needed.", "At least 14 characters are needed."),
        ("员工不可以携带样品。", "员工可以携带样品。"),
        ("账号没有被锁定。", "账号被锁定。"),
        ("收入增加了两成。", "收入减少了两成。"),
        ("公司允许共用账号。", "公司禁止共用账号。"),
    ],
)
def test_what_is_denied_or_turned_round_is_seen(claim: str, passage: str) -> None:
    assert turned(claim, passage)


@pytest.mark.parametrize(
    ("claim", "passage"),
    [
        ("The pump may not run dry.", "The pump must not, may not and will not run dry."),
        ("The lamp is replaced.", "The lamp is replaced, but the fan is not."),
        ("Acetone must not be used.", "Do not use acetone."),
        ("It is not only fast but quiet.", "It is fast and quiet."),
        ("员工不得携带样品。", "员工不得擅自携带样品。"),
        ("公司不仅生产仪器。", "公司生产仪器。"),
        ("密码相同的账号会被锁定。", "密码相同的账号会被锁定，不能自行解锁。"),
    ],
)
def test_the_same_said_with_other_words_is_no_denial(claim: str, passage: str) -> None:
    assert not turned(claim, passage)


def test_across_languages_a_plain_denial_needs_one_on_the_other_side() -> None:
    assert polarity.turned_across(read("The pump cannot run dry."), [read("泵可以空转。")])
    assert polarity.turned_across(read("泵不能空转。"), [read("The pump can run dry.")])
    assert not polarity.turned_across(read("The pump cannot run dry."), [read("泵不得空转。")])
    assert not polarity.turned_across(read("样品过小，无法测量。"), [read("The sample is too small to be measured.")])
    assert polarity.turned_across(read("Costs increased."), [read("成本下降。")])


# ----------------------------------------------------------------------------------------------------------- names


def known(*said: str, about: str = "") -> names.Known:
    return names.known([read(one) for one in said], [read(about)])


def test_a_capitalised_word_that_stands_nowhere_is_foreign() -> None:
    there = known("The Board of Directors appointed James Smith in Norway.", about="Energex Corporation")
    assert list(names.foreign_words(read("James Smith joined Energex, not Initech."), there)) == ["Initech"]


@pytest.mark.parametrize("word", ["NFL", "Norwegian", "Smith's", "Directors"])
def test_forms_of_a_name_are_known(word: str) -> None:
    there = known("The National Football League appointed James Smith in Norway, with its Directors.")
    assert list(names.foreign_words(read(f"They met the {word} people."), there)) == []


def test_codes_are_compared_with_their_numbers() -> None:
    there = known("It uses MPEG-2 and ships with the X200.")
    assert list(names.foreign_codes(read("MPEG2 and X-200 are old."), there)) == []
    assert list(names.foreign_codes(read("MPEG-4 and X300 are new."), there)) == ["MPEG-4", "X300"]


def test_chinese_names_with_certain_ends_are_looked_for() -> None:
    there = known("《国际动物命名规约》由澄川科技有限公司翻译，译者为贾里德·艾伦。")
    assert list(names.foreign_characters(read("由贾里德·艾伦翻译的《国际动物命名规约》"), there)) == []
    found = list(names.foreign_characters(read("《国际植物命名规约》由天空航空有限公司翻译，译者为罗德·拉沃。"), there))
    assert found == ["国际植物命名规约", "航空有限公司", "译者为罗德·拉沃"]


@pytest.mark.parametrize(
    ("chinese", "latin"),
    [
        ("贾里德·艾伦", "Jared Allen"),
        ("卡万·肖特", "Kawann Short"),
        ("卢卡斯·克拉纳奇", "Lucas Cranach"),
        ("特斯拉", "Tesla"),
    ],
)
def test_a_transcribed_name_sounds_like_itself(chinese: str, latin: str) -> None:
    sound = transliteration.chinese_sound(chinese)
    assert transliteration.alike(sound, transliteration.latin_sound(latin)) >= names.HEARD_FROM


def test_a_transcribed_name_does_not_sound_like_another() -> None:
    english = [read("The line featured Jared Allen and Mario Addison.")]
    there = known("The line featured Jared Allen and Mario Addison.")
    assert list(names.unheard(read("贾里德·艾伦是球员。"), "zh", english, there)) == []
    assert list(names.unheard(read("卢卡斯·克拉纳奇是球员。"), "zh", english, there)) == ["卢卡斯·克拉纳奇"]


@given(st.text(alphabet="bcdfgklmnprst", max_size=8), st.text(alphabet="bcdfgklmnprst", max_size=8))
def test_likeness_is_symmetric_and_bounded(one: str, other: str) -> None:
    assert 0.0 <= transliteration.alike(one, other) <= 1.0
    assert transliteration.alike(one, other) == transliteration.alike(other, one)


# --------------------------------------------------------------------------------------------------------- scripts


def test_traditional_text_reads_like_simplified() -> None:
    assert simplified("試劑價格調整、光源模組免費更換及服務時間異動") == "试剂价格调整、光源模组免费更换及服务时间异动"


@given(st.text(max_size=40))
def test_simplifying_keeps_the_length_and_is_done_once(text: str) -> None:
    assert len(simplified(text)) == len(text)
    assert simplified(simplified(text)) == simplified(text)
