"""A follow-up into a question that retrieval can stand on: by rules here, or by a language model asked from here. Pure.

The rules first decide whether the question leans on the conversation: a pronoun, an ellipsis, or nothing said but an
attribute ("门票多少钱？", "any cures?"). If it does, what the conversation is about right now is put before it; the
question itself is never changed, so what was said cannot be lost. That is: the topics of the last few questions and
answers, each turn weighing less than the next, less again where a question opened a subject of its own.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_service.retrieval.topics import clauses, states_a_value, topics
from rag_service.text import language_of, lexical_terms, sentences
from rag_service.types import Chat, Language, Turn

LONGEST_ADDITION = 80
"""Characters that may be put before a question."""

# Chosen on the `dev` halves of KdConv, MTRAG, MTRAGUN and the rewrites of CANARD (bench/rewriting.py). The two that
# depend on the question's language: Chinese conversations there move on to what an answer names, English ones stay.
_PER_TURN: dict[Language, float] = {"zh": 0.6, "en": 0.8}
_FIRST_SENTENCE_WEIGHT: dict[Language, float] = {"zh": 0.8, "en": 0.5}
_TURNS = 8
_QUESTION_CHARACTERS = 300
_ANSWER_CHARACTERS = 600
_AT_A_NEW_SUBJECT = 0.5
_QUESTION_WEIGHT = 1.0
_LEANING_QUESTION_WEIGHT = 0.35
_REST_OF_ANSWER_WEIGHT = 0.2
_VALUE_WEIGHT = 0.3
_NAME_WEIGHT = 1.6
_NEXT_AT_LEAST = 0.35
# A question longer than this says what it is about.
_LONGEST_FOLLOW_UP = 200


def stand_alone(question: str, history: Sequence[Turn]) -> str:
    """`question` itself, byte for byte, where it does not lean on `history`; else with at most `LONGEST_ADDITION`
    characters of what it leans on before it. Deterministic; time is linear in the question, however long the history.
    """
    recent = history[-_TURNS:]
    lacking = topics_lacking(question) if recent else 0
    addition = _chosen(_in_focus(recent, language_of(question)), question, lacking) if lacking else []
    return f"{' '.join(addition)} {question}" if addition else question


def topics_lacking(question: str) -> int:
    """How many topics of the conversation may be put before a question: 0 where it says by itself what it is about.

    One only where nothing but its shortness says that it leans: it may as well open a new subject.
    """
    if len(question) > _LONGEST_FOLLOW_UP:
        return 0
    if language_of(question) == "zh":
        return 4 if _leans_chinese(question) else 0
    found = topics(question)
    words = sum(len(topic.text.split()) for topic in found)
    pronoun = _ENGLISH_PRONOUN.search(question)
    if pronoun and any(topic.name or " " in topic.text for topic in topics(question[: pronoun.start()])):
        return 0
    if pronoun or _ENGLISH_ELLIPSIS.search(question):
        return 2 if words <= 3 else 0
    return 1 if words <= 2 and not any(topic.name for topic in found) else 0


def _leans_chinese(question: str) -> bool:
    """Whether nothing is named before the last pronoun, or anywhere where there is none. Values are not named, they
    answer what was asked before ("地址在前门大街2号，那它几点开门？")."""
    *stated, asked = clauses(question) or [question]
    pronouns = [match.start() for match in _CHINESE_PRONOUN.finditer(asked)]
    parts = [*(part for part in stated if not states_a_value(part)), asked[: pronouns[-1]] if pronouns else asked]
    named = [topic for part in parts for topic in topics(part)]
    return not any(topic.name for topic in named) and sum(len(topic.text) for topic in named) < 3


_ENGLISH_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|ones?|there|here|such|former"
    r"|latter|same)\b",
    re.IGNORECASE,
)
_ENGLISH_ELLIPSIS = re.compile(
    r"^\W*(?:what about|how about|what else|and|or|but|so|then|also|why not|how so|how come|why\W*$|any other"
    r"|anything else|which one|for example|like what|such as)\b",
    re.IGNORECASE,
)
_CHINESE_PRONOUN = re.compile("[它他她这那该]|其(?![他它余实])|此(?!外)|上述|前者|后者|里面|附近|周边|旁边|边上|周围")


class _Focus:
    """What a conversation is about so far: weights of terms, and the topics that they come from."""

    def __init__(self) -> None:
        self.weights: defaultdict[str, float] = defaultdict(float)
        self.topics: dict[str, tuple[str, ...]] = {}

    def fade(self, factor: float) -> None:
        for term in self.weights:
            self.weights[term] *= factor

    def notice(self, text: str, weight: float) -> None:
        """Each term of the text once. The more topics a text has, the less each of them is its subject."""
        found = list(_weighted(text))
        seen: set[str] = set()
        for topic, factor in found:
            terms = tuple(dict.fromkeys(lexical_terms(topic)))
            self.topics[topic] = terms
            for term in terms:
                if term not in seen:
                    self.weights[term] += weight * factor / math.pow(len(found), 0.4)
            seen.update(terms)


def _weighted(text: str) -> Iterator[tuple[str, float]]:
    """A clause that asks for a value does not tell one."""
    for part in clauses(text) if language_of(text) == "zh" else [text]:
        factor = _VALUE_WEIGHT if states_a_value(part) and not _QUESTION.search(part) else 1.0
        for topic in topics(part):
            yield topic.text, factor * (_NAME_WEIGHT if topic.name else 1.0)


def _in_focus(recent: Sequence[Turn], language: Language) -> _Focus:
    focus = _Focus()
    for turn in recent:
        question = turn.question[:_QUESTION_CHARACTERS]
        leaning = topics_lacking(question) > 0
        focus.fade(_PER_TURN[language] * (1.0 if leaning else _AT_A_NEW_SUBJECT))
        focus.notice(question, _LEANING_QUESTION_WEIGHT if leaning else _QUESTION_WEIGHT)
        first, rest = _answer(turn)
        focus.notice(first, _FIRST_SENTENCE_WEIGHT[language])
        focus.notice(rest, _REST_OF_ANSWER_WEIGHT)
    return focus


def _answer(turn: Turn) -> tuple[str, str]:
    """The first sentence and the rest, without citation marks; nothing of an answer that says it has none."""
    answer = _MARK.sub("", turn.answer[:_ANSWER_CHARACTERS])
    end = next((end for _, end in sentences(answer)), 0)
    return ("", "") if _NO_ANSWER.search(answer[:end]) else (answer[:end], answer[end:])


_MARK = re.compile(r"[\[【［][0-9,，、\s]{1,12}[\]】］]")
_NO_ANSWER = re.compile(
    r"\bsorry\b|\bapologi|do(?:es)? not (?:have|provide|contain|mention)|don't have|cannot|无法|抱歉|没有找到|不足以",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    topic: str
    terms: tuple[str, ...]

    def worth(self, focus: _Focus, present: set[str]) -> float:
        """Weight of the terms it would bring in, less for a long topic, so that none wins by its length alone."""
        new = sum(focus.weights[term] for term in self.terms if term not in present)
        return new / math.pow(len(self.terms), 0.7)


def _chosen(focus: _Focus, question: str, most: int) -> list[str]:
    """Topics to add, best first, each for what the question and those before it do not have yet."""
    present = set(lexical_terms(question))
    candidates = [_Candidate(topic, terms) for topic, terms in focus.topics.items() if terms]
    chosen: list[str] = []
    room, floor = LONGEST_ADDITION, 0.0
    while candidates and len(chosen) < most:
        worth = {candidate: candidate.worth(focus, present) for candidate in candidates}
        best = min(candidates, key=lambda candidate: (-worth[candidate], candidate.topic))
        if worth[best] <= floor:
            break
        candidates.remove(best)
        if len(best.topic) < room:
            floor = floor or worth[best] * _NEXT_AT_LEAST
            room -= len(best.topic) + 1
            chosen.append(best.topic)
            present.update(best.terms)
    return chosen


LONGEST_REWRITE = 300
_PROMPT_TURNS = 4
_PROMPT_CHARACTERS = 300
_PROMPT_QUESTION_CHARACTERS = 1_000
_PROMPTS = {
    "zh": (
        "把下面对话中的最后一个问题改写成一个不看对话也能理解的问题：补全代词和省略所指的名称，其余保持原意。"
        "不要回答问题。只输出改写后的问题，一行。\n\n{transcript}\n\n最后一个问题：{question}\n改写："
    ),
    "en": (
        "Rewrite the last question of this conversation so that it can be understood without the conversation: name "
        "what pronouns and omissions refer to, and change nothing else. Do not answer it. Reply with the rewritten "
        "question only, on one line.\n\n{transcript}\n\nLast question: {question}\nRewritten:"
    ),
}


def rewriting_messages(question: str, history: Sequence[Turn]) -> list[Chat]:
    """What a language model is asked instead of the rules, in the question's language; the newest turn last.

    At most about 4,000 characters, whatever the history: the last turns only, each question and answer cut.
    """
    lines = []
    for turn in history[-_PROMPT_TURNS:]:
        lines.append(f"Q: {_one_line(turn.question, _PROMPT_CHARACTERS)}")
        if turn.answer:
            lines.append(f"A: {_one_line(_MARK.sub('', turn.answer[:_ANSWER_CHARACTERS]), _PROMPT_CHARACTERS)}")
    asked = _one_line(question, _PROMPT_QUESTION_CHARACTERS)
    prompt = _PROMPTS[language_of(question)].format(transcript="\n".join(lines), question=asked)
    return [Chat("user", prompt)]


def accepted(reply: str, question: str, history: Sequence[Turn]) -> str | None:
    """The rewrite in a model's reply, or None where the reply is something else: then the rules rewrite.

    Something else is more than one line, an answer, a remark, template text, another language, or a question that has
    lost what was asked or brings in what neither the question nor the conversation mentions.
    """
    lines = reply.strip().splitlines()
    rewrite = _unwrapped(lines[0]) if len(lines) == 1 else ""
    if not rewrite or len(rewrite) > max(LONGEST_REWRITE, len(question) + LONGEST_ADDITION):
        return None
    if _NO_REWRITE.search(rewrite) or language_of(rewrite) != language_of(question):
        return None
    if _asks(question) and not _asks(rewrite):
        return None
    return rewrite if _says_the_same(rewrite, question, history) else None


def _says_the_same(rewrite: str, question: str, history: Sequence[Turn]) -> bool:
    kept, ours = _topic_terms(question), _topic_terms(rewrite)
    told = " ".join(f"{turn.question} {turn.answer[:_ANSWER_CHARACTERS]}" for turn in history[-_TURNS:])
    known = {*lexical_terms(question), *lexical_terms(told)}
    return 2 * len(kept & ours) >= len(kept) and 2 * len(ours & known) >= len(ours)


def _topic_terms(text: str) -> set[str]:
    return {term for topic in topics(text) for term in lexical_terms(topic.text)}


def _asks(text: str) -> bool:
    return bool(_QUESTION.search(text))


def _unwrapped(line: str) -> str:
    """Without the label or the quotes that models like to put around a rewrite."""
    return _LABEL.sub("", line).strip().strip("\"'“”「」`*").strip()


def _one_line(text: str, longest: int) -> str:
    """Also keeps a turn from looking like several: no line of the transcript can be forged from within one."""
    return " ".join(text[: 2 * longest].split())[:longest]


_LABEL = re.compile(
    r"^\W*(?:(?:the )?(?:rewritten|stand-?alone|last)(?: question)?|question|q|改写后?的?(?:问题)?|问题)\s*[:：]",
    re.IGNORECASE,
)
_NO_REWRITE = re.compile(
    r"###|<\||\|>|</?s>|\[/?INST\]|\b(?:human|assistant|user|system)\s*[:：]|[\[【［]\d+[\]】］]"
    r"|^\W*(?:sure|here is|here's|as an ai|i'm sorry|sorry|i cannot|i can't|answer)\b"
    r"|^\W*(?:好的|当然|抱歉|对不起|根据|作为|答案|回答)",
    re.IGNORECASE,
)
_QUESTION = re.compile(
    r"[?？]|[吗呢]\W*$|什么|怎|如何|哪|谁|几|多少|多[久长大高远]|为何|是否|能否|^\W*(?:who|whom|whose|what|which|when|where|why|how"
    r"|is|are|was|were|do|does|did|can|could|will|would|should|has|have|had)\b",
    re.IGNORECASE,
)
