"""What the index knows of chunks for filters: held in arrays, and let through as brute force would."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.index.attributes import AttributeRows
from rag_service.ports import Attributes
from rag_service.types import EVERYTHING, PassageFilter

IDS = st.sampled_from(["a", "b", "ab", "文档", "0192f", "0192f0"])
LANGUAGES = st.sampled_from(["zh", "en"])
TYPES = st.sampled_from(["text/plain", "text/plain; charset=utf-8", "application/pdf"])
UPLOADED_AT = {"a": 0.0, "b": 1.5, "ab": 2.0, "文档": 2.5, "0192f": 1.7e9 + 0.001, "0192f0": 1.7e9}
TIMES = st.none() | st.sampled_from([-1.0, 0.0, 1.5, 1.7, 2.5, 1.7e9, 1.7e9 + 0.001, 2e9])
ROWS = st.lists(
    st.builds(lambda i, language, kind: Attributes(i, language, kind, UPLOADED_AT[i]), IDS, LANGUAGES, TYPES),
    max_size=12,
)
FILTERS = st.builds(
    PassageFilter,
    st.none() | st.frozensets(IDS | st.text(max_size=50)),
    st.none() | st.frozensets(LANGUAGES | st.just("fr")),
    st.none() | st.frozensets(TYPES | st.just("text")),
    TIMES,
    TIMES,
)


def lets_through(only: PassageFilter, row: Attributes) -> bool:
    sets = (
        (only.document_ids, row.document_id), (only.languages, row.language), (only.media_types, row.media_type),
    )  # fmt: skip
    first = only.created_from if only.created_from is not None else -np.inf
    end = only.created_before if only.created_before is not None else np.inf
    return all(wanted is None or value in wanted for wanted, value in sets) and first <= row.created_at < end


@given(st.lists(ROWS, min_size=1, max_size=5), FILTERS)
def test_what_is_let_through_is_what_brute_force_lets_through(
    parts: list[list[Attributes]], only: PassageFilter
) -> None:
    """Made at once, grown part by part, and read back from a file."""
    rows = [row for part in parts for row in part]
    expected = [lets_through(only, row) for row in rows]
    at_once, grown = AttributeRows.of(rows), AttributeRows.empty()
    for part in parts:
        grown = AttributeRows.joined([grown, AttributeRows.of(part)])
    joined = AttributeRows.joined([AttributeRows.of(part) for part in parts])
    for made in (at_once, grown, joined, AttributeRows.deserialised(joined.serialised())):
        assert len(made) == len(rows)
        assert made.let_through(only).tolist() == expected
        assert [made.of_row(n) for n in range(len(rows))] == rows


@given(ROWS)
def test_an_open_filter_lets_everything_through_and_the_mask_is_the_callers_own(rows: list[Attributes]) -> None:
    made = AttributeRows.of(rows)
    mask = made.let_through(EVERYTHING)
    assert mask.all()
    mask[:] = False
    assert made.let_through(EVERYTHING).all()


def test_an_earlier_value_is_left_as_it_was_when_more_comes_after_it() -> None:
    before = AttributeRows.of([Attributes("a", "zh", "text/plain", 1.0)])
    AttributeRows.joined([before, AttributeRows.of([Attributes("b", "en", "text/html", 2.0)] * 300)])
    assert len(before) == 1
    assert before.let_through(PassageFilter(languages=frozenset({"zh"}))).tolist() == [True]


@pytest.mark.parametrize("documents", [1, 255, 256, 257, 65_536, 65_537])
def test_any_number_of_documents_is_told_apart(documents: int) -> None:
    made = AttributeRows.of([Attributes(f"d{n}", "en", f"t/{n % 300}", float(n)) for n in range(documents)])
    last = documents - 1
    for only in (PassageFilter(document_ids=frozenset({f"d{last}"})), PassageFilter(created_from=float(last))):
        assert np.flatnonzero(made.let_through(only)).tolist() == [last]
    same_type = made.let_through(PassageFilter(media_types=frozenset({"t/0"})))
    assert np.flatnonzero(same_type).tolist() == [*range(0, documents, 300)]


def test_no_id_is_taken_for_one_that_begins_like_it() -> None:
    made = AttributeRows.of([Attributes("0192f0", "en", "t", 0.0)])
    for other in ("0192f", "0192f00", "0192F0", "", "0192f0" * 10):
        assert not made.let_through(PassageFilter(document_ids=frozenset({other}))).any()


def test_a_chunk_costs_a_few_bytes_and_no_object() -> None:
    rows = [Attributes(f"{n // 100:036d}", "en", "text/plain", float(n // 100)) for n in range(20_000)]
    tracemalloc.start()
    try:
        made = AttributeRows.of(rows)
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(made) == 20_000
    assert size < 8 * 20_000
