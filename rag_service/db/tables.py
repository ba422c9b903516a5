"""Every table, once. Times are seconds since the epoch as the database's own clock says (`now()`).

A chunk is live from `created_revision` until, if ever, `retired_revision`: the state of a knowledge base at revision r
is the chunks with `created_revision <= r` and (`retired_revision` null or `> r`). Chunk ids are never used again
(AUTOINCREMENT), so an index that is behind can name a chunk that is gone, never a wrong one.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    or_,
    text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class now(FunctionElement[float]):
    """The database's clock in seconds since the epoch: leases compare one clock, whatever the workers' clocks say."""

    type = Double()
    inherit_cache = True


@compiles(now, "sqlite")
def _now_sqlite(element: now, compiler: Any, **kw: Any) -> str:
    return "unixepoch('subsec')"


@compiles(now, "postgresql")
def _now_postgresql(element: now, compiler: Any, **kw: Any) -> str:
    return "extract(epoch from clock_timestamp())"


# SQLite only autoincrements INTEGER; PostgreSQL should not run out at 2^31.
BigId = BigInteger().with_variant(Integer(), "sqlite")


def _id() -> Column[str]:
    return Column("id", String(36), primary_key=True)


def _counted() -> Column[int]:
    return Column("id", BigId, primary_key=True, autoincrement=True)


def _to(target: str, name: str, **options: Any) -> Column[Any]:
    return Column(name, ForeignKey(target, ondelete="CASCADE"), nullable=False, **options)


def _created() -> Column[float]:
    return Column("created_at", Double, nullable=False)


knowledge_bases = Table(
    "knowledge_bases",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("description", Text, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("embedder", String(200), nullable=False),
    Column("compacting_until", Double),
    _created(),
    UniqueConstraint("tenant", "name"),
)

documents = Table(
    "documents",
    metadata,
    _id(),
    _to("knowledge_bases.id", "knowledge_base_id"),
    Column("filename", Text, nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("language", String(8)),
    Column("pages", Integer),
    Column("chunks", Integer, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("source_uri", Text),
    _created(),
    Column("updated_at", Double, nullable=False),
    Column("deleted_at", Double),
    CheckConstraint("state in ('queued', 'processing', 'ready', 'failed')", name="state"),
    # The same bytes are one document of a knowledge base, also when two uploads race.
    Index(
        "uq_documents_live_sha256",
        "knowledge_base_id",
        "sha256",
        unique=True,
        sqlite_where=text("deleted_at IS NULL"),
        postgresql_where=text("deleted_at IS NULL"),
    ),
    Index("ix_documents_sha256", "sha256"),
)

document_versions = Table(
    "document_versions",
    metadata,
    _counted(),
    _to("documents.id", "document_id"),
    Column("version", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("media_type", String(200), nullable=False),
    Column("pages", Integer),
    Column("parser", String(100), nullable=False),
    _created(),
    Column("filename", Text, nullable=False, server_default=""),
    # The last: SQLite reads all of it to come to what stands behind it.
    Column("text", Text, nullable=False),
    UniqueConstraint("document_id", "version"),
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    _counted(),
    _to("knowledge_bases.id", "knowledge_base_id"),
    _to("document_versions.id", "version_id"),
    Column("ordinal", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("char_start", Integer, nullable=False),
    Column("char_end", Integer, nullable=False),
    Column("page", Integer),
    Column("headings", JSON, nullable=False),
    Column("language", String(8), nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("created_revision", BigInteger, nullable=False),
    Column("retired_revision", BigInteger),
    UniqueConstraint("version_id", "ordinal"),
    Index(None, "knowledge_base_id", "created_revision"),
    Index(None, "knowledge_base_id", "retired_revision"),
    sqlite_autoincrement=True,
)


def was_live_at(revision: int) -> ColumnElement[bool]:
    return and_(
        chunks.c.created_revision <= revision,
        or_(chunks.c.retired_revision.is_(None), chunks.c.retired_revision > revision),
    )


# Two generations of one chunk's vectors can stand side by side.
vectors = Table(
    "vectors",
    metadata,
    Column("chunk_id", ForeignKey("chunks.id", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("embedder", String(200), primary_key=True),
    Column("vector", LargeBinary, nullable=False, comment="float16 little-endian, unit length before rounding"),
    Column("text_sha256", String(64), comment="of what was embedded: the chunk in its context"),
    Index(None, "text_sha256", "embedder", "chunk_id"),
)

# A knowledge base's vectors of one embedder: all of one length.
generations = Table(
    "generations",
    metadata,
    _to("knowledge_bases.id", "knowledge_base_id", primary_key=True),
    Column("embedder", String(200), primary_key=True),
    Column("dimensions", Integer, nullable=False),
    Column("answered", Boolean, nullable=False, comment="whether questions were ever answered by it"),
)

index_segments = Table(
    "index_segments",
    metadata,
    _id(),
    _to("knowledge_bases.id", "knowledge_base_id"),
    Column("revision", BigInteger, nullable=False),
    Column("chunks", BigInteger, nullable=False),
    Column("embedder", String(200), nullable=False),
    Column("files", JSON, nullable=False, comment="[{path, sha256, bytes}]"),
    _created(),
    Index(None, "knowledge_base_id", "revision"),
)

jobs = Table(
    "jobs",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    _to("knowledge_bases.id", "knowledge_base_id", index=True),
    Column("kind", String(32), nullable=False),
    _created(),
    Column("finished_at", Double),
)

job_items = Table(
    "job_items",
    metadata,
    _counted(),
    _to("jobs.id", "job_id", index=True),
    _to("documents.id", "document_id", index=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, comment="counted at claim"),
    Column("worker", String(200)),
    Column("lease_until", Double),
    Column("problem", JSON(none_as_null=True)),
    Column("token", BigInteger, nullable=False, server_default=text("0"), comment="raised at claim: fences effects"),
    Column("slow", Integer, nullable=False, server_default=text("0"), comment="1 once its parse outlasted its slice"),
    Column("knowledge_base_id", String(36), nullable=False, server_default=""),
    # What is to be ingested. The document has these only once the version is published.
    Column("filename", Text, nullable=False, server_default=""),
    Column("media_type", String(200), nullable=False, server_default=""),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
    Column("sha256", String(64), nullable=False, server_default="", index=True),
    CheckConstraint("state in ('queued', 'processing', 'ready', 'failed', 'cancelled')", name="state"),
    # What the claim looks for, by turns of knowledge bases, and nothing else: finished items cost it nothing.
    Index(
        "ix_job_items_open",
        "knowledge_base_id",
        "slow",
        "id",
        sqlite_where=text("state IN ('queued', 'processing')"),
        postgresql_where=text("state IN ('queued', 'processing')"),
    ),
    sqlite_autoincrement=True,
)

# Changes of a knowledge base's embedder: the queue of those to be made, and the history of those that were.
reembeddings = Table(
    "reembeddings",
    metadata,
    _to("jobs.id", "job_id", primary_key=True),
    _to("knowledge_bases.id", "knowledge_base_id"),
    Column("embedder", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("done", BigInteger, nullable=False, comment="live chunks that have a vector of the embedder"),
    Column("total", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, comment="claims since something was last stored"),
    Column("token", BigInteger, nullable=False, comment="raised at claim: fences effects"),
    Column("worker", String(200)),
    Column("lease_until", Double),
    Column("problem", JSON(none_as_null=True)),
    Column("replaced", String(200), comment="the embedder that answered before"),
    Column("revision", BigInteger, comment="the first that the embedder answered"),
    CheckConstraint("state in ('queued', 'processing', 'ready', 'failed', 'cancelled')", name="state"),
    # One at a time, also when two are asked for at once.
    Index(
        "uq_reembeddings_open",
        "knowledge_base_id",
        unique=True,
        sqlite_where=text("state IN ('queued', 'processing')"),
        postgresql_where=text("state IN ('queued', 'processing')"),
    ),
    Index(None, "knowledge_base_id", "revision"),
)

# Every worker that lives, and those that have died lately.
workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("started_at", Double, nullable=False),
    Column("heartbeat_at", Double, nullable=False),
)

# Files of mirrored folders: which document holds what stood at a path when it was last looked at.
mirrored_files = Table(
    "mirrored_files",
    metadata,
    _to("knowledge_bases.id", "knowledge_base_id", primary_key=True),
    Column("root", Text, primary_key=True, comment="absolute path of the mirrored folder"),
    Column("path", Text, primary_key=True, comment="below the root, parts joined by /"),
    _to("documents.id", "document_id", index=True),
    Column("sha256", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    Column("owned", Boolean, nullable=False, comment="whether mirroring put the document there, and may remove it"),
)

conversations = Table(
    "conversations",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False, index=True),
    Column("title", Text, nullable=False),
    Column("knowledge_base_ids", JSON, nullable=False),
    _created(),
)

answers = Table(
    "answers",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    _to("conversations.id", "conversation_id", index=True),
    Column("query", Text, nullable=False),
    Column("knowledge_base_ids", JSON, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("refusal", String(32)),
    Column("text", Text, nullable=False),
    Column("language", String(8), nullable=False),
    Column("generator", String(200), nullable=False),
    Column("revision", JSON, nullable=False),
    Column("usage", JSON, nullable=False),
    Column("timings_ms", JSON, nullable=False),
    Column("prompt_sha256", String(64)),
    _created(),
    Column("retrieval_query", Text, nullable=False, server_default=""),
    Column("asked_language", String(8)),
    Column(
        "reply",
        JSON(none_as_null=True),
        comment="a string: JSON holds U+0000 and lone surrogates, which TEXT does not everywhere",
    ),
    Column("sampling", JSON(none_as_null=True)),
    Column("history", JSON, nullable=False, server_default=text("'[]'")),
    Column("given", JSON, nullable=False, server_default=text("'[]'")),
    Column("base_revision", JSON, nullable=False, server_default=text("'{}'")),
    Column("retrieval_context", JSON, nullable=False, server_default=text("'{}'"), comment="term to weight"),
    # Newest refused question first, for each tenant; answered ones cost it nothing.
    Index(
        "ix_answers_refused",
        "tenant",
        "id",
        sqlite_where=text("outcome = 'refused'"),
        postgresql_where=text("outcome = 'refused'"),
    ),
)

# The refused questions of each knowledge base they were asked of. No foreign key to it: a refusal stays readable.
refusals = Table(
    "refusals",
    metadata,
    Column("knowledge_base_id", String(36), primary_key=True),
    _to("answers.id", "answer_id", primary_key=True, index=True),
)

messages = Table(
    "messages",
    metadata,
    _counted(),
    _to("conversations.id", "conversation_id"),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("answer_id", ForeignKey("answers.id", ondelete="CASCADE"), index=True),
    _created(),
    # Both ends of a conversation of any length are a few rows away.
    Index("ix_messages_conversation_id_id", "conversation_id", "id"),
    sqlite_autoincrement=True,
)

# Citations and shown passages keep ids without foreign keys: an answer stays readable after its documents are deleted.
citations = Table(
    "citations",
    metadata,
    _to("answers.id", "answer_id", primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("marker", Integer, nullable=False),
    Column("document_id", String(36), nullable=False, index=True),
    Column("document_version", Integer, nullable=False),
    Column("filename", Text, nullable=False),
    Column("chunk_id", BigInteger, nullable=False),
    Column("page", Integer),
    Column("headings", JSON, nullable=False),
    Column("char_start", Integer, nullable=False),
    Column("char_end", Integer, nullable=False),
    Column("quote", Text, nullable=False),
    Column("answer_start", Integer, nullable=False),
    Column("answer_end", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("score", Double, nullable=False),
)

answer_passages = Table(
    "answer_passages",
    metadata,
    _to("answers.id", "answer_id", primary_key=True),
    Column("rank", Integer, primary_key=True, autoincrement=False),
    Column("chunk_id", BigInteger, nullable=False),
    Column("document_id", String(36), nullable=False),
    Column("document_version", Integer, nullable=False),
    Column("dense", Double, nullable=False),
    Column("lexical", Double, nullable=False),
    Column("fused", Double, nullable=False),
    Column("rerank", Double),
)

packing_reports = Table(
    "packing_reports",
    metadata,
    _to("answers.id", "answer_id", primary_key=True),
    Column("report", JSON, nullable=False),
    Column("prompt_sha256", String(64), nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    _to("answers.id", "answer_id", primary_key=True),
    Column("rating", Integer, nullable=False),
    Column("comment", Text),
    Column("wrong_citations", JSON, nullable=False),
    _created(),
    CheckConstraint("rating in (-1, 1)", name="rating"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    Column("name", String(200), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True, comment="of the whole key; the key is never stored"),
    _created(),
    Column("revoked_at", Double),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("response", JSON, nullable=False),
    _created(),
    # Every request with a key removes those that are a day old.
    Index(None, "created_at"),
)

# Evaluation runs and what they found of each question. Knowledge bases are named without foreign keys: a run stays
# readable after they are deleted, as one over a scratch knowledge base always is.
eval_runs = Table(
    "eval_runs",
    metadata,
    _id(),
    Column("tenant", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("knowledge_base_ids", JSON, nullable=False),
    Column("revision", JSON, nullable=False),
    Column("set_name", Text, nullable=False),
    Column("set_sha256", String(64), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("error", JSON(none_as_null=True)),
    Column("metrics", JSON(none_as_null=True)),
    _created(),
    Column("finished_at", Double),
    CheckConstraint("state in ('queued', 'running', 'succeeded', 'failed')", name="state"),
    Index(None, "tenant", "id"),
)

eval_results = Table(
    "eval_results",
    metadata,
    _to("eval_runs.id", "run_id", primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("question_id", Text, nullable=False),
    Column("variant", String(16), nullable=False),
    Column("query", Text, nullable=False),
    Column("direction", String(32), nullable=False),
    Column("answerable", Boolean, nullable=False),
    Column("gold", Integer, nullable=False),
    Column("ranks", JSON, nullable=False, comment="of gold passages among the first ten, from 1"),
    Column("evidence_recall", Double),
    Column("score", Double, comment="evidence score"),
    Column("outcome", String(16)),
    Column("contained", Boolean),
    Column("citation_recall", Double),
    Column("citation_precision", Double),
    Column("quotes_exact", Boolean),
    Column("timings_ms", JSON, nullable=False),
)
