"""OpenAI's shapes, as far as they mean something here. A member that would change the answer and is not heeded is
refused unless it asks for what happens anyway."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from rag_service.api.shapes import CitationShape, Request, Text, citation_shape
from rag_service.types import Answer, KnowledgeBase, Usage

OWNER = "youju"


class TextPart(Request):
    type: Literal["text"]
    text: Text


class ChatMessage(Request):
    """`system` and `developer` messages are not used: what an answer may say is not for the caller to change."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]
    name: str | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class StreamOptions(Request):
    include_usage: bool = False


class ChatRequest(Request):
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    user: str | None = None
    # Only as what they are without being said.
    n: Literal[1] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    logprobs: Literal[False] | None = None


class ModelShape(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = OWNER


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelShape]


class AssistantMessage(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: str | None = None
    citations: list[CitationShape]


class Choice(BaseModel):
    index: int = 0
    message: AssistantMessage
    finish_reason: Literal["stop"] = "stop"
    logprobs: None = None


class ChatUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """`id` is the stored answer's: `GET /v1/answers/{id}` tells the rest."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: ChatUsage


class ChatDelta(BaseModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    citations: list[CitationShape] | None = None


class ChunkChoice(BaseModel):
    index: int = 0
    delta: ChatDelta
    finish_reason: Literal["stop"] | None = None


class ChatChunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None


def model_shape(kb: KnowledgeBase) -> ModelShape:
    return ModelShape(id=kb.name, created=int(kb.created_at))


def completion(answer: Answer, model: str) -> ChatCompletion:
    message = AssistantMessage(content=answer.text, citations=[citation_shape(c) for c in answer.citations])
    return ChatCompletion(
        id=answer.id, created=int(answer.created_at), model=model, choices=[Choice(message=message)],
        usage=_usage(answer.usage),
    )  # fmt: skip


class Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, answer_id: str, created: int, model: str) -> None:
        self._head: dict[str, Any] = {"id": answer_id, "created": created, "model": model}

    def opening(self) -> ChatChunk:
        return self._chunk(ChatDelta(role="assistant", content=""))

    def text(self, text: str) -> ChatChunk:
        return self._chunk(ChatDelta(content=text))

    def closing(self, answer: Answer) -> ChatChunk:
        """The last choice: why it ended, and the citations of all that came before."""
        return self._chunk(ChatDelta(citations=[citation_shape(c) for c in answer.citations]), "stop")

    def usage(self, usage: Usage) -> ChatChunk:
        return ChatChunk(**self._head, choices=[], usage=_usage(usage))

    def _chunk(self, delta: ChatDelta, finish_reason: Literal["stop"] | None = None) -> ChatChunk:
        return ChatChunk(**self._head, choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)])


def wire(chunk: ChatChunk) -> dict[str, Any]:
    """As it goes over the wire: a delta has only the members that changed."""
    members = chunk.model_dump(mode="json", exclude={"usage"} if chunk.usage is None else None)
    for choice in members["choices"]:
        choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
    return members


def _usage(usage: Usage) -> ChatUsage:
    total = usage.prompt_tokens + usage.completion_tokens
    return ChatUsage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=total)
