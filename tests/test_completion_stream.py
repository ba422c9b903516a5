"""The body of a completions reply, cut anywhere and broken anyhow, and the texts that end one."""

from __future__ import annotations

import json
import random
from contextlib import suppress

from engine import DONE, chunk, event
from hypothesis import given
from hypothesis import strategies as st

from rag_service.errors import GenerationFailed
from rag_service.inference.completion_stream import SseEvents, chunk_of, shown
from rag_service.inference.reply_text import ReplyText
from rag_service.inference.stop_text import StopText
from rag_service.types import Sampling

SAMPLING = Sampling(max_tokens=50, temperature=0, top_p=1, top_k=0, repetition_penalty=1, seed=0, stop=(), stop_ids=())
NAMES = st.sampled_from(["choices", "text", "finish_reason", "usage", "error", "prompt_tokens"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[str, bytes]:
    """A text and a body that says it, with comments, blank lines, other fields and either line end."""
    pieces = draw(st.lists(TEXTS, min_size=1, max_size=8))
    body = bytearray()
    for piece in pieces:
        noise = draw(st.sampled_from([b"", b": ping\n\n", b"id: 7\n", b"event: message\nretry: 5\n", b"\n\n"]))
        space = draw(st.sampled_from([b"data: ", b"data:"]))
        body += noise + space + json.dumps(chunk(piece), ensure_ascii=draw(st.booleans())).encode() + b"\n\n"
    body += event(chunk("", "stop")) + draw(st.sampled_from([DONE, DONE[:-1], b"", DONE[:-2]]))
    line_end = draw(st.sampled_from([b"\n", b"\r\n"]))
    return "".join(pieces), bytes(body).replace(b"\n", line_end)


@given(_streams(), st.integers(1, 40), st.randoms())
def test_events_split_anywhere_give_the_same_text(stream: tuple[str, bytes], longest: int, luck: random.Random):
    text, body = stream
    events, reply = SseEvents(), ReplyText(4, SAMPLING, len)
    said, at = "", 0
    while at < len(body):
        step = luck.randint(1, longest)
        said += "".join(reply.take(chunk_of(e)) for e in events.feed(body[at : at + step]))
        at += step
    said += "".join(reply.take(chunk_of(e)) for e in events.close())
    assert said == text
    assert reply.finished().reason == "stop"


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_give_chunks_or_a_named_failure(body: bytes):
    events = SseEvents(limit_bytes=200)
    with suppress(GenerationFailed):
        for payload in [*events.feed(body), *events.close()]:
            chunk_of(payload)


@given(JSON)
def test_json_of_any_shape_gives_a_chunk_or_a_named_failure(payload: object):
    with suppress(GenerationFailed):
        chunk_of(json.dumps(payload))


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert chunk_of(r'{"choices": [{"text": "a\ud83d"}]}').text == "a?"


@given(st.text("ab#", max_size=30), st.lists(st.text("ab#", min_size=1, max_size=4), max_size=3), st.randoms())
def test_no_stop_string_gets_out_and_nothing_before_one_is_lost(text: str, stops: list[str], luck: random.Random):
    stop, said, at = StopText(stops), "", 0
    while at < len(text):
        step = luck.randint(1, 5)
        said += stop.feed(text[at : at + step])
        assert not any(s in said for s in stops)
        at += step
    said += stop.rest()
    met = [s for s in stops if s in text]
    assert stop.stopped == bool(met)
    assert any(text.startswith(said + s) for s in met) if met else said == text


def test_shown_is_short_printable_and_one_line():
    assert shown("a\n\tb\x00c") == "a b c"
    assert len(shown("x" * 10**6)) == 300
    assert shown("x" * 10**6).endswith("…")
