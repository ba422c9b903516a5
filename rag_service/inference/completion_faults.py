"""What a failed try to get a reply means: for the caller, for another try, and for the circuit breaker."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from rag_service.errors import GenerationFailed, GeneratorUnavailable, Overloaded, YoujuError
from rag_service.inference.completion_request import EXTENSIONS
from rag_service.inference.completion_stream import error_message, shown

RETRIED = frozenset({408, 429, 500, 502, 503, 504})

_WANTS_TEXT = re.compile(r"\bstr(ing)?\b|unmarshal array", re.IGNORECASE)
_UNKNOWN_MEMBER = re.compile(
    r"extra|unrecogni[sz]ed|unknown|unexpected|not (permitted|supported|allowed)|unsupported|forbidden", re.IGNORECASE
)
_SEND_TEXT = (
    "; the server takes no token ids. YOUJU_GENERATOR_SEND_TEXT=true sends the prompt as text: the server then cuts it"
    " into tokens itself, often with a forced space or a start token in front, so the model sees other tokens than"
    " those that were counted and packed"
)


class Fault(Exception):
    """`again`: another try may help. `blames_engine`: it counts towards opening the circuit."""

    def __init__(
        self, error: YoujuError, *, again: bool, blames_engine: bool, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(error.detail)
        self.error = error
        self.again = again
        self.blames_engine = blames_engine
        self.retry_after_seconds = retry_after_seconds


def unreachable(reason: str) -> Fault:
    """No connection, or one that broke before the first byte of an answer."""
    error = GeneratorUnavailable(f"the engine cannot be reached: {shown(reason)}")
    return Fault(error, again=True, blames_engine=True)


def refusal(status: int, headers: Mapping[str, str], body: bytes, secret: str | None, ids_sent: bool) -> Fault:
    """What a status other than 200 means.

    Only 5xx and 408 blame the engine. 429 does not: it is alive and full. Other 4xx are about this request or this
    configuration, which opening the circuit would not mend; they fail at once each time anyway.
    """
    words = server_words(body, secret)
    retry_after = retry_after_seconds(headers.get("retry-after"))
    if status == 429:
        error: YoujuError = Overloaded(
            f"the engine is full: {words}", retry_after_seconds=math.ceil(retry_after or 1.0), status=status
        )
    else:
        error = _refusal(status, words, ids_sent)
    return Fault(
        error,
        again=status in RETRIED,
        blames_engine=status >= 500 or status == 408,
        retry_after_seconds=retry_after,
    )


def _refusal(status: int, words: str, ids_sent: bool) -> YoujuError:
    if 300 <= status < 400:
        return GeneratorUnavailable(
            f"the engine redirects elsewhere ({status}), which is not followed: check YOUJU_GENERATOR_URL",
            status=status,
        )
    if status in (401, 403):
        return GeneratorUnavailable(
            f"the engine refuses the API key ({status}: {words}): check YOUJU_GENERATOR_API_KEY_FILE", status=status
        )
    if status == 404:
        return GeneratorUnavailable(
            f"the engine knows no such address or model ({words}): check YOUJU_GENERATOR_URL, which ends in /v1, and"
            " YOUJU_GENERATOR_MODEL",
            status=status,
        )
    detail = f"the engine refused the request ({status}): {words}{_hint(words, ids_sent)}"
    kind = GeneratorUnavailable if status >= 500 or status == 408 else GenerationFailed
    return kind(detail, status=status)


def _hint(words: str, ids_sent: bool) -> str:
    """What can be done about it, where the server's words say so."""
    if ids_sent and "prompt" in words.lower() and _WANTS_TEXT.search(words):
        return _SEND_TEXT
    named = [name for name in EXTENSIONS if re.search(rf"\b{name}\b", words)]
    if named and _UNKNOWN_MEMBER.search(words):
        return (
            f"; it does not know {', '.join(named)}, which Youju always sends so that no default of an engine decides:"
            " use vLLM, SGLang or llama.cpp's server"
        )
    return ""


def server_words(body: bytes, secret: str | None) -> str:
    """The server's own words without the key, should it repeat what it was sent."""
    text = body.decode("utf-8", "replace")
    if secret:
        text = text.replace(secret, "***")
    try:
        return error_message(json.loads(text))
    except (ValueError, RecursionError):
        return shown(text)


def retry_after_seconds(value: str | None) -> float | None:
    """Seconds, from either form of the header."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            at = parsedate_to_datetime(value)
        except ValueError:
            return None
        seconds = (at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
