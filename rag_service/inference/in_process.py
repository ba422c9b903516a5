"""Embedders that work in the process that opens them, by name. Light to import: what is heavy is with the one named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rag_service.errors import InvalidConfiguration
from rag_service.inference.extras import optional
from rag_service.inference.use_multilingual import UseMultilingual, UseMultilingualTokens
from rag_service.ports import Embedder, TokenCounter


def kind_of(name: str) -> str:
    return name.partition(":")[0]


def target_of(name: str) -> str:
    """What follows the kind: a model, a directory, an address."""
    return name.partition(":")[2]


def open_in_process(name: str, models: Path) -> Embedder:
    """`models` is the folder of fetched models. Raises InvalidConfiguration, and for LangChain's also
    EmbedderUnavailable and EmbeddingFailed."""
    openers: dict[str, Callable[[], Embedder]] = {
        "use-multilingual": UseMultilingual,
        "use-multilingual-onnx": lambda: _onnx(models),
        "sentence-transformers": lambda: _sentence_embedder(target_of(name)),
        "langchain": lambda: _langchain(target_of(name)),
    }
    opener = openers.get(kind_of(name))
    if opener is None:
        raise InvalidConfiguration(f"there is no embedder {name!r}", embedder=name)
    return opener()


def dimensions_known(name: str) -> int | None:
    """Of an embedder that always has the same, without opening it."""
    return UseMultilingual.dimensions if kind_of(name) in ("use-multilingual", "use-multilingual-onnx") else None


def open_tokens(name: str) -> TokenCounter:
    """What texts are measured with before they are embedded: the embedder's own tokenizer where it has one on this
    machine, else that of `use-multilingual`. Raises InvalidConfiguration."""
    if kind_of(name) != "sentence-transformers":
        return UseMultilingualTokens()
    room = optional("rag_service.inference.sentence_tokens", "sentence-transformers")
    counter: TokenCounter | None = room.tokens_of(target_of(name))
    return counter or UseMultilingualTokens()


def _onnx(models: Path) -> Embedder:
    opened: Embedder = optional("rag_service.inference.use_multilingual_onnx", "onnx").UseMultilingualOnnx(models)
    return opened


def _sentence_embedder(model: str) -> Embedder:
    room = optional("rag_service.inference.sentence_embedder", "sentence-transformers")
    opened: Embedder = room.SentenceEmbedder(model)
    return opened


def _langchain(target: str) -> Embedder:
    opened: Embedder = optional("rag_service.inference.langchain_embedder", "langchain").imported(target)
    return opened
