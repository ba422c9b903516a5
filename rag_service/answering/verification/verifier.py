"""Does a passage support a sentence a model wrote, in either language? Pure but for the embedder; no second model call.

A sentence is laid beside the one to three sentences of a passage that say most of it (`scope`). It is *unsupported*
where they say too little of it, or say one thing otherwise (`disagreement`): a number, a unit, a date, a name, a
denial. What they say, but loosely, is *weak*.

The floors were set on the dev half of the set that `bench.citations` builds (2026-11-25, seed 3, 2,870 sentences):
below the first, precision and recall of *unsupported* on wrong passages are about equal; from the second, no more than
about one wrong passage in a hundred is called supported. The figures of the other half are in the bench's table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rag_service.answering.verification.disagreement import faults
from rag_service.answering.verification.reading import MOST_CHARACTERS, ReadPassage, plain, read_passage, runs, texts_of
from rag_service.answering.verification.scope import MOST_SENTENCES, Scope, quoted, scope_of
from rag_service.answering.verification.tokens import MOST_TOKENS, Reading, read
from rag_service.ports import Entailment, TextEmbedder, Vectors
from rag_service.text import language_of
from rag_service.types import Language, Passage, Verdict

UNSUPPORTED_BELOW, SUPPORTED_FROM = 0.53, 0.62
"""Of `Scope.content`, where sentence and passage are of one language, …"""
UNSUPPORTED_BELOW_ACROSS, SUPPORTED_FROM_ACROSS = 0.48, 0.62
"""… and where they are of two."""
FAULTY_SCORE = 0.3
"""What a sentence with a fault keeps of its content score."""
CONTRADICTED_FROM, ENTAILED_FROM = 0.8, 0.8
"""Probabilities from which an entailment model, where there is one, overrules; not measured, the models differ."""


@dataclass(frozen=True, slots=True)
class Support:
    """`text[start:end]` of `passages[passage]` are the one to three adjacent whole sentences that support best.

    `score` is in [0, 1]. `faults` say what stands against it; they are empty where a sentence is unsupported because
    too little of it is said.
    """

    passage: int
    start: int
    end: int
    verdict: Verdict
    score: float
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Read:
    """The passages of one answer, read and embedded."""

    passages: tuple[ReadPassage, ...]
    texts: tuple[str, ...]


class Verifier:
    def __init__(self, embedder: TextEmbedder, entailment: Entailment | None = None) -> None:
        self._embedder = embedder
        self._entailment = entailment

    def read(self, passages: Sequence[Passage], language: Language) -> Read:
        """Embeds what the passages say, in one batch. `language` is that of the sentences to come: only passages of
        another one are embedded clause by clause as well."""
        texts = [texts_of(passage, clauses_too=passage.language != language) for passage in passages]
        every = [text for one in texts for text in one]
        vectors = self._embedder.embed(every) if every else np.zeros((0, self._embedder.dimensions), np.float32)
        parts = np.split(vectors, np.cumsum([len(one) for one in texts], dtype=int)[:-1]) if passages else []
        read_passages = tuple(read_passage(p, t, v) for p, t, v in zip(passages, texts, parts, strict=True))
        return Read(read_passages, tuple(passage.text for passage in passages))

    def check(self, sentence: str, given: Read, cited: Sequence[int]) -> Support | None:
        """The best support among the cited passages, by index; citation marks are taken off `sentence` before.

        None where there is nothing to check: nothing cited, nothing said in what is cited, no word in the sentence.
        What it says of one passage does not depend on the others.
        """
        claim = _claim(sentence)
        said = [at for at in dict.fromkeys(cited) if given.passages[at].said]
        if not said or all(token.function for token in claim.reading.tokens):
            return None
        vector = self._embedder.embed([claim.text])[0]
        found = [self._support(claim, vector, at, given) for at in said]
        return max(found, key=lambda support: (_RANK[support.verdict], support.score))

    def _support(self, claim: _Claim, vector: Vectors, at: int, given: Read) -> Support:
        passage = given.passages[at]
        copied = _copied(claim.plain, passage)
        if copied is not None:
            first, last = copied
            return Support(at, passage.said[first].start, passage.said[last - 1].end, "supported", 1.0, ())
        scope = scope_of(claim.reading, claim.language, vector, passage)
        against = tuple(dict.fromkeys(faults(claim.reading, claim.language, scope, passage)))
        first, last = quoted(scope)
        start, end = passage.said[first].start, passage.said[last - 1].end
        verdict = _verdict(scope, bool(against), claim.whole)
        if self._entailment is not None and not against:
            judged = self._entailment.judge(given.texts[at][start:end], claim.text)
            verdict, against = _overruled(verdict, *judged)
        score = scope.content * (FAULTY_SCORE if against else 1.0)
        return Support(at, start, end, verdict, round(score, 4), against)


_RANK: dict[Verdict, int] = {"supported": 2, "weak": 1, "unsupported": 0}


@dataclass(frozen=True, slots=True)
class _Claim:
    text: str
    plain: str
    reading: Reading
    language: Language
    whole: bool
    """False where it was too long to be read to its end."""


def _claim(sentence: str) -> _Claim:
    stripped = sentence.strip()
    text = stripped[:MOST_CHARACTERS]
    reading = read(text)
    whole = len(stripped) <= MOST_CHARACTERS and len(reading.tokens) < MOST_TOKENS
    return _Claim(text, plain(sentence), reading, language_of(text), whole)


def _copied(bare: str, passage: ReadPassage) -> tuple[int, int] | None:
    """The run of adjacent sentences, as an index range, that a claim is letter by letter, if it is one."""
    for first, last in runs(passage.said, MOST_SENTENCES):
        joined = "".join(one.plain for one in passage.said[first:last])
        if bare and bare == joined:
            return first, last
    return None


def _verdict(scope: Scope, faulty: bool, whole: bool) -> Verdict:
    floor, safe = UNSUPPORTED_BELOW, SUPPORTED_FROM
    if scope.across:
        floor, safe = UNSUPPORTED_BELOW_ACROSS, SUPPORTED_FROM_ACROSS
    if faulty or scope.content < floor:
        return "unsupported"
    return "supported" if scope.content >= safe and whole else "weak"


def _overruled(verdict: Verdict, entailed: float, contradicted: float) -> tuple[Verdict, tuple[str, ...]]:
    """An entailment model may find a contradiction, or lift by one step what the rules found too loose. It is not asked
    about a sentence with a fault: numbers and names are what such models are worst at."""
    if contradicted >= CONTRADICTED_FROM:
        return "unsupported", ("contradicted, says the entailment model",)
    if entailed >= ENTAILED_FROM:
        return ("weak" if verdict == "unsupported" else "supported"), ()
    return verdict, ()
