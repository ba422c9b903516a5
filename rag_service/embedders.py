"""The embedder and the reranker that the settings name, opened; for the service and for its workers."""

from __future__ import annotations

import importlib
from typing import Protocol

from rag_service.config import Settings
from rag_service.inference.extras import optional
from rag_service.inference.in_process import kind_of, open_in_process, target_of
from rag_service.ports import Closing, Embedder, Ready, Reranker


class RemoteEmbedder(Embedder, Ready, Closing, Protocol):
    """A server's; this process only asks."""


def open_embedder(name: str, settings: Settings) -> Embedder:
    """`name` is one that the setting `embedder` may have. Loads the model, or asks the server for one vector.

    Raises InvalidConfiguration; for a server also EmbedderUnavailable, EmbedderTimeout, EmbeddingFailed, Overloaded.
    """
    if is_remote(name):
        return open_remote(name, settings)
    return open_in_process(name, settings.model_folder)


def is_remote(name: str) -> bool:
    """Whether a server does the work, so that there is nothing to load."""
    return kind_of(name) == "openai"


def open_remote(name: str, settings: Settings) -> RemoteEmbedder:
    """Raises as `open_embedder` does."""
    # Imported where it is named: the HTTP library is seven megabytes of every worker that needs none.
    server = importlib.import_module("rag_service.inference.embeddings_server")
    room = importlib.import_module("rag_service.inference.openai_embedder")
    # What the settings say of one server is not told to another.
    same_server = _server_of(name) == _server_of(settings.embedder)
    key = settings.embedder_api_key if same_server else None
    opened: RemoteEmbedder = room.OpenAIEmbedder(
        target_of(name),
        api_key=key.get_secret_value() if key else None,
        limits=server.EmbeddingLimits(
            connect_seconds=settings.embedder_connect_seconds,
            total_seconds=settings.embedder_seconds,
            batch_texts=settings.embedder_batch_texts,
        ),
        dimensions=settings.embedder_dimensions if name == settings.embedder else None,
    )
    return opened


def _server_of(name: str) -> str:
    return target_of(name).partition("#")[0]


def open_reranker(settings: Settings) -> Reranker | None:
    """None: passages are ranked by what they say, without a model. Raises InvalidConfiguration."""
    if settings.reranker == "none":
        return None
    room = optional("rag_service.inference.cross_encoder", "sentence-transformers")
    opened: Reranker = room.CrossEncoderReranker(target_of(settings.reranker))
    return opened
