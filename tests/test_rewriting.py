from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_service.retrieval.rewriting import (
    LONGEST_ADDITION,
    MOST_CONTEXT_TERMS,
    Leaning,
    Rewritten,
    accepted,
    leaning,
    rewriting_messages,
    rewritten,
    stand_alone,
)
from rag_service.retrieval.topics import Topic, topics
from rag_service.text import fold, lexical_terms, simplified
from rag_service.types import Turn

PIECES = st.sampled_from(
    ["它", "那", "《红楼梦》", "“", "门票", "多少钱", "？", "。", "，", "3", "小时", " ", "\n", "it", "Watson", "the",
     "'s", ".", "-", "what about", "[1]", "【2】", "雍和宫", "什刹海", "号", '"', "###", "😀", "é", "\u3000", "K8s",
     "guinea pig", "這裡", "頤和園", "門票", "is there a "]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=80), st.lists(PIECES, max_size=40).map("".join))
HISTORIES = st.lists(st.builds(Turn, st.just("t"), TEXTS, TEXTS), max_size=12)


def told(*exchanges: tuple[str, str]) -> tuple[Turn, ...]:
    return tuple(Turn(str(n), question, answer) for n, (question, answer) in enumerate(exchanges))


TOWER = told(("你知道排云殿吗？", "排云殿位于万寿山南麓的中部，是颐和园的核心建筑群。[1]"))
TOWER_TRADITIONAL = told(("你知道排雲殿嗎？", "排雲殿位於萬壽山南麓的中部，是頤和園的核心建築群。[1]"))
DISEASE = told(("Is Huntington's disease inherited?", "Yes, it is an inherited disorder from one's parents. [1]"))


@pytest.mark.parametrize(
    "question", ["那它的门票要多少钱？", "地址在哪儿呢？", "为什么？", "里面能游玩多长时间？", "开放时间呢？"]
)
def test_a_chinese_follow_up_gets_the_subject_it_leaves_out(question: str) -> None:
    made = rewritten(question, TOWER)
    assert "排云殿" in made.text
    assert made.text.endswith(question)
    assert "万寿" in {*lexical_terms(made.text), *made.context}


@pytest.mark.parametrize(
    "question",
    ["那它的門票要多少錢？", "地址在哪兒呢？", "為什麼？", "裡面能遊玩多長時間？", "開放時間呢？", "這裡幾點開門？",
     "它是什麼時候建的？"],
)  # fmt: skip
def test_a_traditional_follow_up_gets_it_as_it_was_written(question: str) -> None:
    made = rewritten(question, TOWER_TRADITIONAL)
    assert made.text.startswith("排雲殿 ")
    assert made.text.endswith(question)


@pytest.mark.parametrize(
    ("question", "traditional"),
    [("那它的门票要多少钱？", "那它的門票要多少錢？"), ("地址在哪儿呢？", "地址在哪兒呢？"),
     ("我周六去，正好放假，地址你知道吗？", "我週六去，正好放假，地址你知道嗎？"),
     ("颐和园的门票多少钱？", "頤和園的門票多少錢？"), ("你去过故宫吗？", "你去過故宮嗎？")],
)  # fmt: skip
def test_both_scripts_are_rewritten_alike(question: str, traditional: str) -> None:
    simple, other = rewritten(question, TOWER), rewritten(traditional, TOWER_TRADITIONAL)
    assert leaning(question) is leaning(traditional)
    assert simplified(other.text).replace("週", "周") == simple.text
    assert other.context == simple.context


@pytest.mark.parametrize(
    "question",
    ["Any cures for it?", "What about treatments?", "why?", "How is this treated?", "How long does it take?",
     "Is that so?", "What does it mean?"],
)  # fmt: skip
def test_an_english_follow_up_gets_the_subject_it_leaves_out(question: str) -> None:
    made = rewritten(question, DISEASE)
    assert made.text.startswith("Huntington disease inherited ")
    assert made.text.endswith(question)
    assert {"disord", "parent"} <= made.context.keys()


