"""OpenAI's shapes, as far as they mean something here.

Clients send many members by default, so each that OpenAI knows is one of three kinds:

- heeded, as `max_tokens`, `temperature`, `top_p` and `seed` are;
- unused (`Unused`), because no answer could depend on it: `user`, `metadata`, `reasoning_effort`. Anything is accepted;
- neither (`Only`): it would change the answer, so it may only ask for what happens anyway, as `n: 1`, `tools: []` or
  `stop: []` do. Anything else is refused by name, and nothing is silently done otherwise than it was asked for.

A member that is null is as good as left out, whatever its name; any other that is not named here is refused.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, StringConstraints, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from rag_service.answering.events import Done
from rag_service.api.shapes import CitationShape, Request, Text, citation_shape
from rag_service.types import KnowledgeBase, Usage

OWNER = "youju"
Unused = Any
FinishReason = Literal["stop", "length"]


class Only:
    """In an annotation: the values that ask for what happens anyway, and no others."""

    def __init__(self, *neutral: Any) -> None:
        self._neutral = neutral

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"enum": list(self._neutral)}

    def _checked(self, value: Any) -> Any:
        if value not in self._neutral:
            accepted = " or ".join(json.dumps(one) for one in self._neutral)
            raise PydanticCustomError(
                "not_heeded", "is not heeded: leave it out, or send {accepted}", {"accepted": accepted}
            )
        return value


class Lenient(Request):
    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, members: Any) -> Any:
        if not isinstance(members, dict):
            return members
        return {name: value for name, value in members.items() if value is not None}


class TextPart(Lenient):
    type: Literal["text"]
    text: Text


class ChatMessage(Lenient):
    """Of `user` and `assistant` messages the text is used. What else there may be is not: what an answer may say, and
    what it may say it from, is not for the caller to change."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Text | list[TextPart] | None = None
    name: Unused = None
    # Of the assistant's messages, as they were received from here or from elsewhere.
    refusal: Unused = None
    citations: Unused = None
    annotations: Unused = None
    audio: Unused = None
    tool_calls: Unused = None
    function_call: Unused = None
    # Of a tool's.
    tool_call_id: Unused = None

    @model_validator(mode="after")
    def _says_something(self) -> ChatMessage:
        if self.content is None and self.role != "assistant":
            raise PydanticCustomError("missing", "has no content")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Lenient):
    include_usage: bool = False
    include_obfuscation: Unused = None


class ChatRequest(Lenient):
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: Annotated[Any, Only(1)] = None
    stop: Annotated[Any, Only([])] = None
    tools: Annotated[Any, Only([])] = None
    functions: Annotated[Any, Only([])] = None
    tool_choice: Annotated[Any, Only("none", "auto")] = None
    function_call: Annotated[Any, Only("none", "auto")] = None
    response_format: Annotated[Any, Only({"type": "text"})] = None
    modalities: Annotated[Any, Only(["text"])] = None
    logit_bias: Annotated[Any, Only({})] = None
    logprobs: Annotated[Any, Only(False)] = None
    top_logprobs: Annotated[Any, Only(0)] = None
    frequency_penalty: Annotated[Any, Only(0)] = None
    presence_penalty: Annotated[Any, Only(0)] = None
    repetition_penalty: Annotated[Any, Only(1)] = None
    # Both are how servers write "all tokens".
    top_k: Annotated[Any, Only(0, -1)] = None
    metadata: Unused = None
    parallel_tool_calls: Unused = None
    prediction: Unused = None
    prompt_cache_key: Unused = None
    prompt_cache_retention: Unused = None
    reasoning_effort: Unused = None
    safety_identifier: Unused = None
    service_tier: Unused = None
    store: Unused = None
    user: Unused = None
    verbosity: Unused = None


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
    finish_reason: FinishReason
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
    finish_reason: FinishReason | None = None


class ChatChunk(BaseModel):
    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None


def model_shape(kb: KnowledgeBase) -> ModelShape:
    return ModelShape(id=kb.name, created=int(kb.created_at))


def completion(done: Done, model: str) -> ChatCompletion:
    answer = done.answer
    message = AssistantMessage(content=answer.text, citations=[citation_shape(c) for c in answer.citations])
    choice = Choice(message=message, finish_reason=_finish_reason(done))
    return ChatCompletion(
        id=answer.id, created=int(answer.created_at), model=model, choices=[choice], usage=_usage(answer.usage)
    )


class Chunks:
    """The chunks of one streamed answer."""

    def __init__(self, answer_id: str, created: int, model: str) -> None:
        self._head: dict[str, Any] = {"id": answer_id, "created": created, "model": model}

    def opening(self) -> ChatChunk:
        return self._chunk(ChatDelta(role="assistant", content=""))

    def text(self, text: str) -> ChatChunk:
        return self._chunk(ChatDelta(content=text))

    def closing(self, done: Done) -> ChatChunk:
        """The last choice: why it ended, and the citations of all that came before."""
        return self._chunk(
            ChatDelta(citations=[citation_shape(c) for c in done.answer.citations]), _finish_reason(done)
        )

    def usage(self, usage: Usage) -> ChatChunk:
        return ChatChunk(**self._head, choices=[], usage=_usage(usage))

    def _chunk(self, delta: ChatDelta, finish_reason: FinishReason | None = None) -> ChatChunk:
        return ChatChunk(**self._head, choices=[ChunkChoice(delta=delta, finish_reason=finish_reason)])


def wire(chunk: ChatChunk) -> dict[str, Any]:
    """As it goes over the wire: a delta has only the members that changed."""
    members = chunk.model_dump(mode="json", exclude={"usage"} if chunk.usage is None else None)
    for choice in members["choices"]:
        choice["delta"] = {name: value for name, value in choice["delta"].items() if value is not None}
    return members


def _finish_reason(done: Done) -> FinishReason:
    return "length" if done.cut_off else "stop"


def _usage(usage: Usage) -> ChatUsage:
    total = usage.prompt_tokens + usage.completion_tokens
    return ChatUsage(prompt_tokens=usage.prompt_tokens, completion_tokens=usage.completion_tokens, total_tokens=total)
