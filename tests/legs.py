"""What the lexical legs of an index are asked, for tests that do not begin with a question."""

from __future__ import annotations

from collections.abc import Sequence

from rag_service.ports import Asked, Attributes, IndexQuery, Vector
from rag_service.retrieval.concepts import words_asked
from rag_service.types import Concept, Way

SOME_TEXT = Attributes("d", "en", "text/plain", 0.0)
"""What filters ask of a chunk where none is asked."""


def one_way(*terms: str) -> tuple[Concept, ...]:
    """Concepts that are said in one way of one term each: plain BM25 over the distinct `terms`."""
    return tuple(Concept((Way((term,)),)) for term in dict.fromkeys(terms))


def always(query: IndexQuery) -> Asked:
    """The question as it is, whoever is to embed it."""
    return lambda embedder: query


def in_words(vector: Vector, question: str) -> IndexQuery:
    """What a question asks for in its own words, with `vector` for its meaning."""
    return IndexQuery(vector, words_asked(question))


class NoTranslations:
    """A dictionary of no words."""

    def english(self, words: Sequence[str]) -> dict[str, list[tuple[str, ...]]]:
        return {}

    def chinese(self, phrases: Sequence[str], most: int) -> dict[str, list[tuple[str, int]]]:
        return {}