@pytest.mark.parametrize(
    ("question", "history", "asked_for"),
    [
        ("Symptoms?", DISEASE, "huntington"),
        ("how do jellyfish sting", DISEASE, "huntington"),
        ("Which doctors treat children that have the disease and charge nothing for it?", DISEASE, "huntington"),
        ("what should i tell grandparents, uncles, aunts, cousins about this?", DISEASE, "huntington"),
        ("我周六去，正好放假休息，地址你知道吗？", TOWER, "排云"),
        ("我週六去，正好放假休息，地址你知道嗎？", TOWER_TRADITIONAL, "排云"),
        ("这首赞美诗的英语翻译者是谁？", TOWER, "排云"),
        ("你去过故宫吗？", TOWER, "排云"),
    ],
)
def test_a_question_that_may_lean_is_left_as_it_is_and_the_subject_asked_for_beside_it(
    question: str, history: tuple[Turn, ...], asked_for: str
) -> None:
    made = rewritten(question, history)
    assert made.text == question
    assert 0 < made.context[asked_for] <= 0.5


def test_what_surely_leans_is_asked_for_with_more_of_the_conversation() -> None:
    sure, unsure = rewritten("How is it treated?", DISEASE), rewritten("Which doctors?", DISEASE)
    assert (leaning("How is it treated?"), leaning("Which doctors?")) == (Leaning.LEANS, Leaning.MAY_LEAN)
    assert sure.context["disord"] > unsure.context["disord"] > 0
    assert unsure.context["huntington"] > unsure.context["disord"]


@pytest.mark.parametrize(
    "question",
    ["颐和园的门票多少钱？", "頤和園的門票多少錢？", "光合作用的原理是什么？", "光合作用的原理是什麼？",
     "吴淞路闸桥拆除后它的功能由什么代替？", "加那利群岛在哪个大陆沿岸？", "“质”这个字还有什么其他含义？",
     "What is NodeSync?", "who is Patel?", "Is there a cure for Huntington's disease?",
     "What was the name of the stadium that hosted teams of Denver?", "song lyrics of a spoonful of sugar?",
     "How long does it take to climb Kilimanjaro with a guide?", "where does it snow the most in north carolina",
     "How do I configure a load balancer in Kubernetes?"],
)  # fmt: skip
def test_a_question_that_names_its_subject_is_asked_byte_for_byte(question: str) -> None:
    assert rewritten(question, TOWER + DISEASE) == Rewritten(question, {})


def test_without_history_nothing_is_added() -> None:
    assert stand_alone("那它呢？", ()) == "那它呢？"


def test_the_third_question_still_reaches_the_subject_of_the_first() -> None:
    history = told(
        ("你知道排云殿吗？", "知道。"),
        ("那它的门票要多少钱？", "10元。"),
        ("开放时间呢？", "8:30到17:00。"),
        ("里面能玩多久？", ""),
    )
    assert "排云殿" in stand_alone("地址在哪儿？", history)
    english = told(
        ("Where is the Clipper mission going?", "To Europa."),
        ("Who funds it?", "NASA."),
        ("When does it launch?", ""),
    )
    assert "Clipper mission" in stand_alone("How long does it take?", english)


def test_a_new_subject_takes_the_place_of_the_old_one() -> None:
    history = told(
        ("你知道排云殿吗？", "知道，是颐和园的核心建筑群。"),
        ("那它的门票要多少钱？", "10元。"),
        ("香山公园怎么样？", "香山公园的红叶很有名。"),
    )
    rewritten = stand_alone("它的门票呢？", history)
    assert rewritten.startswith("香山公园")
    assert "排云殿" not in rewritten


def test_an_old_subject_loses_to_a_new_one_however_often_it_was_named() -> None:
    often = told(*[("排云殿的屋顶有多高？", "排云殿的屋顶很高。")] * 3, ("香山公园呢？", "秋天去。"))
    assert stand_alone("它的门票呢？", often).startswith("香山公园")


def test_a_subject_that_an_answer_brings_up_is_one() -> None:
    history = told(("name the viceroy at the time", "The viceroy was Lord Linlithgow. He was appointed in 1936."))
    assert "Lord Linlithgow" in stand_alone("what did he do?", history)


def test_names_of_another_language_are_taken_as_they_are() -> None:
    english = told(("How does PowerHA SystemMirror work?", "PowerHA SystemMirror mirrors data between sites."))
    assert "PowerHA SystemMirror" in stand_alone("那它怎么收费？", english)
    assert "排云殿" in stand_alone("How much does it cost?", TOWER)


