"""The lexical leg of a base: BM25 over pre-tokenised text in a tantivy folder that is written once and then read.

Text is cut by `rag_service.text.index_terms`, joined with spaces and split again by tantivy's "whitespace"
tokenizer, so that base and tail index the same terms. Positions and stored text are left out: nothing reads them.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import tantivy
from numpy.typing import NDArray

from rag_service.errors import IndexDamaged
from rag_service.index.bm25 import Integers, WeightedLeg
from rag_service.ports import IndexRow
from rag_service.text import index_terms
from rag_service.types import EVERYTHING, PassageFilter

# Enough for about 100,000 chunks in one segment before tantivy has to spill and merge.
_WRITER_HEAP_BYTES = 256_000_000
_PROBE_BYTES = 1 << 20


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("id", stored=False, indexed=True, fast=True)
    builder.add_text_field("body", stored=False, tokenizer_name="whitespace", index_option="freq")
    for attribute in ("document_id", "language", "media_type"):
        builder.add_text_field(attribute, stored=False, tokenizer_name="raw", index_option="basic")
    builder.add_float_field("created_at", stored=False, indexed=False, fast=True)
    return builder.build()


class LexicalWriter:
    """Writes one lexical folder: `add` every chunk, then `finish`, inside a `with`. Raises OSError (a full disk too).

    Leaving the `with` lets go of tantivy's writer, which waits for its thread: the folder can then be removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        index = tantivy.Index(_schema(), path=str(folder))
        self._writer = index.writer(heap_size=_WRITER_HEAP_BYTES, num_threads=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        del self._writer

    def add(self, row: IndexRow) -> int:
        """Index one chunk; how many terms it has."""
        terms, attributes = index_terms(row.text), row.attributes
        document = tantivy.Document()
        # Document(id=…) would make it a signed number, which an unsigned field refuses.
        document.add_unsigned("id", row.chunk_id)
        document.add_text("body", " ".join(terms))
        document.add_text("document_id", attributes.document_id)
        document.add_text("language", attributes.language)
        document.add_text("media_type", attributes.media_type)
        document.add_float("created_at", attributes.created_at)
        try:
            self._writer.add_document(document)
        except ValueError as error:
            raise self._stopped(error) from error
        return len(terms)

    def finish(self) -> None:
        try:
            self._writer.commit()
            self._writer.wait_merging_threads()
        except ValueError as error:
            raise self._stopped(error) from error

    def _stopped(self, error: ValueError) -> OSError:
        """tantivy only says that its writer "was killed". Whether the disk is full is asked of the disk."""
        try:
            with open(self._folder / "probe", "wb") as probe:
                probe.write(bytes(_PROBE_BYTES))
                os.fsync(probe.fileno())
        except OSError as full:
            return full
        return OSError(errno.EIO, f"tantivy could not write: {error}")


class LexicalBase:
    """A read-only tantivy index. `tokens` is the number of terms in all its chunks."""

    def __init__(self, index: tantivy.Index, tokens: int) -> None:
        self._schema = index.schema
        self._searcher = index.searcher()
        self.chunks: int = self._searcher.num_docs
        self.average_length = tokens / self.chunks if self.chunks else 0.0

    @classmethod
    def opened(cls, folder: Path, tokens: int) -> LexicalBase:
        """Maps the files into memory: they may be unlinked or renamed afterwards, but never rewritten in place."""
        try:
            return cls(tantivy.Index.open(str(folder)), tokens)
        except (ValueError, OSError) as error:
            raise IndexDamaged(f"tantivy cannot open {folder}: {error}", file=str(folder)) from error

    @classmethod
    def empty(cls) -> LexicalBase:
        return cls(tantivy.Index(_schema()), 0)

    def frequencies(self, terms: Sequence[str]) -> Integers:
        """In how many chunks each term occurs."""
        doc_freq = self._searcher.doc_freq
        return np.array([doc_freq("body", term) for term in terms], dtype=np.int64)

    def search(
        self, terms: Sequence[str], leg: WeightedLeg, k: int, only: PassageFilter = EVERYTHING
    ) -> tuple[Integers, NDArray[np.float64]]:
        """The `k` best of the chunks that have any way and that `only` lets through, best first, scores not yet divided
        by `leg.most`.

        `terms` are those that the leg's numbers count.
        """
        clauses = self._clauses(terms, leg)
        if not clauses:
            return np.empty(0, dtype=np.int64), np.empty(0)
        return self._found(self._narrowed(clauses, only), min(k, self.chunks))

    def search_and_score(
        self, terms: Sequence[str], leg: WeightedLeg, k: int, ids: Collection[int], only: PassageFilter = EVERYTHING
    ) -> tuple[Integers, NDArray[np.float64], dict[int, float]]:
        """`search`, and `scores_of` those `ids`, which `only` must let through.

        Either reads all postings of the terms; this reads them once. The ids come first, by a bonus that no score
        reaches, and get it off again, which leaves scores exact to some ten-millionths of `leg.most`.
        """
        clauses = self._clauses(terms, leg)
        if not clauses or not ids:
            return *self.search(terms, leg, k, only), {}
        bonus = 2.0 ** math.ceil(math.log2(leg.most))
        wanted = tantivy.Query.const_score_query(self._any_of(ids), bonus)
        query = self._narrowed([*clauses, (tantivy.Occur.Should, wanted)], only)
        found, scores = self._found(query, min(k + len(ids), self.chunks))
        is_wanted = scores >= bonus
        # All through the sum of 32 bits that those with the bonus went through: equals stay equal, the older first.
        raised = np.where(is_wanted, scores, scores.astype(np.float32) + np.float32(bonus))
        scores = raised - bonus
        of_ids = dict(zip(found[is_wanted].tolist(), scores[is_wanted].tolist(), strict=True))
        found, scores = found[scores > 0.0], scores[scores > 0.0]
        best = np.lexsort((found, -scores))[:k]
        return found[best], scores[best], of_ids

    def scores_of(self, terms: Sequence[str], leg: WeightedLeg, ids: Sequence[int]) -> dict[int, float]:
        """Scores of `ids`, 0 of those that have no way, not yet divided by `leg.most`; nothing where the leg asks for
        nothing that is here."""
        clauses = self._clauses(terms, leg)
        if not clauses or not ids:
            return {}
        query_over_ids = tantivy.Query.boolean_query([(tantivy.Occur.Must, _unscored(self._any_of(ids))), *clauses])
        found, scores = self._found(query_over_ids, len(ids))
        return dict(zip(found.tolist(), scores.tolist(), strict=True))

    def chunk_ids(self) -> Integers:
        """Every chunk in this base, in no order: for verification."""
        if not self.chunks:
            return np.empty(0, dtype=np.int64)
        return self._found(tantivy.Query.all_query(), self.chunks)[0]

    def _clauses(self, terms: Sequence[str], leg: WeightedLeg) -> list[tuple[tantivy.Occur, tantivy.Query]]:
        """One a concept: its only way, or the best of its ways."""
        ways: dict[int, list[tantivy.Query]] = {}
        for concept, term, boost in zip(
            leg.concepts.tolist(), leg.terms.tolist(), leg.base_boosts.tolist(), strict=True
        ):
            if boost > 0.0:
                # index_option="freq" makes tantivy read term frequencies; "basic" would score every tf as 1.
                asked = tantivy.Query.boost_query(self._term("body", terms[term], "freq"), boost)
                ways.setdefault(concept, []).append(asked)
        return [(tantivy.Occur.Should, _best_of(asked)) for asked in ways.values()]

    def _any_of(self, ids: Iterable[int]) -> tantivy.Query:
        """A union of id terms, not term_set_query: that walks the term dictionary by automaton and took nine times as
        long."""
        return tantivy.Query.boolean_query([(tantivy.Occur.Should, self._term("id", one, "basic")) for one in ids])

    def _narrowed(self, clauses: list[tuple[tantivy.Occur, tantivy.Query]], only: PassageFilter) -> tantivy.Query:
        query, conditions = tantivy.Query.boolean_query(clauses), self._conditions(only)
        return _all_of([query, *map(_unscored, conditions)]) if conditions else query

    def _conditions(self, only: PassageFilter) -> list[tantivy.Query]:
        """What must all be so of a chunk."""
        one_of = (
            ("document_id", only.document_ids), ("language", only.languages), ("media_type", only.media_types),
        )  # fmt: skip
        conditions = [self._one_of(field, values) for field, values in one_of if values is not None]
        if only.created_from is not None:
            conditions.append(self._in_time(only.created_from, math.inf))
        if only.created_before is not None:
            conditions.append(self._in_time(-math.inf, only.created_before))
        return conditions

    def _one_of(self, field: str, values: Iterable[str]) -> tantivy.Query:
        should = tantivy.Occur.Should
        return tantivy.Query.boolean_query([(should, self._term(field, value, "basic")) for value in values])

    def _in_time(self, first: float, end: float) -> tantivy.Query:
        kind = tantivy.FieldType.Float
        return tantivy.Query.range_query(self._schema, "created_at", kind, first, end, True, False)

    def _term(self, field: str, value: str | int, index_option: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, field, value, index_option=index_option)

    def _found(self, query: tantivy.Query, k: int) -> tuple[Integers, NDArray[np.float64]]:
        hits = self._searcher.search(query, limit=k, count=False).hits
        ids = self._searcher.fast_field_values("id", [address for _, address in hits])
        return np.array(ids, dtype=np.int64), np.array([score for score, _ in hits], dtype=np.float64)


def _all_of(queries: Iterable[tantivy.Query]) -> tantivy.Query:
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in queries])


def _unscored(query: tantivy.Query) -> tantivy.Query:
    """The constant 0 keeps a condition from scoring."""
    return tantivy.Query.const_score_query(query, 0.0)


def _best_of(ways: list[tantivy.Query]) -> tantivy.Query:
    return ways[0] if len(ways) == 1 else tantivy.Query.disjunction_max_query(ways)
