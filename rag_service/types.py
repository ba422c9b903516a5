"""The values that travel between rooms: frozen, plain, standard library only.

All character offsets are in Unicode code points of a document version's canonical text, half-open `[start, end)`.
Times are seconds since the Unix epoch, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Language = Literal["zh", "en"]
DocumentState = Literal["queued", "processing", "ready", "failed"]
JobState = Literal["queued", "running", "succeeded", "partial", "failed", "cancelled"]
Outcome = Literal["answered", "partial", "refused"]
RefusalReason = Literal["no_evidence", "insufficient", "unsupported"]
Verdict = Literal["supported", "weak", "unsupported"]
BlockKind = Literal["heading", "paragraph", "list", "table", "code"]
PromptPart = Literal["instructions", "history", "passage", "question", "template"]
PartState = Literal["kept", "trimmed", "dropped"]
DropReason = Literal["budget", "duplicate", "below_floor"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something was refused or failed, as stored in SQL and shown to people."""

    code: str
    title: str
    detail: str
    data: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Every id is resolved through `tenant`."""

    tenant: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """One structural unit of a parsed document: `text[start:end]` of its canonical text."""

    kind: BlockKind
    start: int
    end: int
    page: int | None = None
    level: int | None = None
    """1–6 for a heading, None otherwise."""


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """Canonical text with its structure. Blocks are in order and do not overlap; what lies between is white space."""

    text: str
    blocks: tuple[Block, ...]
    pages: int | None
    parser: str


@dataclass(frozen=True, slots=True)
class ChunkDraft:
    """A chunk before it has an id: exactly `text[char_start:char_end]` of the canonical text."""

    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None
    headings: tuple[str, ...]
    language: Language
    tokens: int


@dataclass(frozen=True, slots=True)
class KnowledgeBase:
    id: str
    name: str
    description: str
    revision: int
    embedder: str
    documents: int
    chunks: int
    created_at: float


@dataclass(frozen=True, slots=True)
class Document:
    id: str
    knowledge_base_id: str
    filename: str
    media_type: str
    bytes: int
    sha256: str
    etag: str
    """SHA-256 of the newest accepted content: that of a version that waits, else `sha256`."""
    version: int
    state: DocumentState
    language: str | None
    pages: int | None
    chunks: int
    error: Problem | None
    source_uri: str | None
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Chunk:
    id: str
    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None
    headings: tuple[str, ...]
    language: Language


@dataclass(frozen=True, slots=True)
class JobItem:
    document_id: str
    state: DocumentState | Literal["cancelled"]
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Job:
    id: str
    kind: str
    state: JobState
    done: int
    total: int
    stage: str
    items: tuple[JobItem, ...]
    created_at: float
    finished_at: float | None
    problem: Problem | None = None
    """Of the job itself, where it is not about documents."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to say a concept: text that has all of `terms`. `factor`, in (0, 1], is how surely it says it."""

    terms: tuple[str, ...]
    factor: float = 1.0
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Concept:
    """Something a question asks for, with every way to say it; a text is worth the best of the ways it has."""

    ways: tuple[Way, ...]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class WeighedConcept:
    """What a concept is worth in a knowledge base, and each of its ways that occur there, as (terms, worth).

    `most` is the worth of its best way, or of a term that is nowhere where there is no way. `translated` says that a
    dictionary knows a way in the other language, whether it occurs or not.
    """

    most: float
    ways: tuple[tuple[tuple[str, ...], float], ...]
    translated: bool = False