def test_numbers_addresses_and_marks_are_no_subject() -> None:
    history = told(("梅兰芳大剧院在哪里？", "地址在北京市西城区平安里西大街32号。电话是010-58331288。[1][2]"))
    rewritten = stand_alone("它什么时候开放？", history)
    assert rewritten.startswith("梅兰芳大剧院")
    assert not any(character.isdigit() for character in rewritten)


def test_an_answer_that_has_none_brings_up_nothing() -> None:
    history = told(("How is Sickle cell treated?", "Sorry, the Zanzibar archive does not contain that."))
    assert stand_alone("Will it kill me?", history) == "Sickle cell treated Will it kill me?"


def test_a_title_in_quotes_is_kept_whole() -> None:
    history = told(("《平凡的世界》讲了什么？", "讲的是黄土高原上的青年。"))
    assert "平凡的世界" in stand_alone("作者是谁？", history)


@given(TEXTS, HISTORIES)
def test_the_question_itself_is_never_changed_and_the_addition_bounded(question: str, history: list[Turn]) -> None:
    made = rewritten(question, history)
    assert made.text.endswith(question)
    assert len(made.text) <= len(question) + LONGEST_ADDITION
    assert made == rewritten(question, list(history))
    assert made.text == stand_alone(question, history)
    if made.text != question:
        assert leaning(question) is Leaning.LEANS
    if leaning(question) is Leaning.STANDS:
        assert made == Rewritten(question, {})


def test_only_the_heaviest_terms_of_a_long_conversation_are_asked_for() -> None:
    old = " ".join(f"topic{number} of" for number in range(40))
    context = rewritten("why?", told(("Tell me", old), ("What about whales?", ""))).context
    assert len(context) == MOST_CONTEXT_TERMS - 1, "whales, the heaviest, are in the text"


@given(TEXTS, HISTORIES)
def test_the_context_is_a_few_terms_of_the_conversation_lighter_than_the_question(
    question: str, history: list[Turn]
) -> None:
    context = rewritten(question, history).context
    told = " ".join(f"{turn.question}\n{turn.answer}\n" for turn in history)
    assert len(context) <= MOST_CONTEXT_TERMS
    assert all(0 < weight < 1 for weight in context.values())
    assert list(context.values()) == sorted(context.values(), reverse=True)
    assert not context.keys() & {*lexical_terms(rewritten(question, history).text)}
    assert set("".join(context)) <= {*"".join(lexical_terms(told)), *fold(told)}


@given(TEXTS, HISTORIES, HISTORIES)
def test_what_was_said_long_ago_has_no_say(question: str, old: list[Turn], history: list[Turn]) -> None:
    recent = (history * 12)[:8]
    if len(recent) == 8:
        assert stand_alone(question, [*old, *recent]) == stand_alone(question, recent)


@given(TEXTS)
def test_topics_are_found_in_any_text_and_are_parts_of_it(text: str) -> None:
    for topic in topics(text):
        assert topic.text.strip()


def test_a_topic_after_a_number_is_cut_out_whole() -> None:
    assert topics("2005年6月16日至12小時後的頤和園") == [Topic("頤和園", name=False)]
    assert topics("2005年6月16日至12小时后的颐和园") == [Topic("颐和园", name=False)]


@given(st.lists(st.sampled_from("排雲殿這裡门票門票多少錢，的那3年在頤和園開放嗎？ ")).map("".join))
def test_topics_of_a_traditional_text_are_those_of_the_simplified_one(text: str) -> None:
    assert [Topic(simplified(topic.text), topic.name) for topic in topics(text)] == topics(simplified(text))
    assert all(topic.text in text for topic in topics(text))


