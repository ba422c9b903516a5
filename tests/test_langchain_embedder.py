"""Any LangChain `Embeddings`, handed in or named: questions and documents are told apart, faults get their names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("langchain_core", reason="needs the extra [langchain]")

from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings

from ingest.embedding import EmbeddingProcess
from rag_service import config
from rag_service.embedders import open_embedder
from rag_service.errors import EmbedderUnavailable, EmbeddingFailed, InvalidConfiguration, YoujuError
from rag_service.inference.langchain_embedder import LangChainEmbedder

TEXTS = [f"text {n}" for n in range(70)]
MODULE = """
from langchain_core.embeddings import DeterministicFakeEmbedding

ready = DeterministicFakeEmbedding(size=6)


def make():
    print("a library that talks on standard output")
    return ready


def wants(an_argument):
    return ready


number = 3


def none():
    return None
"""


class Worded(Embeddings):
    """One dimension for questions, one for documents, one for the length; batches are noted."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(len(texts))
        return [[0.0, 1.0, float(len(text))] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return [1.0, 0.0, float(len(text))]


class Broken(Worded):
    def __init__(self, answer: Any) -> None:
        super().__init__()
        self._answer = answer

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if isinstance(self._answer, Exception):
            raise self._answer
        answer: list[list[float]] = self._answer
        return answer


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module, here and in processes started from here."""
    (tmp_path / "teams_embeddings.py").write_text(MODULE, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "teams_embeddings", raising=False)
    return "teams_embeddings"


def test_vectors_are_the_embeddings_own_at_unit_length() -> None:
    fake = DeterministicFakeEmbedding(size=12)
    embedder = LangChainEmbedder(fake, "langchain:fake")
    wanted = np.array(fake.embed_documents(TEXTS))
    made = embedder.embed(TEXTS)
    assert (embedder.dimensions, made.shape, made.dtype) == (12, (70, 12), np.float32)
    np.testing.assert_allclose(made, wanted / np.linalg.norm(wanted, axis=1, keepdims=True), atol=1e-6)
    assert embedder.embed([]).shape == (0, 12)


def test_questions_and_documents_go_their_own_ways_in_batches() -> None:
    worded = Worded()
    embedder = LangChainEmbedder(worded, "langchain:worded")
    assert embedder.embed_query("four")[0] > 0.2
    assert embedder.embed(TEXTS)[:, 1].min() > 0.1
    assert worded.batches == [32, 32, 6]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ([[1.0, 2.0, 3.0]], EmbeddingFailed, "2 texts with 1 vectors"),
        ([[1.0, 2.0], [1.0, 2.0]], EmbeddingFailed, "2 dimensions"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, float("nan")]], EmbeddingFailed, "NaN"),
        ([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]], EmbeddingFailed, "zeros"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0]], EmbeddingFailed, "no vectors of numbers"),
        (None, EmbeddingFailed, "no vectors of numbers|answered"),
        (ValueError("the model said no"), EmbeddingFailed, "ValueError: the model said no"),
        (ConnectionRefusedError("nobody there"), EmbedderUnavailable, "nobody there"),
        (TimeoutError("too late"), EmbedderUnavailable, "too late"),
    ],
)
def test_a_fault_is_told_by_name(answer: Any, kind: type[YoujuError], words: str) -> None:
    embedder = LangChainEmbedder(Broken(answer), "langchain:broken")
    with pytest.raises(kind, match=words) as raised:
        embedder.embed(["one", "two"])
    assert "langchain:broken" in raised.value.detail


@pytest.mark.parametrize("name", ["ready", "make"])
def test_an_object_or_a_factory_may_be_named_in_the_settings(module: str, tmp_path: Path, name: str) -> None:
    setting = f"langchain:{module}:{name}"
    embedder = open_embedder(setting, config.load(data=tmp_path, embedder=setting))
    assert (embedder.name, embedder.dimensions) == (setting, 6)


def test_the_embedding_process_has_it_too(module: str) -> None:
    process = EmbeddingProcess(f"langchain:{module}:make")
    fake = DeterministicFakeEmbedding(size=6)
    try:
        assert process.dimensions == 6
        made, wanted = process.embed(TEXTS[:3]), LangChainEmbedder(fake, "same").embed(TEXTS[:3])
        np.testing.assert_array_equal(made, wanted)
    finally:
        process.close()


@pytest.mark.parametrize("name", ["nothing", "number", "none", "wants"])
def test_what_is_no_embeddings_is_refused_by_name(module: str, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidConfiguration, match=f"{module}:{name}"):
        open_embedder(f"langchain:{module}:{name}", config.load(data=tmp_path))
    with pytest.raises(InvalidConfiguration, match="no_such_module"):
        open_embedder("langchain:no_such_module:x", config.load(data=tmp_path))
