"""Server-sent events as they go over the wire."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from sse_starlette import ServerSentEvent

from rag_service.api import problems, sse
from rag_service.errors import BlobMissing, GenerationFailed, YoujuError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\x85\u2028\u2029\r\n\x0b\x1c\\"'))
HIDDEN = "see the service's log for this request"


class Told(BaseModel):
    text: str


def lines(event: ServerSentEvent) -> list[str]:
    """As httpx and requests read them, who take every end of a line that Unicode knows for one."""
    return event.encode().decode().splitlines()


@given(TEXTS)
def test_whatever_is_told_is_one_line_and_the_same_when_read(text: str) -> None:
    name, named, end = lines(sse.event("delta", Told(text=text)))
    unnamed, _ = lines(sse.unnamed({"text": text}))

    assert (name, end) == ("event: delta", "")
    assert json.loads(named.removeprefix("data: ")) == json.loads(unnamed.removeprefix("data: ")) == {"text": text}


def test_text_of_any_language_goes_as_it_is() -> None:
    assert "有据" in sse.unnamed({"text": "有据"}).encode().decode()


def of_native(fault: YoujuError) -> dict[str, Any]:
    return told(sse.error(fault, "r-1"))


def of_openai(fault: YoujuError) -> dict[str, Any]:
    return told(sse.openai_error(fault, "r-1"))


def of_response(fault: YoujuError) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(problems.of_error(fault, "r-1").body)
    return members


def told(event: ServerSentEvent) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(str(event.data))
    return members


@pytest.mark.parametrize("of", [of_native, of_openai, of_response])
def test_what_went_wrong_inside_is_for_the_log_alone(of: Any, caplog: pytest.LogCaptureFixture) -> None:
    for fault in (BlobMissing("no /var/lib/blobs/ab12", path="/var/lib/blobs"), sse.unforeseen(OSError("/var/lib/x"))):
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            members = of(fault)

        assert (members["detail"], members["status"], members["instance"]) == (HIDDEN, 500, "r-1")
        assert "/var/lib" not in str(members)
        assert "r-1" in caplog.text
        assert "/var/lib" in caplog.text


@pytest.mark.parametrize("of", [of_native, of_openai, of_response])
def test_what_a_caller_can_act_on_is_told(of: Any, caplog: pytest.LogCaptureFixture) -> None:
    members = of(GenerationFailed("the generator broke off", pieces=3))

    assert (members["detail"], members["status"], members["pieces"]) == ("the generator broke off", 502, 3)
    assert caplog.text == ""


def test_an_error_of_a_stream_is_where_openais_clients_look_for_it() -> None:
    assert of_openai(GenerationFailed("it broke"))["error"] == {
        "message": "it broke",
        "type": "urn:youju:problem:generation-failed",
        "code": "generation-failed",
        "param": None,
    }


def test_what_the_events_are_made_of_is_closed_where_none_was_asked_for() -> None:
    """The client is gone before the first event: the generation behind it must not run on."""
    closed = []

    async def source() -> AsyncGenerator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    async def run() -> None:
        made = source()
        await anext(made)

        async def events() -> AsyncIterator[ServerSentEvent]:
            async for number in made:
                yield ServerSentEvent(data=str(number))

        async def receive() -> dict[str, object]:
            return {"type": "http.disconnect"}

        async def send(message: object) -> None:
            await asyncio.sleep(0.05)

        await sse.response(events(), made)({"type": "http", "method": "POST"}, receive, send)  # type: ignore[arg-type]
        # Here, and not after the loop has ended: that closes what is left over by itself.
        assert closed == [True]

    asyncio.run(run())
