"""The body of a completions reply: bytes to events to chunks, everything bounded, nothing trusted.

Bytes come as the socket gives them, split anywhere. What is no reply raises GenerationFailed at once.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol

from rag_service.errors import GenerationFailed
from rag_service.types import Usage

EVENT_BYTES = 1 << 20
"""Longest event read. A chunk carries a token or a few: some hundred bytes with an engine's own members around them."""

SHOWN_CHARS = 300
"""Most that an error says in a server's own words."""

_STOPPED = frozenset({"stop", "eos_token", "stop_sequence"})
"""OpenAI's word, and those that text-generation-inference has had for it."""


class EventSource(Protocol):
    """Bytes of a body to the payloads of its events."""

    def feed(self, data: bytes) -> list[str]: ...

    def close(self) -> list[str]:
        """What the end of the body completes."""
        ...


class SseEvents:
    """Server-sent events, `data` only. Lines end in LF or CRLF; a lone CR, which the standard also allows and no engine
    sends, ends none. An event that the end of the body cuts off before its empty line still counts, as some servers
    leave the last one out."""

    def __init__(self, limit_bytes: int = EVENT_BYTES) -> None:
        self._limit = limit_bytes
        self._line = bytearray()
        self._event: list[str] = []
        self._event_bytes = 0

    def feed(self, data: bytes) -> list[str]:
        searched = len(self._line)
        self._line += data
        events: list[str] = []
        start = 0
        while (end := self._line.find(b"\n", max(start, searched))) >= 0:
            self._check(end - start)
            events += self._take(bytes(self._line[start:end]).removesuffix(b"\r"))
            start = end + 1
        del self._line[:start]
        self._check(len(self._line))
        return events

    def close(self) -> list[str]:
        return self._take(bytes(self._line)) + self._take(b"")

    def _check(self, line_bytes: int) -> None:
        if self._event_bytes + line_bytes > self._limit:
            raise GenerationFailed(f"the engine sent an event of more than {self._limit} bytes")

    def _take(self, line: bytes) -> list[str]:
        """The event that this line completes, if it does."""
        if not line:
            event, self._event, self._event_bytes = self._event, [], 0
            return ["\n".join(event)] if event else []
        self._event_bytes += len(line)
        name, _, value = _utf8(line).removeprefix("\ufeff").partition(":")
        if name == "data":
            self._event.append(value.removeprefix(" "))
        elif name == "error":
            # How llama.cpp reported errors until 2025: a field of its own instead of data.
            self._event.append(f'{{"error": {value}}}')
        return []


class WholeBody:
    """One JSON object: the answer of a proxy or a server that does not stream, taken as a stream of one event."""

    def __init__(self, limit_bytes: int = EVENT_BYTES) -> None:
        self._limit = limit_bytes
        self._body = bytearray()

    def feed(self, data: bytes) -> list[str]:
        self._body += data
        if len(self._body) > self._limit:
            raise GenerationFailed(f"the engine sent an answer of more than {self._limit} bytes")
        return []

    def close(self) -> list[str]:
        return [_utf8(bytes(self._body))] if self._body else []


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event says. `generated` when the engine produced something, be it text that it still withholds."""

    text: str = ""
    generated: bool = False
    finish: str | None = None
    usage: Usage | None = None
    done: bool = False


def chunk_of(event: str) -> Chunk:
    """Raises GenerationFailed for an error event and for whatever is no completions chunk."""
    if event.strip() == "[DONE]":
        return Chunk(done=True)
    try:
        payload = json.loads(event)
    except (ValueError, RecursionError) as error:
        raise GenerationFailed("the engine sent an event that is no JSON", event=shown(event)) from error
    if not isinstance(payload, dict):
        raise GenerationFailed("the engine sent an event that is no object", event=shown(event))
    if payload.get("error") is not None or payload.get("object") == "error":
        raise GenerationFailed(f"the engine reported an error: {error_message(payload)}")
    return _chunk(payload, event)


def error_message(payload: Any) -> str:
    """The words of an error in any of the shapes that servers give it, cut to SHOWN_CHARS."""
    while isinstance(payload, dict):
        known = [payload[name] for name in ("error", "message", "detail", "msg") if payload.get(name)]
        if not known:
            break
        payload = known[0]
    return shown(payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False))


def shown(text: str) -> str:
    """A server's words as they may stand in an error: one line, printable, SHOWN_CHARS at most."""
    head = text[: SHOWN_CHARS * 4]
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    return line if len(line) <= SHOWN_CHARS and len(head) == len(text) else f"{line[: SHOWN_CHARS - 1]}…"


def finish_of(reason: str) -> bool:
    """True for a reply that came to its end, False for one that `max_tokens` cut; anything else is a failure."""
    if reason in _STOPPED:
        return True
    if reason == "length":
        return False
    raise GenerationFailed(f"the engine ended the reply with {shown(reason)!r}", finish_reason=shown(reason))


def _chunk(payload: dict[str, Any], event: str) -> Chunk:
    choices = payload.get("choices")
    usage = _usage(payload.get("usage"))
    if choices is None and usage is not None:
        return Chunk(usage=usage)
    if not isinstance(choices, list):
        raise GenerationFailed("the engine sent an event that is no completions chunk", event=shown(event))
    if not choices:
        return Chunk(usage=usage)
    text, finish = _choice(choices[0], event)
    return Chunk(text, True, finish, usage)


def _choice(choice: Any, event: str) -> tuple[str, str | None]:
    if not isinstance(choice, dict) or "delta" in choice or "message" in choice:
        raise GenerationFailed("the engine answers in another format than that of completions", event=shown(event))
    text, finish = choice.get("text"), choice.get("finish_reason")
    if not isinstance(text, str | None) or not isinstance(finish, str | None):
        raise GenerationFailed("the engine sent a choice whose text is no text", event=shown(event))
    # Lone surrogates come through JSON escapes and could be stored and sent nowhere.
    return (text or "").encode("utf-8", "replace").decode(), finish or None


def _usage(usage: Any) -> Usage | None:
    """None where it is missing or nonsense: the tokens are then counted on this side."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    return None if prompt is None or completion is None else Usage(prompt, completion)


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _utf8(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise GenerationFailed(f"the engine sent bytes that are no UTF-8 (byte {error.start} of a line)") from error
