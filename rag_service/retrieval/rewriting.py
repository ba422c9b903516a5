"""A follow-up as retrieval can stand on it: by rules here, or by a language model asked from here. Pure.

The rules first decide how much a question leaves to the conversation to say: a pronoun, an ellipsis, or nothing said
but an attribute ("门票多少钱？", "any cures?"). What the conversation is about right now then helps in two ways. Its
terms are asked for beside the question's own, each by its weight: less where the question only may lean. And where it
surely leans, a topic or some are put before it, for whatever reads text, such as the embedder. The question itself is
never changed, so what was said cannot be lost, and one that stands by itself is asked as it is.

What a conversation is about are the topics of the last few questions and answers, each turn weighing less than the
next, less again where a question opened a subject of its own.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from rag_service.retrieval.topics import Topic, clauses, states_a_value, topics
from rag_service.text import language_of, lexical_terms, sentences, simplified
from rag_service.types import Chat, Language, Turn

LONGEST_ADDITION = 80
"""Characters that may be put before a question."""
MOST_CONTEXT_TERMS = 24


class Leaning(Enum):
    """How much a question leaves to the conversation before it."""

    STANDS = auto()
    MAY_LEAN = auto()
    LEANS = auto()


# Chosen on the `dev` halves of KdConv, MTRAG, MTRAGUN and the rewrites of CANARD (bench/rewriting.py). Those that
# depend on the question's language: Chinese conversations there move on to what an answer names, English ones stay.
_PER_TURN: dict[Language, float] = {"zh": 0.6, "en": 0.8}
_FIRST_SENTENCE_WEIGHT: dict[Language, float] = {"zh": 0.8, "en": 0.5}
_TOPICS: dict[Language, int] = {"zh": 4, "en": 1}
_CONTEXT_WEIGHT = {Leaning.MAY_LEAN: 0.5, Leaning.LEANS: 0.8}
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
# How many words, or Chinese characters, of topics say what a question is about, and how many do beside a pronoun.
_SUBJECT_ENGLISH, _MUCH_ENGLISH = 3, 4
_SUBJECT_CHINESE, _MUCH_CHINESE = 3, 5
# A question longer than this says what it is about.
_LONGEST_FOLLOW_UP = 200


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A question in its conversation.

    `text` is the question itself, byte for byte, where it does not surely lean; else with at most `LONGEST_ADDITION`
    characters before it. `context` has at most `MOST_CONTEXT_TERMS` lexical terms that `text` lacks, heaviest first,
    each with a weight above 0 and below 1, where those of `text` weigh 1; none where the question stands by itself.
    """

    text: str
    context: Mapping[str, float]


def rewritten(question: str, history: Sequence[Turn]) -> Rewritten:
    """Deterministic; time is linear in the question, however long the history."""
    leans = leaning(question)
    if leans is Leaning.STANDS or not history:
        return Rewritten(question, {})
    language = language_of(question)
    focus = _in_focus(history[-_TURNS:], language)
    addition = _chosen(focus, question, _TOPICS[language]) if leans is Leaning.LEANS else []
    text = f"{' '.join(addition)} {question}" if addition else question
    return Rewritten(text, focus.context(set(lexical_terms(text)), _CONTEXT_WEIGHT[leans]))


def stand_alone(question: str, history: Sequence[Turn]) -> str:
    """The text of `rewritten` alone."""
    return rewritten(question, history).text


def leaning(question: str) -> Leaning:
    """By the words of the question alone. It may lean where something says so and something says the opposite: it is
    short, but has no pronoun and may open a subject; it has a pronoun, but names things as well."""
    if len(question) > _LONGEST_FOLLOW_UP:
        return Leaning.STANDS
    return _leaning_chinese(question) if language_of(question) == "zh" else _leaning_english(question)


def _leaning_english(question: str) -> Leaning:
    found = topics(question)
    words = sum(len(topic.text.split()) for topic in found)
    plain = _REFERS_TO_NOTHING.sub(" ", question)
    pronoun = _ENGLISH_PRONOUN.search(plain)
    if pronoun and _names_what_it_refers_to(plain[: pronoun.start()]):
        return Leaning.MAY_LEAN
    if pronoun or _ENGLISH_ELLIPSIS.search(question):
        return Leaning.MAY_LEAN if words >= _MUCH_ENGLISH else Leaning.LEANS
    if words < _SUBJECT_ENGLISH and not any(topic.name for topic in found):
        return Leaning.MAY_LEAN if found else Leaning.LEANS
    return Leaning.STANDS


def _names_what_it_refers_to(before: str) -> bool:
    """Where a question asks twice ("where did the pilgrims come from and how did they arrive"), any topic will do."""
    found = topics(before)
    asks_twice = len(_QUESTION_WORD.findall(before)) > 1
    return any(topic.name or " " in topic.text or asks_twice for topic in found)