@dataclass(frozen=True, slots=True)
class Weighed:
    """A question's words and concepts as a knowledge base weighs them, without those that the index did not ask for."""

    words: tuple[WeighedConcept, ...]
    concepts: tuple[WeighedConcept, ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """A hint from an index: an id and what each leg says of it, all in [0, 1]. Only the gate makes it a passage."""

    chunk_id: int
    dense: float
    lexical: float
    bilingual: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk that went through the gate: live, in scope, with all a citation needs."""

    chunk_id: int
    knowledge_base_id: str
    document_id: str
    document_version: int
    filename: str
    media_type: str
    page: int | None
    headings: tuple[str, ...]
    language: Language
    char_start: int
    char_end: int
    text: str


@dataclass(frozen=True, slots=True)
class Scores:
    """All in [0, 1]. `rerank` is None where no reranker ran."""

    dense: float
    lexical: float
    fused: float
    rerank: float | None = None
    bilingual: float = 0.0


@dataclass(frozen=True, slots=True)
class RankedPassage:
    passage: Passage
    scores: Scores

    @property
    def score(self) -> float:
        return self.scores.fused if self.scores.rerank is None else self.scores.rerank


@dataclass(frozen=True, slots=True)
class PassageFilter:
    """What a question is restricted to; None means no restriction.

    A document's time is that of its first upload; `created_from` is within the range, `created_before` is not.
    """

    document_ids: frozenset[str] | None = None
    languages: frozenset[str] | None = None
    media_types: frozenset[str] | None = None
    created_from: float | None = None
    created_before: float | None = None

    def is_open(self) -> bool:
        """Whether it lets everything through."""
        return self == EVERYTHING


EVERYTHING = PassageFilter()


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Passages best first, and by knowledge base the revision they were found at and what the question weighs in it.

    `base_revision` is that of the base segment searched in each, 0 where there was none. `context` are terms of the
    conversation that were asked for beside the query's own, each by its weight.
    """

    query: str
    query_language: Language
    revision: dict[str, int]
    passages: tuple[RankedPassage, ...]
    weighed: dict[str, Weighed]
    base_revision: dict[str, int] = field(default_factory=dict)
    context: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Citation:
    """`quote` is the canonical text at `char_start:char_end`; `answer_start:answer_end` is the sentence it supports."""

    marker: int
    document_id: str
    document_version: int
    filename: str
    chunk_id: int
    page: int | None
    headings: tuple[str, ...]
    char_start: int
    char_end: int
    quote: str
    answer_start: int
    answer_end: int
    verdict: Verdict
    score: float


@dataclass(frozen=True, slots=True)
class Usage:
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange of a conversation: what was asked and what was answered, marks included as they were shown."""

    id: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A message as chat models take it."""

    role: Literal["user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class PackedBlock:
    """One part of a prompt, or one that stayed out of it.

    `tokens` of kept and trimmed blocks add up to the prompt's; a dropped block has 0. `position` is where the block
    stands in the prompt, from 0; a dropped block has none. `start:end` are the characters of its source that went in.
    """

    kind: PromptPart
    id: str
    tokens: int
    state: PartState
    reason: DropReason | None = None
    position: int | None = None
    score: float | None = None
    start: int = 0
    end: int = 0
    marker: int | None = None
    """The number a passage is cited by."""


@dataclass(frozen=True, slots=True)
class PackingReport:
    """`prompt_tokens + reply_tokens <= window_tokens`, always."""

    window_tokens: int
    reply_tokens: int
    prompt_tokens: int
    tokenizer: str
    template: str
    blocks: tuple[PackedBlock, ...]
    prompt_sha256: str


@dataclass(frozen=True, slots=True)
class PromptPlan:
    """A prompt as the generator gets it. `passages[n - 1]` is what `[n]` cites, cut down to what is in the prompt."""

    token_ids: tuple[int, ...]
    report: PackingReport
    passages: tuple[RankedPassage, ...]
    language: Language


@dataclass(frozen=True, slots=True)
class Sampling:
    """Every field is sent, none is left to an engine's defaults. `temperature` 0 is greedy; `top_k` 0 is off.

    `stop` are texts and `stop_ids` token ids that end the reply; neither is part of it.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    repetition_penalty: float
    seed: int
    stop: tuple[str, ...]
    stop_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a generation ended: by itself or at a stop, or because `max_tokens` were used up."""

    reason: Literal["stop", "length"]
    usage: Usage


@dataclass(frozen=True, slots=True)
class Answer:
    id: str
    conversation_id: str
    query: str
    outcome: Outcome
    refusal: RefusalReason | None
    text: str
    language: Language
    citations: tuple[Citation, ...]
    generator: str
    revision: dict[str, int]
    usage: Usage
    timings_ms: dict[str, float]
    prompt_sha256: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Message:
    role: Literal["user", "assistant"]
    content: str
    answer_id: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class Conversation:
    id: str
    title: str
    knowledge_base_ids: tuple[str, ...]
    created_at: float
