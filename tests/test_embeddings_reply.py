"""What an embedder's answer must be: bytes to rows to unit vectors, and every way of not being that."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rag_service.errors import EmbeddingFailed
from rag_service.inference.embeddings_reply import rows_of
from rag_service.inference.prefixes import prefixes_of
from rag_service.inference.unit_vectors import unit_vectors

NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
MATRICES = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 8)), elements=NUMBERS)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["data", "embedding", "index", "object"]), inner, max_size=3
    ),
    max_leaves=12,
)  # fmt: skip


def body(entries: Any, **members: Any) -> bytes:
    return json.dumps({"object": "list", "data": entries, **members}).encode()


def reason(content: bytes, texts: int = 1) -> object:
    with pytest.raises(EmbeddingFailed) as raised:
        rows_of(content, texts)
    return raised.value.data["reason"]


@given(MATRICES, st.randoms(use_true_random=False), st.booleans())
def test_rows_come_in_the_order_of_the_texts_in_either_encoding(matrix: np.ndarray, random: Any, packed: bool) -> None:
    def encoded(row: np.ndarray) -> object:
        return base64.b64encode(row.astype("<f4").tobytes()).decode() if packed else row.tolist()

    entries = [{"index": at, "embedding": encoded(row)} for at, row in enumerate(matrix)]
    random.shuffle(entries)
    np.testing.assert_array_equal(rows_of(body(entries), len(matrix)), matrix)


def test_a_server_may_leave_the_indexes_out() -> None:
    assert rows_of(body([{"embedding": [1, 2]}, {"embedding": [3, 4.5]}]), 2).tolist() == [[1, 2], [3, 4.5]]


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([], "count"),
        ([{"index": 0, "embedding": [1.0]}], "count"),
        ([{"index": n, "embedding": [1.0]} for n in range(3)], "count"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}], "index"),
        ([{"index": 1, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}], "index"),
        ([{"index": 0, "embedding": [1.0]}, {"embedding": [1.0]}], "index"),
        ([{"index": [], "embedding": [1.0]}, {"index": 1, "embedding": [1.0]}], "index"),
        ([{"index": True, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}], "index"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}], "dimensions"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [None]}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": []}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [True]}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "AAA"}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": "AAAA"}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": ""}], "not-numbers"),
        ([{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [10**400]}], "not-finite"),
    ],
)  # fmt: skip
def test_what_is_not_one_vector_a_text_is_refused_with_its_reason(entries: Any, why: str) -> None:
    assert reason(body(entries), 2) == why


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"", "not-json"), (b"<html>", "not-json"), (b"[" * 100_000, "not-json"), (b"\xff", "not-json"),
     (b"[]", "no-data"), (b"{}", "no-data"), (b'{"data": 3}', "no-data"), (b'{"data": [3]}', "no-data")],
)  # fmt: skip
def test_what_is_no_reply_is_refused_and_shown(content: bytes, why: str) -> None:
    assert reason(content) == why


@given(ANY_JSON, st.integers(1, 3))
def test_no_reply_breaks_the_reader(reply: object, texts: int) -> None:
    try:
        rows = rows_of(json.dumps(reply).encode(), texts)
    except EmbeddingFailed:
        return
    assert rows.shape[0] == texts


@given(MATRICES)
def test_vectors_have_unit_length_or_are_refused(matrix: np.ndarray) -> None:
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)
    if lengths.min() < 1e-12:
        with pytest.raises(EmbeddingFailed, match="no measurable length"):
            unit_vectors(matrix, len(matrix), matrix.shape[1], "e")
        return
    unit = unit_vectors(matrix, len(matrix), matrix.shape[1], "e")
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(unit * lengths[:, None], matrix, rtol=1e-5, atol=lengths.max() * 1e-6)


@pytest.mark.parametrize(
    ("rows", "why"),
    [([[1.0, 2.0]], "count"), ([[1.0], [2.0]], "dimensions"), ([[1.0, 2.0], [float("nan"), 1.0]], "not-finite"),
     ([[1.0, 2.0], [float("inf"), 1.0]], "not-finite"), ([[1.0, 2.0], [0.0, 0.0]], "no-direction"),
     ([[1.0, 2.0], [1e308, 1e308]], "no-direction"), ([1.0, 2.0], "count")],
)  # fmt: skip
def test_what_has_no_direction_of_the_right_dimensions_is_refused(rows: Any, why: str) -> None:
    with pytest.raises(EmbeddingFailed) as raised:
        unit_vectors(np.array(rows), 2, 2, "e")
    assert raised.value.data["reason"] == why
    assert raised.value.data["embedder"] == "e"


@pytest.mark.parametrize(
    ("model", "query", "passage"),
    [
        ("intfloat/multilingual-e5-large", "query: ", "passage: "),
        ("e5-small-v2", "query: ", "passage: "),
        ("/models/multilingual-e5-base/", "query: ", "passage: "),
        ("BAAI/bge-large-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
        ("BAAI/bge-small-en-v1.5", "Represent this sentence for searching relevant passages: ", ""),
        ("BAAI/bge-m3", "", ""),
        ("sentence-transformers/all-MiniLM-L6-v2", "", ""),
        ("someone/note5-model", "", ""),
        ("e5/other", "", ""),
    ],
)
def test_a_familys_prefixes_go_by_the_models_name(model: str, query: str, passage: str) -> None:
    assert (prefixes_of(model).query, prefixes_of(model).passage) == (query, passage)


def test_an_instructed_model_is_instructed() -> None:
    prefixes = prefixes_of("intfloat/multilingual-e5-large-instruct")
    assert prefixes.query.startswith("Instruct: ")
    assert prefixes.passage == ""
