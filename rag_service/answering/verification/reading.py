"""A passage as verification reads it: once per answer, however many sentences are checked against it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from rag_service.answering.verification import names
from rag_service.answering.verification.names import Known
from rag_service.answering.verification.quantities import normal
from rag_service.answering.verification.tokens import Reading, read
from rag_service.ports import Vectors
from rag_service.text import language_of, sentences
from rag_service.types import Language, Passage

MOST_CHARACTERS = 4_000
"""Of one sentence; what comes later is not read, so that hostile text costs linear time."""
_LEAD_IN = re.compile(r"(?:[-*+>•·#]+\s+|\d{1,3}[.)、](?!\d)\s*|\[[ x]\]\s+)+")


@dataclass(frozen=True, slots=True)
class Said:
    """`passage.text[start:end]`, a whole sentence."""

    start: int
    end: int
    reading: Reading
    language: Language
    plain: str
    """For comparing letter by letter: without list marks, white space, quotes and stops."""


@dataclass(frozen=True, slots=True)
class ReadPassage:
    """`vectors` is [len(said), d]; `about` are its headings and its file name, `context` their terms.

    `clause_vectors` is [clauses, d] and `clause_of` the sentence of each: none where only its own language is asked
    for.
    """

    said: tuple[Said, ...]
    vectors: Vectors
    clause_vectors: Vectors
    clause_of: tuple[int, ...]
    about: tuple[Reading, ...]
    context: frozenset[str]
    known: Known


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be embedded of a passage: its sentences, then clauses with the index of their sentence."""

    spans: tuple[tuple[int, int], ...]
    sentences: tuple[str, ...]
    clauses: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.sentences) + len(self.clauses)

    def __iter__(self) -> Iterator[str]:
        yield from self.sentences
        yield from (text for _, text in self.clauses)


def texts_of(passage: Passage, clauses_too: bool) -> Texts:
    """A short sentence that says one clause of a long one is far from the whole of it, so that across languages, where
    the vectors must decide, clauses are embedded as well."""
    spans = tuple(sentences(passage.text))
    texts = tuple(passage.text[start:end][:MOST_CHARACTERS] for start, end in spans)
    clauses = tuple((at, clause) for at, text in enumerate(texts) for clause in _clauses(text)) if clauses_too else ()
    return Texts(spans, texts, clauses)


def read_passage(passage: Passage, texts: Texts, vectors: Vectors) -> ReadPassage:
    """`vectors` is [len(texts), d], in the order of `texts`."""
    said = tuple(_said(passage.text, start, end) for start, end in texts.spans)
    about = tuple(read(text[:MOST_CHARACTERS]) for text in (*passage.headings, PurePath(passage.filename).stem))
    context = frozenset(term for reading in about for term in reading.terms)
    whole, parts = vectors[: len(said)], vectors[len(said) :]
    known = names.known([one.reading for one in said], about)
    return ReadPassage(said, whole, parts, tuple(at for at, _ in texts.clauses), about, context, known)


_CLAUSE_END = re.compile(r"(?<=[，；：;])\s*|(?<=[,:])\s+|\s+(?=[(（–—])|(?<=[)）])\s*")
_MOST_CLAUSES = 8
_SHORTEST_CLAUSE = 8
"""In characters; English ones are three times as long."""


def _clauses(sentence: str) -> Iterator[str]:
    """Single clauses and pairs of neighbours, none of them the whole sentence."""
    pieces = [piece for piece in _CLAUSE_END.split(sentence) if piece][:_MOST_CLAUSES]
    shortest = _SHORTEST_CLAUSE * (1 if language_of(sentence) == "zh" else 3)
    for size in (1, 2):
        for first in range(len(pieces) - size + 1 if len(pieces) > size else 0):
            text = " ".join(pieces[first : first + size]).strip()
            if len(text) >= shortest:
                yield text


def plain(text: str) -> str:
    lead_in = _LEAD_IN.match(text)
    bare = normal(text[lead_in.end() if lead_in else 0 :])
    return _STOPS.sub("", "".join(bare.split())).casefold()


_STOPS = re.compile(r"[。!?;…\"'“”‘’「」『』*]+|\.(?![0-9])")


def runs(said: Sequence[Said], longest: int) -> Iterator[tuple[int, int]]:
    """Index ranges of one to `longest` adjacent sentences."""
    for size in range(1, longest + 1):
        for first in range(len(said) - size + 1):
            yield first, first + size


def _said(text: str, start: int, end: int) -> Said:
    sentence = text[start:end][:MOST_CHARACTERS]
    return Said(start, end, read(sentence), language_of(sentence), plain(text[start:end]))
