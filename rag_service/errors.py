"""One root for everything Youju refuses or fails at, each with a stable `code` and its data.

No HTTP status here: `rag_service.api.problems` maps codes to statuses, the CLI prints them.
"""

from __future__ import annotations

from typing import ClassVar

Value = str | int | float | bool | None
Data = dict[str, Value | list[str]]


class YoujuError(Exception):
    """Root. `code` is stable and machine-readable, `title` is one for a code, `detail` says what happened here."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, **data: Value | list[str]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.data: Data = dict(data)


class NotFound(YoujuError):
    """Also raised for ids of other tenants: the two must not be told apart."""

    code = "not-found"
    title = "Not found"


class NameTaken(YoujuError):
    code = "name-taken"
    title = "Name already taken"


class ContentTaken(YoujuError):
    """A document cannot get bytes that another document of the knowledge base has; that one's id is in the data."""

    code = "content-taken"
    title = "Another document has these bytes"


class KeyReused(YoujuError):
    """An `Idempotency-Key` came again with another request."""

    code = "idempotency-key-reused"
    title = "Idempotency key already used for another request"


class VersionRequired(YoujuError):
    """A change needs an `If-Match` with the version it is meant for."""

    code = "version-required"
    title = "Say which version is to be replaced"


class VersionChanged(YoujuError):
    """What was to be replaced has been replaced since; the present `etag` is in the data."""

    code = "version-changed"
    title = "The document has changed since"


class InvalidInput(YoujuError):
    code = "invalid-input"
    title = "Invalid input"


class Unauthenticated(YoujuError):
    code = "unauthenticated"
    title = "A valid API key is needed"


class UnsupportedType(YoujuError):
    code = "unsupported-type"
    title = "Unsupported or untrue media type"


class BodyTooLarge(YoujuError):
    code = "body-too-large"
    title = "Request body too large"


class Overloaded(YoujuError):
    """The service is full; `retry_after_seconds` is in the data."""

    code = "overloaded"
    title = "Server full"


class PromptTooLarge(YoujuError):
    """Instructions and question alone do not fit beside the reply; the sizes are in the data."""

    code = "prompt-too-large"
    title = "The question does not fit into the model's window"


class GeneratorUnavailable(YoujuError):
    """The generator cannot be reached, refused to work, or its circuit breaker is open."""

    code = "generator-unavailable"
    title = "The generator is not available"


class GeneratorTimeout(YoujuError):
    """Which of the time limits passed is in the data as `limit`, its length as `seconds`."""

    code = "generator-timeout"
    title = "The generator took too long"


class GenerationFailed(YoujuError):
    """The generator broke off or answered with something that is no reply."""

    code = "generation-failed"
    title = "The generator failed"


class EmbedderUnavailable(YoujuError):
    """The embedding server cannot be reached, refused to work, or its circuit breaker is open."""

    code = "embedder-unavailable"
    title = "The embedder is not available"


class EmbedderTimeout(YoujuError):
    """Which of the time limits passed is in the data as `limit`, its length as `seconds`."""

    code = "embedder-timeout"
    title = "The embedder took too long"


class EmbeddingFailed(YoujuError):
    """The embedder answered with something that is not one usable vector a text; `reason` in the data says what."""

    code = "embedding-failed"
    title = "The embedder failed"


class WrongDimensions(YoujuError):
    """Vectors of another length than the generation that they are meant for has, or a question's; both lengths are in
    the data."""

    code = "wrong-dimensions"
    title = "Vectors of the wrong length"


class EmbedderChanged(YoujuError):
    """Something was embedded by what is no longer the knowledge base's embedder, and has to be embedded anew."""

    code = "embedder-changed"
    title = "The embedder has changed since"


class EmbedderChanging(YoujuError):
    """One change at a time; the id of the job that makes the present one is in the data."""

    code = "embedder-changing"
    title = "The embedder is being changed already"


class VectorsForgotten(YoujuError):
    """What answered then can answer no more: its vectors have been dropped since."""

    code = "vectors-forgotten"
    title = "The vectors of that time are gone"


class RerankingFailed(YoujuError):
    """The reranker answered with something that is not one score a text."""

    code = "reranking-failed"
    title = "The reranker failed"


class ModelNotFetched(YoujuError):
    """A model's file could not be fetched, or is not the one that was asked for."""

    code = "model-not-fetched"
    title = "The model could not be fetched"


class StorageFull(YoujuError):
    code = "storage-full"
    title = "No space left in the data folder"


class BlobMissing(YoujuError):
    code = "blob-missing"
    title = "Stored bytes are missing or damaged"


class IndexDamaged(YoujuError):
    """A segment file is missing or does not have its recorded hash; never leaves the index room unhealed."""

    code = "index-damaged"
    title = "Index segment damaged"


class SchemaOutdated(YoujuError):
    code = "schema-outdated"
    title = "Database schema does not match this version"


class InvalidConfiguration(YoujuError):
    code = "invalid-configuration"
    title = "Invalid configuration"


class ParseFailed(YoujuError):
    """A document that cannot become text. `reason` is one of the codes in `ingest.parsers`; it ends as a
    `failed` document with this problem, never as a shorter document."""

    code = "parse-failed"
    title = "The document could not be read"

    def __init__(self, reason: str, detail: str, **data: Value | list[str]) -> None:
        super().__init__(detail, reason=reason, **data)
        self.reason = reason


class LeaseLost(YoujuError):
    """Another worker has claimed the item since; whatever this worker did for it must not be published."""

    code = "lease-lost"
    title = "Lease lost"


class RevisionMoved(YoujuError):
    """A knowledge base changed while it was being evaluated: figures of two revisions would be mixed."""

    code = "revision-moved"
    title = "The knowledge base changed during the run"


class EvaluationFailed(YoujuError):
    """An evaluation run cannot be done or was broken off."""

    code = "evaluation-failed"
    title = "The evaluation failed"


class Interrupted(YoujuError):
    """A run whose process ended before it did."""

    code = "interrupted"
    title = "Interrupted by a restart"
