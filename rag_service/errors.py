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