@pytest.mark.parametrize(
    "piece",
    ["a-", "“", '"', "《", "1", "1-", "吗", "它", "我", "It is a ", "''", "Aa ", "。", "\u3000", "的a", "a.", "多",
     "<|"],
)  # fmt: skip
def test_hostile_text_costs_linear_time(piece: str) -> None:
    def seconds(length: int) -> float:
        text = piece * (length // len(piece))
        history = [Turn("t", text, text)] * 500
        start = time.thread_time()
        stand_alone("那它呢？", history)
        stand_alone(text, history)
        accepted(text, text, history)
        rewriting_messages(text, history)
        return time.thread_time() - start

    seconds(1_000)
    assert seconds(40_000) < 0.5


def test_the_prompt_is_bounded_and_ends_with_the_question() -> None:
    history = told(*((f"question {n} " + "x" * 5_000, f"answer {n} [1] " + "长" * 5_000) for n in range(50)))
    [message] = rewriting_messages("Any cures for it?", history)
    assert message.role == "user"
    assert len(message.content) < 4_000
    assert message.content.index("question 48") < message.content.index("question 49")
    assert "question 45" not in message.content
    assert "[1]" not in message.content
    assert message.content.endswith("Last question: Any cures for it?\nRewritten:")


def test_the_prompt_speaks_the_questions_language() -> None:
    assert "改写" in rewriting_messages("它的门票呢？", DISEASE)[0].content
    assert "Rewrite" in rewriting_messages("Any cures?", TOWER)[0].content


@given(TEXTS, HISTORIES)
def test_no_turn_can_forge_another_line_of_the_transcript(question: str, history: list[Turn]) -> None:
    recent = history[-4:]
    lines = rewriting_messages(question, history)[0].content.split("\n\n")[1].split("\n")
    expected = sum(1 + bool(turn.answer) for turn in recent)
    assert len(lines) == max(1, expected)


@pytest.mark.parametrize(
    ("reply", "rewrite"),
    [
        ("Are there any cures for Huntington's disease?", "Are there any cures for Huntington's disease?"),
        ('  "Any cures for Huntington\'s disease?"\n', "Any cures for Huntington's disease?"),
        ("Rewritten question: Any cures for Huntington's disease?", "Any cures for Huntington's disease?"),
        ("", None),
        ("\n", None),
        ("Any cures for Huntington's disease?\nThere is none.", None),
        ("There is no cure for Huntington's disease.", None),
        ("Sure! Any cures for Huntington's disease?", None),
        ("Any cures for Huntington's disease? [1]", None),
        ("### Human: Any cures for Huntington's disease?", None),
        ("Any cures for Huntington's disease?<|endoftext|>", None),
        ("亨廷顿病有治疗方法吗？", None),
        ("What is the capital of France?", None),
        ("Are there cures for Alzheimer, Parkinson, lupus, malaria, cholera?", None),
        ("Any cures for Huntington's disease " + "or anything like it " * 30 + "?", None),
    ],
)
def test_only_a_rewrite_is_accepted_from_a_model(reply: str, rewrite: str | None) -> None:
    assert accepted(reply, "Any cures for it?", DISEASE) == rewrite


@pytest.mark.parametrize(
    ("reply", "rewrite"),
    [
        ("排云殿的门票要多少钱？", "排云殿的门票要多少钱？"),
        ("改写后的问题：排云殿的门票要多少钱？", "排云殿的门票要多少钱？"),
        ("“排云殿的门票要多少钱？”", "排云殿的门票要多少钱？"),
        ("排云殿的门票是10元。", None),
        ("根据对话，门票是多少？", None),
        ("How much is a ticket?", None),
    ],
)
def test_only_a_rewrite_is_accepted_in_chinese_too(reply: str, rewrite: str | None) -> None:
    assert accepted(reply, "那它的门票要多少钱？", TOWER) == rewrite


@given(TEXTS, TEXTS, HISTORIES)
def test_what_is_accepted_is_one_line_without_template_text(reply: str, question: str, history: list[Turn]) -> None:
    rewrite = accepted(reply, question, history)
    if rewrite is not None:
        assert rewrite.strip() == rewrite != ""
        assert len(rewrite.splitlines()) == 1
        assert "###" not in rewrite
        assert rewrite in reply


@settings(max_examples=200)
@given(HISTORIES)
def test_what_the_rules_make_does_not_lean_more_than_before(history: list[Turn]) -> None:
    """Rewriting a rewrite adds no more than the bound again: it never grows without end."""
    once = stand_alone("它的门票多少钱？", history)
    assert len(stand_alone(once, history)) <= len(once) + LONGEST_ADDITION