def _leaning_chinese(question: str) -> Leaning:
    """The last clause asks, and what it says after its last pronoun is no subject. Nor are values told before it, which
    answer what was asked before ("地址在前门大街2号，那它几点开门？")."""
    *told, asked = clauses(simplified(question)) or [question]
    pronouns = [match.start() for match in _CHINESE_PRONOUN.finditer(asked)]
    found = topics(asked[: pronouns[-1]] if pronouns else asked)
    if _is_a_subject(found):
        return Leaning.STANDS
    found += [topic for part in told if not states_a_value(part) for topic in topics(part)]
    said = sum(len(topic.text) for topic in topics(asked))
    if _is_a_subject(found) or _brings_up(asked, found) or said >= _MUCH_CHINESE:
        return Leaning.MAY_LEAN
    return Leaning.LEANS


def _brings_up(asked: str, found: Sequence[Topic]) -> bool:
    """Whether somebody is asked if they know or have been to one of the topics, however short its name (故宫)."""
    return any(f"{verb}{topic.text}" in asked for verb in _BRINGING_UP for topic in found)


def _is_a_subject(found: Sequence[Topic]) -> bool:
    return any(topic.name for topic in found) or sum(len(topic.text) for topic in found) >= _SUBJECT_CHINESE


_QUESTION_WORD = re.compile(r"\b(?:who|what|which|when|where|why|how)\b", re.IGNORECASE)
_ENGLISH_PRONOUN = re.compile(
    r"\b(?:it|its|they|them|their|theirs|he|him|his|she|her|hers|this|that|these|those|ones?|there|here|such|former"
    r"|latter|same)\b",
    re.IGNORECASE,
)
# "Is there a cure", "is it true that", "how long does it take to", "where does it snow", "the river that rises".
_REFERS_TO_NOTHING = re.compile(
    r"\b(?:is|are|was|were|isn't|aren't|be|been) there\b|\bthere(?:'s|(?: \w+)? (?:is|are|was|were|be|been)\b)"
    r"|\b(?:is|was|be|if|whether) it (?=(?:\w+ )?(?:true|possible|necessary|legal|illegal|allowed|worth|common|normal"
    r"|better to|safe to|a good idea)\b)"
    r"|\bit (?:snow|rain)s?\b|\bit (?=(?:take|mean|cost)s? (?:to|for|when|if|that)\b)"
    r"|\b(?:the|an?|any|some) (?:\w+ )?(?!(?:of|for|in|on|at|to|with|from|about|by|like|than|as|is|was|are|were|do|does"
    r"|did|and|or|after|before|behind|say|said)\b)\w+ that\b",
    re.IGNORECASE,
)
_ENGLISH_ELLIPSIS = re.compile(
    r"^\W*(?:what about|how about|what else|and|or|but|so|then|also|why not|how so|how come|why\W*$|any other"
    r"|anything else|which one|for example|like what|such as)\b",
    re.IGNORECASE,
)
_BRINGING_UP = ("知道", "了解", "去过", "来过", "玩过", "看过", "听说过", "听过", "介绍", "介绍一下")
_CHINESE_PRONOUN = re.compile(
    "[它他她这]|^\\W*那|那(?=[个些里儿边种位家时条座样次天年])|(?<!应)该|(?<!尤)其(?![他它余实次])|此(?!外)|上述|前者|后者|里面|附近|周边|旁边|边上|周围"
)


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

    def context(self, present: set[str], most: float) -> dict[str, float]:
        """Its heaviest terms, without those present; the heaviest of all weighs `most`, the others in proportion."""
        heaviest = sorted(self.weights, key=lambda term: (-self.weights[term], term))[:MOST_CONTEXT_TERMS]
        scale = most / self.weights[heaviest[0]] if heaviest else 0.0
        weights = {term: scale * self.weights[term] for term in heaviest if term not in present}
        return {term: weight for term, weight in weights.items() if weight > 0.0}


def _weighted(text: str) -> Iterator[tuple[str, float]]:
    """A clause that asks for a value does not tell one."""
    for part in clauses(text) if language_of(text) == "zh" else [text]:
        factor = _VALUE_WEIGHT if states_a_value(part) and not _asks(part) else 1.0
        for topic in topics(part):
            yield topic.text, factor * (_NAME_WEIGHT if topic.name else 1.0)


def _in_focus(recent: Sequence[Turn], language: Language) -> _Focus:
    focus = _Focus()
    for turn in recent:
        question = turn.question[:_QUESTION_CHARACTERS]
        stands = leaning(question) is Leaning.STANDS
        focus.fade(_PER_TURN[language] * (_AT_A_NEW_SUBJECT if stands else 1.0))
        focus.notice(question, _QUESTION_WEIGHT if stands else _LEANING_QUESTION_WEIGHT)
        first, rest = _answer(turn)
        focus.notice(first, _FIRST_SENTENCE_WEIGHT[language])
        focus.notice(rest, _REST_OF_ANSWER_WEIGHT)
    return focus


def _answer(turn: Turn) -> tuple[str, str]:
    """The first sentence and the rest, without citation marks; nothing of an answer that says it has none."""
    answer = _MARK.sub("", turn.answer[:_ANSWER_CHARACTERS])
    end = next((end for _, end in sentences(answer)), 0)
    return ("", "") if _NO_ANSWER.search(simplified(answer[:end])) else (answer[:end], answer[end:])


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
        best = min(candidates, key=lambda candidate: (-worth[candidate], simplified(candidate.topic)))
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
    return bool(_QUESTION.search(simplified(text)))


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
