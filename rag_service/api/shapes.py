"""What goes over the wire. Unknown members of a request are refused; every response is described in /openapi.json."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from rag_service.api import problems
from rag_service.db.pages import Page
from rag_service.types import Answer, Citation, Document, Job, Problem, RankedPassage, Retrieval

Item = TypeVar("Item")
Source = TypeVar("Source")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def _storable(text: str) -> str:
    if _UNSTORABLE.search(text):
        raise PydanticCustomError("text", "must not contain U+0000 or half of a surrogate pair")
    return text


# What every database and index can hold: UTF-8 has no lone surrogates, and PostgreSQL no U+0000.
_Storable = AfterValidator(_storable)
Text = Annotated[str, _Storable]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _Storable]
Description = Annotated[str, StringConstraints(max_length=10_000), _Storable]
# Long enough for any id, and a bound on what reaches a query.
Id = Annotated[str, StringConstraints(min_length=1, max_length=64), _Storable]
MediaType = Annotated[str, StringConstraints(max_length=200), _Storable]
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: object) -> object:
    # Left to itself pydantic takes seconds since the epoch, days and clocks without a zone too.
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise PydanticCustomError("moment", "must be a time with a zone as RFC 3339 has it: 2026-11-26T09:30:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_rfc_3339)]


class Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Response(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Listing(BaseModel, Generic[Item]):
    items: list[Item]
    next_cursor: str | None

    @classmethod
    def of(cls, page: Page[Source], shape: Callable[[Source], Item]) -> Listing[Item]:
        return cls(items=[shape(item) for item in page.items], next_cursor=page.next_cursor)


class ProblemShape(BaseModel):
    """RFC 9457, with further members that carry the problem's data."""

    model_config = ConfigDict(extra="allow")
    type: str
    title: str
    status: int
    detail: str


def problem_shape(problem: Problem | None) -> ProblemShape | None:
    return None if problem is None else ProblemShape(**problems.body(problem, status=_document_status(problem)))


def _document_status(problem: Problem) -> int:
    """A document that failed is nobody's bad request by itself; 422 says that its content cannot be processed."""
    status = problems.status_of(problem.code)
    return 422 if status == 500 and problem.code != "internal" else status


EmbedderName = Annotated[str, StringConstraints(min_length=1, max_length=200), _Storable]


class NewKnowledgeBase(Request):
    name: Name
    description: Description = ""
    embedder: EmbedderName | None = None


class KnowledgeBaseChange(Request):
    name: Name | None = None
    description: Description | None = None


class KnowledgeBaseShape(Response):
    id: str
    name: str
    description: str
    revision: int
    embedder: str
    documents: int
    chunks: int
    created_at: datetime


class NewEmbedder(Request):
    embedder: EmbedderName


class EmbedderChangeShape(BaseModel):
    job_id: str


class NewText(Request):
    title: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), _Storable]
    text: Annotated[str, StringConstraints(min_length=1), _Storable]
    source_uri: Annotated[str, StringConstraints(max_length=2_000), _Storable] | None = None


class UploadedItem(BaseModel):
    document_id: str | None
    filename: str
    sha256: str | None
    status: Literal["queued", "duplicate", "rejected"]
    problem: ProblemShape | None = None


class Uploaded(BaseModel):
    job_id: str
    items: list[UploadedItem]


class DocumentShape(BaseModel):
    id: str
    knowledge_base_id: str
    filename: str
    media_type: str
    bytes: int
    sha256: str
    version: int
    state: Literal["queued", "processing", "ready", "failed"]
    language: str | None
    pages: int | None
    chunks: int
    error: ProblemShape | None
    source_uri: str | None
    created_at: datetime
    updated_at: datetime


def document_shape(document: Document) -> DocumentShape:
    members = _members(document)
    del members["etag"]
    return DocumentShape(**{**members, "error": problem_shape(document.error)})


class TextShape(Response):
    text: str
    char_start: int
    char_end: int
    total_chars: int
    version: int


class ChunkShape(Response):
    id: str
    ordinal: int
    text: str
    char_start: int
    char_end: int
    page: int | None
    headings: list[str]
    language: str


class JobItemShape(BaseModel):
    document_id: str
    state: Literal["queued", "processing", "ready", "failed", "cancelled"]
    problem: ProblemShape | None = None


class JobShape(BaseModel):
    """`done` of `total` documents, or chunks where the embedder is changed; `problem` is then why that failed."""

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "partial", "failed", "cancelled"]
    done: int
    total: int
    stage: str
    items: list[JobItemShape]
    created_at: datetime
    finished_at: datetime | None
    problem: ProblemShape | None = None


def job_shape(job: Job) -> JobShape:
    items = [
        JobItemShape(document_id=i.document_id, state=i.state, problem=problem_shape(i.problem)) for i in job.items
    ]
    return JobShape(**{**_members(job), "items": items, "problem": problem_shape(job.problem)})


class Filters(Request):
    """`created_from` and `created_before` are about when a document was first uploaded; the first is within the range,
    the second is not."""

    document_ids: list[Id] | None = Field(None, min_length=1, max_length=1_000)
    languages: list[Literal["zh", "en"]] | None = Field(None, min_length=1)
    media_types: list[MediaType] | None = Field(None, min_length=1, max_length=1_000)
    created_from: Moment | None = None
    created_before: Moment | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Filters:
        if self.created_from and self.created_before and self.created_from >= self.created_before:
            raise PydanticCustomError("range", "created_from must be before created_before")
        return self


