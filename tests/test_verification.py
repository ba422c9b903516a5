"""What holds of verification whatever is said: properties, the quote, several passages, an entailment model."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_service.answering.verification.verifier import Read, Support, Verifier
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.ports import Entailment, Vectors
from rag_service.text import language_of, sentences
from rag_service.types import Passage

SPOKEN = st.sampled_from(
    (
        "The standard warranty of the X-200 is 24 months from the date of delivery.",
        "Customers who register within 30 days receive six extra months.",
        "Do not use acetone, because it clouds the window of the measuring cell!",
        "On March 5, 2024 the group had 412 employees in Suzhou and Bristol.",
        "Sales rose by 12.5% to $3 million; costs fell.",
        "公司成立于2009年4月，主要产品是实验室水质分析仪。",
        "一般岗位的试用期为3个月，研发岗位的试用期为6个月。",
        "禁止共用账号；登录密码不得少于14个字符。",
        "人力资源经理许静怡会在三个工作日内答复！",
        "「停機期間」無法使用線上報修系統。",
        "- 第一周：信息安全培训，考试80分以上为合格。",
        "3. Load the reagent packs into bays A, B and C.",
    )
)
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=80)
PASSAGES = st.lists(SPOKEN | ANYTHING, min_size=1, max_size=6).map("\n".join)


class Hashing:
    """An embedder of no meaning: equal texts are equal vectors, others are near nothing."""

    name, dimensions = "hashing", 16

    def embed(self, texts: Sequence[str]) -> Vectors:
        rows = [np.random.default_rng(list(text.encode("utf-8", "replace"))).normal(size=16) for text in texts]
        vectors: Vectors = np.array(rows, np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def passage(text: str, headings: tuple[str, ...] = (), chunk_id: int = 1) -> Passage:
    return Passage(
        chunk_id=chunk_id, knowledge_base_id="kb", document_id="d", document_version=1, filename="notes.txt",
        media_type="text/plain", page=None, headings=headings, language=language_of(text), char_start=0,
        char_end=len(text), text=text,
    )  # fmt: skip


def check(verifier: Verifier, sentence: str, *texts: str) -> Support | None:
    given_texts = verifier.read([passage(text) for text in texts], language_of(sentence))
    return verifier.check(sentence, given_texts, range(len(texts)))


@pytest.fixture(scope="module")
def rules() -> Verifier:
    return Verifier(Hashing())


@pytest.fixture(scope="module")
def verifier(embedder: UseMultilingual) -> Verifier:
    return Verifier(embedder)


# ------------------------------------------------------------------------------------------------------ properties


@given(text=PASSAGES, which=st.integers(0, 20))
def test_a_sentence_copied_from_the_passage_is_always_supported(text: str, which: int) -> None:
    spans = list(sentences(text))
    if not spans:
        return
    start, end = spans[which % len(spans)]
    support = check(Verifier(Hashing()), text[start:end], text)
    assert support is None or support.verdict == "supported"


@given(text=PASSAGES, sentence=SPOKEN | ANYTHING)
def test_the_quote_is_one_to_three_whole_sentences_of_the_passage(text: str, sentence: str) -> None:
    support = check(Verifier(Hashing()), sentence, text)
    if support is None:
        return
    spans = list(sentences(text))
    first = [start for start, _ in spans].index(support.start)
    last = [end for _, end in spans].index(support.end)
    assert first <= last < first + 3
    assert 0.0 <= support.score <= 1.0


@given(text=PASSAGES, others=st.lists(PASSAGES, max_size=3), sentence=SPOKEN | ANYTHING)
def test_the_verdict_on_a_passage_does_not_depend_on_the_others(text: str, others: list[str], sentence: str) -> None:
    verifier = Verifier(Hashing())
    alone = check(verifier, sentence, text)
    beside = verifier.read([passage(one) for one in (*others, text)], language_of(sentence))
    support = verifier.check(sentence, beside, [len(others)])
    assert (support and replace(support, passage=0)) == alone


@given(text=PASSAGES, sentence=SPOKEN | ANYTHING)
def test_asking_again_gives_the_same(text: str, sentence: str) -> None:
    verifier = Verifier(Hashing())
    assert check(verifier, sentence, text) == check(verifier, sentence, text)


# The numbers that a sentence of `SPOKEN` has in words.
SPELLED = {6: "six"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(SPOKEN, min_size=1, max_size=4, unique=True), which=st.integers(0, 9), put=st.integers(4, 9999))
def test_a_number_that_is_changed_is_never_supported(
    verifier: Verifier, chosen: list[str], which: int, put: int
) -> None:
    text = "\n".join(chosen)
    sentence = chosen[0]
    numbers = list(re.finditer(r"(?<!^)(?<![\d.-])\d+(?![\d.]|\. )", sentence))
    says_it = re.search(rf"(?<!\d){put}(?!\d)", text) or SPELLED.get(put, "\0") in text
    if not numbers or says_it:
        return
    at = numbers[which % len(numbers)]
    changed = sentence[: at.start()] + str(put) + sentence[at.end() :]
    support = check(verifier, changed, text)
    assert support is not None
    assert support.verdict != "supported", (changed, support)


@given(sentence=ANYTHING, text=ANYTHING)
def test_no_text_makes_it_fail(sentence: str, text: str) -> None:
    support = check(Verifier(Hashing()), sentence, text)
    assert support is None or support.verdict in ("supported", "weak", "unsupported")


HOSTILE = (
    "1 ", "一二三", "Ab. ", "不1。", "卡·卡。", "9,999,999 ", "不", "not ", "《a》", "卡·", "Aa ", "a-1 ", "X-1",
    "one hundred ", "2024年", "1到", "%", "((((", "1:11 ", "。", "the ", "\u3000", "½", "increase ",
)  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_costs_no_more_than_its_length(rules: Verifier, piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        begun = time.perf_counter()
        check(rules, text, text[::-1] + "\n" + text)
        return time.perf_counter() - begun

    seconds(1_000)
    short, long = seconds(20_000), seconds(80_000)
    assert long < 0.5 + 8 * short


# ------------------------------------------------------------------------------------------------- what is returned


def test_the_best_of_the_cited_passages_supports(verifier: Verifier) -> None:
    support = check(verifier, "密码不得少于14个字符。", "公司成立于2009年。", "登录密码的长度不得少于14个字符。")
    assert support is not None
    assert (support.passage, support.verdict) == (1, "supported")


def test_a_passage_that_is_not_cited_supports_nothing(verifier: Verifier) -> None:
    texts = [passage("公司成立于2009年。"), passage("登录密码的长度不得少于14个字符。", chunk_id=2)]
    support = verifier.check("密码不得少于14个字符。", verifier.read(texts, "zh"), [0])
    assert support is not None
    assert (support.passage, support.verdict) == (0, "unsupported")


def test_a_sentence_put_together_from_two_sentences_is_supported(verifier: Verifier) -> None:
    text = "The X-200 weighs 11 kg. It ships from Suzhou. It has one Ethernet port and two USB-A ports."
    support = check(verifier, "The X-200 weighs 11 kg and has one Ethernet port and two USB-A ports.", text)
    assert support is not None
    assert (support.verdict, text[support.start : support.end]) == ("supported", text)


def test_what_only_the_heading_names_may_be_named(verifier: Verifier) -> None:
    text = "The instrument must be recalibrated every 90 days and after each lamp replacement."
    sentence = "The Nephelos 7 instrument must be recalibrated every 90 days."
    under = verifier.read([passage(text, headings=("Nephelos 7",))], "en")
    bare = verifier.read([passage(text)], "en")
    named, unnamed = verifier.check(sentence, under, [0]), verifier.check(sentence, bare, [0])
    assert named is not None
    assert unnamed is not None
    assert (named.verdict, unnamed.verdict) == ("supported", "unsupported")


def test_a_fault_says_what_is_wrong_in_words(verifier: Verifier) -> None:
    support = check(verifier, "The battery lasts 7 years.", "The battery lasts about five years.")
    assert support is not None
    assert support.faults[0] == "number 7 years is not in the passage"


@pytest.mark.parametrize("sentence", ["", "   ", "……", "the of", "[]"])
def test_a_sentence_without_a_word_is_not_judged(verifier: Verifier, sentence: str) -> None:
    assert check(verifier, sentence, "The battery lasts about five years.") is None


def test_nothing_cited_and_nothing_said_support_nothing(verifier: Verifier) -> None:
    sentence = "The battery lasts five years."
    assert verifier.check(sentence, verifier.read([passage(sentence)], "en"), []) is None
    assert verifier.check(sentence, verifier.read([passage(" \n ")], "en"), [0]) is None


@pytest.mark.parametrize("times", [110, 300])
def test_of_a_sentence_too_long_to_be_read_only_a_copy_is_supported(verifier: Verifier, times: int) -> None:
    text = "The analyser measures six parameters " + "from a single sample " * times + "every day."
    changed, copied = check(verifier, text.replace("every day", "every night"), text), check(verifier, text, text)
    assert changed is not None
    assert copied is not None
    assert (changed.verdict != "supported", copied.verdict) == (True, "supported")


# ---------------------------------------------------------------------------------------------- entailment models


@dataclass
class Oracle:
    entailed: float
    contradicted: float
    asked: int = 0
    name: str = "oracle"

    def judge(self, premise: str, hypothesis: str) -> tuple[float, float]:
        self.asked += 1
        return self.entailed, self.contradicted


LOOSE = ("The device wants attention from an engineer annually.", "A service engineer verifies the device every year.")


def with_oracle(embedder: UseMultilingual, oracle: Entailment) -> Verifier:
    return Verifier(embedder, oracle)


def judged(verifier: Verifier, sentence: str, text: str) -> str:
    given_texts: Read = verifier.read([passage(text)], "en")
    support = verifier.check(sentence, given_texts, [0])
    assert support is not None
    return support.verdict


def test_an_entailment_model_finds_contradictions(embedder: UseMultilingual) -> None:
    sentence, text = "The cell is rinsed after each run.", "The cell is rinsed after each run of six samples."
    assert judged(Verifier(embedder), sentence, text) == "supported"
    assert judged(with_oracle(embedder, Oracle(0.0, 0.9)), sentence, text) == "unsupported"


def test_an_entailment_model_lifts_a_loose_sentence_by_one_step(embedder: UseMultilingual) -> None:
    assert judged(Verifier(embedder), *LOOSE) == "unsupported"
    assert judged(with_oracle(embedder, Oracle(0.95, 0.0)), *LOOSE) == "weak"


def test_an_entailment_model_is_not_asked_about_a_copy(embedder: UseMultilingual) -> None:
    oracle = Oracle(0.0, 1.0)
    verdict = judged(with_oracle(embedder, oracle), "The battery lasts 5 years.", "The battery lasts 5 years.")
    assert (verdict, oracle.asked) == ("supported", 0)


def test_an_entailment_model_is_not_asked_about_a_wrong_number(embedder: UseMultilingual) -> None:
    oracle = Oracle(1.0, 0.0)
    verdict = judged(with_oracle(embedder, oracle), "The battery lasts 7 years.", "The battery lasts five years.")
    assert (verdict, oracle.asked) == ("unsupported", 0)