class RetrievalRequest(Request):
    query: Text
    knowledge_base_ids: list[Id] = Field(min_length=1, max_length=100)
    top_k: int = Field(8, ge=1, le=50)
    filters: Filters = Filters()
    explain: bool = False


class ScoresShape(Response):
    dense: float
    lexical: float
    bilingual: float
    fused: float
    rerank: float | None


class PassageShape(BaseModel):
    id: str
    document_id: str
    document_version: int
    filename: str
    page: int | None
    headings: list[str]
    language: str
    char_start: int
    char_end: int
    text: str
    score: float
    scores: ScoresShape | None = None


class RetrievalShape(BaseModel):
    revision: dict[str, int]
    query_language: str
    passages: list[PassageShape]


def retrieval_shape(retrieval: Retrieval, explain: bool) -> RetrievalShape:
    return RetrievalShape(
        revision=retrieval.revision,
        query_language=retrieval.query_language,
        passages=[_passage_shape(ranked, explain) for ranked in retrieval.passages],
    )


def _passage_shape(ranked: RankedPassage, explain: bool) -> PassageShape:
    passage = ranked.passage
    return PassageShape(
        id=str(passage.chunk_id), document_id=passage.document_id, document_version=passage.document_version,
        filename=passage.filename, page=passage.page, headings=list(passage.headings), language=passage.language,
        char_start=passage.char_start, char_end=passage.char_end, text=passage.text, score=ranked.score,
        scores=ScoresShape.model_validate(ranked.scores) if explain else None,
    )  # fmt: skip


class GenerationWishes(Request):
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)


class AnswerRequest(Request):
    query: Text
    knowledge_base_ids: list[Id] = Field(min_length=1, max_length=100)
    conversation_id: Id | None = None
    stream: bool = False
    language: Literal["auto", "zh", "en"] = "auto"
    generation: GenerationWishes | None = None


class PackRequest(Request):
    query: Text
    knowledge_base_ids: list[Id] = Field(min_length=1, max_length=100)
    conversation_id: Id | None = None
    language: Literal["auto", "zh", "en"] = "auto"
    window_tokens: int | None = Field(None, ge=1, le=10_000_000)
    reply_tokens: int | None = Field(None, ge=1, le=10_000_000)


class ReplayRequest(Request):
    """Nothing can be set: an answer is made again as it was."""


class ReplayShape(Response):
    retrieval_equal: bool
    prompt_equal: bool
    text_equal: bool
    diff: list[str]


class CitationShape(BaseModel):
    marker: int
    document_id: str
    document_version: int
    filename: str
    chunk_id: str
    page: int | None
    headings: list[str]
    char_start: int
    char_end: int
    quote: str
    answer_start: int
    answer_end: int
    verdict: Literal["supported", "weak", "unsupported"]
    score: float


def citation_shape(citation: Citation) -> CitationShape:
    members = {**_members(citation), "chunk_id": str(citation.chunk_id), "headings": list(citation.headings)}
    return CitationShape(**members)


class UsageShape(Response):
    prompt_tokens: int
    completion_tokens: int


class RefusalShape(BaseModel):
    reason: Literal["no_evidence", "insufficient", "unsupported"]


class AnswerShape(BaseModel):
    id: str
    conversation_id: str
    outcome: Literal["answered", "partial", "refused"]
    refusal: RefusalShape | None
    text: str
    language: str
    citations: list[CitationShape]
    generator: str
    revision: dict[str, int]
    usage: UsageShape
    timings_ms: dict[str, float]
    prompt_sha256: str | None
    created_at: datetime


def answer_shape(answer: Answer) -> AnswerShape:
    members = _members(answer)
    del members["query"]
    return AnswerShape(
        **{
            **members,
            "refusal": RefusalShape(reason=answer.refusal) if answer.refusal else None,
            "citations": [citation_shape(citation) for citation in answer.citations],
            "usage": UsageShape.model_validate(answer.usage),
        }
    )


class NewConversation(Request):
    knowledge_base_ids: list[Id] = Field(default_factory=list, max_length=100)
    title: Annotated[str, StringConstraints(max_length=200), _Storable] = ""


class ConversationShape(Response):
    id: str
    title: str
    knowledge_base_ids: list[str]
    created_at: datetime


class MessageShape(Response):
    role: Literal["user", "assistant"]
    content: str
    answer_id: str | None
    created_at: datetime


def _members(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


class FeedbackRequest(Request):
    rating: Literal[1, -1]
    comment: Description | None = None
    wrong_citations: list[Annotated[int, Field(ge=1, le=1_000)]] = Field(default_factory=list, max_length=100)


class FeedbackShape(Response):
    answer_id: str
    rating: Literal[1, -1]
    comment: str | None
    wrong_citations: list[int]
    created_at: datetime


class UnansweredShape(Response):
    answer_id: str
    query: str
    reason: Literal["no_evidence", "insufficient", "unsupported"]
    knowledge_base_ids: list[str]
    conversation_id: str
    created_at: datetime


class PackedBlockShape(Response):
    kind: Literal["instructions", "history", "passage", "question", "template"]
    id: str
    tokens: int
    state: Literal["kept", "trimmed", "dropped"]
    reason: Literal["budget", "duplicate", "below_floor"] | None
    position: int | None
    score: float | None
    start: int
    end: int
    marker: int | None


class PackingShape(Response):
    window_tokens: int
    reply_tokens: int
    prompt_tokens: int
    tokenizer: str
    template: str
    blocks: list[PackedBlockShape]
    prompt_sha256: str
