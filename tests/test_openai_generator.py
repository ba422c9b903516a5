"""The `openai` generator against a completions server on real sockets that fails in every way an engine can."""

from __future__ import annotations

import gc
import json
import os
import queue
import socket
import threading
import time
from asyncio import Task
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from engine import DONE, Engine, Script, Wire, chunk, event, fails, hangs, resets, running_engine, says, usage

from rag_service.errors import (
    GenerationFailed,
    GeneratorTimeout,
    GeneratorUnavailable,
    InvalidConfiguration,
    Overloaded,
    YoujuError,
)
from rag_service.inference.circuit_breaker import CircuitBreaker
from rag_service.inference.completion_faults import refusal
from rag_service.inference.completion_request import EXTENSIONS, request_body
from rag_service.inference.completion_stream import EVENT_BYTES
from rag_service.inference.model_server import Retries
from rag_service.inference.openai_generator import OpenAIGenerator
from rag_service.inference.reply_limits import Limits
from rag_service.ports import Delivery, Generation
from rag_service.types import Finished, Sampling, Usage

PROMPT = (8308, 10427, 59601, 59568)
KEY = "sk-very-secret-0123456789"
LIMITS = Limits(connect_seconds=0.4, first_token_seconds=0.8, between_tokens_seconds=0.4, total_seconds=2.0)
PATIENT = Limits(connect_seconds=5, first_token_seconds=10, between_tokens_seconds=10, total_seconds=20)
SAMPLING = Sampling(
    max_tokens=50,
    temperature=0.0,
    top_p=1.0,
    top_k=0,
    repetition_penalty=1.05,
    seed=7,
    stop=("### Human",),
    stop_ids=(2,),
)

Build = Callable[..., OpenAIGenerator]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with running_engine() as running:
        yield running


@pytest.fixture
def build(engine: Engine) -> Iterator[Build]:
    """Generators that ask the engine, with short limits, and that end with the test."""
    built: list[OpenAIGenerator] = []

    def make(url: str = engine.url, limits: Limits = LIMITS, **changed: object) -> OpenAIGenerator:
        settings: dict[str, object] = {
            "api_key": KEY,
            "queue": 64,
            "send_text": False,
            "decode": lambda ids: "".join(f"<{i}>" for i in ids),
            "count": lambda text: len(text.split()),
            "retries": Retries(tries=3, first_wait_seconds=0.02, longest_wait_seconds=0.1),
            "breaker": CircuitBreaker(1_000, 10.0, time.monotonic),
        }
        built.append(OpenAIGenerator(url, "sus", limits=limits, **(settings | changed)))  # type: ignore[arg-type]
        return built[-1]

    yield make
    for generator in built:
        generator.close()


class Heard:
    """What a reply delivered, and when it was over."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.ends: list[Finished | YoujuError] = []
        self.first = threading.Event()
        self.over = threading.Event()

    def __call__(self, delivery: Delivery) -> None:
        if isinstance(delivery, str):
            assert delivery != ""
            assert not self.ends
            self.pieces.append(delivery)
            self.first.set()
        else:
            self.ends.append(delivery)
            self.over.set()

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def end(self, seconds: float = 15.0) -> Finished | YoujuError:
        assert self.over.wait(seconds), "the reply never ended"
        assert len(self.ends) == 1
        return self.ends[0]

    def error(self) -> YoujuError:
        end = self.end()
        assert isinstance(end, YoujuError), end
        assert KEY not in str(end) + repr(end.data)
        assert end.detail.isprintable()
        return end

    def finished(self) -> Finished:
        end = self.end()
        assert isinstance(end, Finished), end
        return end


def _ask(generator: OpenAIGenerator, sampling: Sampling = SAMPLING) -> Heard:
    heard = Heard()
    generator.start(PROMPT, sampling, heard)
    return heard


def _until(true: Callable[[], bool], seconds: float = 1.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def _raw(*parts: bytes, kind: str = "text/event-stream") -> Script:
    def script(wire: Wire) -> None:
        wire.head(kind=kind)
        for part in parts:
            wire.send(part)

    return script


# A reply


def test_a_reply_arrives_in_pieces_with_the_usage_that_the_engine_counted(engine: Engine, build: Build):
    engine.plays(says("有据", " means", " evidence [1]."))
    heard = _ask(build())
    assert heard.finished() == Finished("stop", Usage(len(PROMPT), 3))
    assert heard.pieces == ["有据", " means", " evidence [1]."]


def test_the_name_is_the_kind_and_the_model(build: Build):
    assert build().name == "openai:sus"


def test_a_reply_cut_by_max_tokens_says_so(engine: Engine, build: Build):
    engine.plays(says("a", "b", finish="length"))
    assert _ask(build()).finished().reason == "length"


def test_marks_pass_through_untouched(engine: Engine, build: Build):
    engine.plays(says("So it is [99]", "【1】", "[1,3]", "### Assistant:"))
    heard = _ask(build())
    heard.finished()
    assert heard.text == "So it is [99]【1】[1,3]### Assistant:"


def test_without_usage_the_tokens_are_counted_here(engine: Engine, build: Build):
    engine.plays(_raw(event(chunk("one two ")), event(chunk("three", "stop")), DONE))
    assert _ask(build()).finished().usage == Usage(len(PROMPT), 3)


def test_a_finish_reason_is_an_end_also_without_done(engine: Engine, build: Build):
    engine.plays(
        _raw(event(chunk("one")), event(chunk("", "length", usage={"prompt_tokens": 4, "completion_tokens": 1})))
    )
    assert _ask(build()).finished() == Finished("length", Usage(4, 1))


def test_done_is_an_end_also_without_a_finish_reason(engine: Engine, build: Build):
    engine.plays(_raw(event(chunk("one two three")), DONE))
    assert _ask(build()).finished().reason == "stop"
    assert _ask(build(), replace(SAMPLING, max_tokens=3)).finished().reason == "length"


def test_an_engine_that_hangs_after_the_finish_reason_is_not_waited_for(engine: Engine, build: Build):
    def script(wire: Wire) -> None:
        wire.head()
        wire.piece("all of it", "stop")
        wire.hang()

    engine.plays(script)
    began = time.monotonic()
    heard = _ask(build(limits=PATIENT))
    assert heard.finished() == Finished("stop", Usage(len(PROMPT), 3))
    assert heard.text == "all of it"
    assert time.monotonic() - began < PATIENT.between_tokens_seconds / 2


def test_text_after_the_finish_reason_is_dropped(engine: Engine, build: Build):
    engine.plays(_raw(event(chunk("end.", "stop")), event(chunk("more")), DONE))
    heard = _ask(build())
    heard.finished()
    assert heard.text == "end."


def test_an_answer_that_is_not_streamed_is_taken_whole(engine: Engine, build: Build):
    body = chunk("whole [1].", "stop", usage={"prompt_tokens": 4, "completion_tokens": 2})
    engine.plays(_raw(json.dumps(body).encode(), kind="application/json; charset=utf-8"))
    heard = _ask(build())
    assert heard.finished() == Finished("stop", Usage(4, 2))
    assert heard.text == "whole [1]."


def test_a_stop_string_that_the_engine_does_not_strip_ends_the_reply(engine: Engine, build: Build):
    def script(wire: Wire) -> None:
        wire.head()
        for piece in ("Yes [1].", "\n##", "# Hum", "an: next", " question"):
            wire.piece(piece)
        wire.hang()

    engine.plays(script)
    heard = _ask(build())
    assert heard.finished().reason == "stop"
    assert heard.text == "Yes [1].\n"
    assert engine.wires[0].left.wait(1)


# The request


def test_the_request_is_exactly_what_is_documented(engine: Engine, build: Build):
    _ask(build()).finished()
    (asked,) = engine.asked
    assert asked.path == "/v1/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["accept-encoding"] == "identity"
    assert asked.raw == (
        b'{"model":"sus","prompt":[8308,10427,59601,59568],"stream":true,"stream_options":{"include_usage":true},"n":1,'
        b'"max_tokens":50,"temperature":0.0,"top_p":1.0,"presence_penalty":0.0,"frequency_penalty":0.0,"seed":7,'
        b'"stop":["### Human"],"top_k":-1,"min_p":0.0,"repetition_penalty":1.05,"stop_token_ids":[2],"min_tokens":0,'
        b'"ignore_eos":false,"skip_special_tokens":true,"add_special_tokens":false,"repeat_penalty":1.05,'
        b'"repeat_last_n":54,"typical_p":1.0,"top_n_sigma":-1.0,"xtc_probability":0.0,"dry_multiplier":0.0,'
        b'"dynatemp_range":0.0,"mirostat":0}'
    )


def test_the_extensions_named_are_those_that_openai_does_not_have():
    core = {"model", "prompt", "stream", "stream_options", "n", "max_tokens", "temperature", "top_p", "seed", "stop",
            "presence_penalty", "frequency_penalty"}  # fmt: skip
    assert set(json.loads(request_body("m", PROMPT, 4, SAMPLING))) == core | set(EXTENSIONS)


def test_a_top_k_that_is_on_is_sent_as_it_is():
    assert json.loads(request_body("m", PROMPT, 4, replace(SAMPLING, top_k=20)))["top_k"] == 20


def test_text_is_sent_only_when_told_to(engine: Engine, build: Build):
    _ask(build(send_text=True)).finished()
    assert engine.asked[0].body["prompt"] == "<8308><10427><59601><59568>"
    assert engine.asked[0].body["add_special_tokens"] is False


def test_without_a_key_none_is_sent(engine: Engine, build: Build):
    _ask(build(api_key=None)).finished()
    assert "authorization" not in engine.asked[0].headers


def test_proxies_of_the_environment_are_not_asked(engine: Engine, build: Build, monkeypatch: pytest.MonkeyPatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    _ask(build()).finished()


def test_a_password_in_the_url_is_refused(build: Build):
    with pytest.raises(InvalidConfiguration) as refused:
        build(url="http://me:hunter2@127.0.0.1:9/v1")
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["", f"{KEY}\n", "sk 1", "sk-密"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(build: Build, key: str):
    with pytest.raises(InvalidConfiguration) as refused:
        build(api_key=key)
    assert KEY not in str(refused.value)


def test_an_url_that_is_none_is_refused(build: Build):
    with pytest.raises(InvalidConfiguration):
        build(url="http://127.0.0.1:port/v1")


# Time limits


@pytest.mark.parametrize(
    ("script", "limit"),
    [
        pytest.param(hangs, "first_token", id="before the head"),
        pytest.param(lambda wire: (wire.head(), wire.hang()), "first_token", id="after the head"),
        pytest.param(lambda wire: (_raw(b'data: {"choi')(wire), wire.hang()), "first_token", id="in the first event"),
        pytest.param(lambda wire: (wire.head(), wire.piece("One"), wire.hang()), "between_tokens", id="mid-stream"),
    ],
)
def test_a_hanging_engine_ends_within_its_limit(engine: Engine, build: Build, script: Script, limit: str):
    engine.plays(script)
    began = time.monotonic()
    error = _ask(build()).error()
    seconds = getattr(LIMITS, f"{limit}_seconds")
    assert isinstance(error, GeneratorTimeout)
    assert error.data == {"limit": limit, "seconds": seconds}
    assert seconds <= time.monotonic() - began < seconds + 1
    assert engine.wires[0].left.wait(1), "the connection was not closed"


def test_a_connection_that_hangs_ends_within_its_limit(build: Build):
    """A listener that never accepts, with its backlog full: the kernel then answers no further SYN."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        fillers = [_knock(deaf.getsockname()) for _ in range(4)]
        began = time.monotonic()
        error = _ask(build(url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1")).error()
        for filler in fillers:
            filler.close()
    assert isinstance(error, GeneratorTimeout)
    assert error.data == {"limit": "connect", "seconds": LIMITS.connect_seconds}
    assert time.monotonic() - began < LIMITS.connect_seconds + 1


def _knock(address: tuple[str, int]) -> socket.socket:
    filler = socket.socket()
    filler.setblocking(False)
    filler.connect_ex(address)
    return filler


def test_a_tls_handshake_that_hangs_ends_within_the_limit_for_connecting(build: Build):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        began = time.monotonic()
        error = _ask(build(url=f"https://127.0.0.1:{mute.getsockname()[1]}/v1")).error()
    assert error.data == {"limit": "connect", "seconds": LIMITS.connect_seconds}
    assert time.monotonic() - began < LIMITS.connect_seconds + 1


@pytest.mark.parametrize("drip", [event(chunk("x")), event(chunk(""))], ids=["pieces", "empty pieces"])
def test_a_slow_trickle_ends_at_the_total_limit(engine: Engine, build: Build, drip: bytes):
    def script(wire: Wire) -> None:
        wire.head()
        while True:
            wire.send(drip)
            time.sleep(0.1)

    engine.plays(script)
    began = time.monotonic()
    error = _ask(build()).error()
    assert isinstance(error, GeneratorTimeout)
    assert error.data["limit"] == "total"
    assert time.monotonic() - began < LIMITS.total_seconds + 1


@pytest.mark.parametrize("drip", [b": ping\n\n", b"x"], ids=["pings", "bytes of one endless event"])
def test_what_is_no_token_does_not_count_as_one(engine: Engine, build: Build, drip: bytes):
    def script(wire: Wire) -> None:
        wire.head()
        wire.piece("One")
        while True:
            wire.send(drip)
            time.sleep(0.05)

    engine.plays(script)
    error = _ask(build()).error()
    assert isinstance(error, GeneratorTimeout)
    assert error.data["limit"] == "between_tokens"


# Tries


@pytest.mark.parametrize(
    "first",
    [fails(500), fails(502), fails(503, "busy"), fails(504), fails(408), fails(429), resets, lambda wire: None,
     lambda wire: wire.head()],
    ids=["500", "502", "503", "504", "408", "429", "reset", "closed", "closed after the head"],
)  # fmt: skip
def test_what_fails_before_the_first_byte_is_tried_again(engine: Engine, build: Build, first: Script):
    engine.plays(first, first, says("Fine."))
    heard = _ask(build())
    heard.finished()
    assert heard.text == "Fine."
    assert len(engine.asked) == 3


@pytest.mark.parametrize(
    ("script", "kind"),
    [(fails(500), GeneratorUnavailable), (fails(503), GeneratorUnavailable), (resets, GeneratorUnavailable),
     (fails(429), Overloaded)],
    ids=["500", "503", "reset", "429"],
)  # fmt: skip
def test_tries_come_to_an_end(engine: Engine, build: Build, script: Script, kind: type[YoujuError]):
    engine.plays(script)
    assert isinstance(_ask(build()).error(), kind)
    assert len(engine.asked) == 3


def test_an_engine_that_is_not_there_is_unavailable(build: Build):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
    began = time.monotonic()
    assert isinstance(_ask(build(url=url)).error(), GeneratorUnavailable)
    assert time.monotonic() - began < LIMITS.first_token_seconds + 1


@pytest.mark.parametrize(
    "after",
    [lambda wire: wire.reset(), lambda wire: None, lambda wire: wire.send(b"data: {"),
     lambda wire: wire.send(b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n')],
    ids=["reset", "closed", "cut in an event", "error event"],
)  # fmt: skip
def test_after_the_first_piece_nothing_is_tried_again(engine: Engine, build: Build, after: Script):
    def script(wire: Wire) -> None:
        wire.head()
        wire.piece("One")
        time.sleep(0.1)
        after(wire)

    engine.plays(script)
    heard = _ask(build())
    assert isinstance(heard.error(), GenerationFailed)
    assert heard.text == "One"
    assert len(engine.asked) == 1


def test_retry_after_is_kept_where_it_fits(engine: Engine, build: Build):
    engine.plays(fails(429, retry_after="1"), says("Fine."))
    began = time.monotonic()
    _ask(build(limits=PATIENT)).finished()
    assert time.monotonic() - began >= 1


def test_retry_after_beyond_the_first_token_limit_is_not_waited_for(engine: Engine, build: Build):
    engine.plays(fails(429, retry_after="7"))
    began = time.monotonic()
    error = _ask(build()).error()
    assert isinstance(error, Overloaded)
    assert error.data["retry_after_seconds"] == 7
    assert time.monotonic() - began < 1
    assert len(engine.asked) == 1


def test_waits_double_up_to_the_longest_and_are_shortened_by_up_to_half():
    retries = Retries(tries=9, first_wait_seconds=1.0, longest_wait_seconds=5.0)
    for failed, full in enumerate([1.0, 2.0, 4.0, 5.0, 5.0], 1):
        waits = [retries.wait(failed) for _ in range(200)]
        assert full / 2 <= min(waits) < max(waits) <= full


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 301, 204])
def test_a_refusal_is_final(engine: Engine, build: Build, status: int):
    engine.plays(fails(status, location="http://127.0.0.1:9/elsewhere"))
    _ask(build()).error()
    assert len(engine.asked) == 1


def test_a_refusal_whose_explanation_breaks_off_is_still_final(engine: Engine, build: Build):
    engine.plays(lambda wire: (wire.head(400, "application/json", transfer_encoding="chunked"), wire.reset()))
    assert "refused the request (400)" in _ask(build()).error().detail
    assert len(engine.asked) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("12", 12, 12), ("0", 1, 1), ("-3", 1, 1), ("soon", 1, 1), ("nan", 1, 1), ("1e999", 1, 1),
     ("in an hour", 3500, 3601),
     ("Wed, 21 Oct 2015 07:28:00 GMT", 1, 1)],
)  # fmt: skip
def test_retry_after_comes_as_seconds_or_as_a_date(header: str, least: int, most: int):
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    fault = refusal(429, {"retry-after": header}, b"", None, ids_sent=True)
    assert least <= fault.error.data["retry_after_seconds"] <= most


# What refusals say


def test_a_server_that_takes_no_ids_is_named_with_the_way_out_and_its_risk(engine: Engine, build: Build):
    for body in (
        '{"detail": "prompt must be a string."}',
        '{"detail": [{"loc": ["body", "prompt"], "msg": "Input should be a valid string"}]}',
        '{"error": {"message": "json: cannot unmarshal array into Go struct field .prompt of type string"}}',
    ):
        engine.plays(fails(400, body))
        error = _ask(build()).error()
        assert "YOUJU_GENERATOR_SEND_TEXT=true" in error.detail
        assert "other tokens" in error.detail


def test_a_prompt_that_is_too_long_is_not_taken_for_that(engine: Engine, build: Build):
    words = "This model's maximum context length is 4096 tokens, your prompt has 5000"
    engine.plays(fails(400, json.dumps({"error": {"message": words}})))
    error = _ask(build()).error()
    assert isinstance(error, GenerationFailed)
    assert words in error.detail
    assert "SEND_TEXT" not in error.detail


def test_a_server_that_takes_no_extensions_is_named_with_the_members(engine: Engine, build: Build):
    engine.plays(fails(422, "{\"detail\": \"Unexpected fields in the request: {'top_k', 'min_p'}\"}"))
    error = _ask(build()).error()
    assert "top_k, min_p" in error.detail
    assert "vLLM" in error.detail


def test_a_refused_key_points_at_its_setting(engine: Engine, build: Build):
    engine.plays(fails(401))
    assert "YOUJU_GENERATOR_API_KEY_FILE" in _ask(build()).error().detail


def test_a_key_that_the_server_repeats_is_not_shown(engine: Engine, build: Build):
    engine.plays(fails(403, f"you sent Bearer {KEY}"))
    assert "you sent Bearer ***" in _ask(build()).error().detail


@pytest.mark.parametrize(
    "body",
    [event({"error": {"message": f"Bearer {KEY}?"}}), event([f"Bearer {KEY}?"])],
    ids=["error event", "no chunk"],
)
def test_a_key_in_the_stream_is_not_shown_either(engine: Engine, build: Build, body: bytes):
    engine.plays(_raw(body))
    error = _ask(build()).error()
    assert "Bearer ***?" in f"{error.detail} {error.data}"


@pytest.mark.parametrize("status", [400, 500])
def test_a_server_with_a_lot_to_say_is_cut_short(engine: Engine, build: Build, status: int):
    def script(wire: Wire) -> None:
        wire.head(status, "text/html")
        for _ in range(200):
            wire.send(b"<html>\x07\x1b[31m" + b"blah " * 20_000)

    engine.plays(script)
    error = _ask(build(retries=Retries(tries=1))).error()
    assert "blah" in error.detail
    assert len(error.detail) < 400


# Streams that are no replies


BROKEN = {
    "no JSON": b"data: {oops\n\n",
    "no object": b"data: [1, 2]\n\n",
    "deep JSON": b"data: " + b"[" * 100_000 + b"\n\n",
    "no chunk": b'data: {"hello": 1}\n\n',
    "text is a number": b'data: {"choices": [{"text": 5}]}\n\n',
    "choice is text": b'data: {"choices": ["a"]}\n\n',
    "chat format": b'data: {"choices": [{"delta": {"content": "a"}}]}\n\n',
    "unknown end": event(chunk("a", "content_filter")),
    "aborted": event(chunk("a", "abort")),
    "invalid UTF-8": b'data: {"choices": [{"text": "\xff\xfe"}]}\n\n',
    "error event": b'data: {"error": {"message": "out of memory"}}\n\n',
    "error text": b'data: {"error": "out of memory"}\n\n',
    "error, vLLM before 0.10": b'data: {"object": "error", "message": "out of memory", "code": 400}\n\n',
    "error, llama.cpp before 2025": b'error: {"code": 500, "message": "out of memory"}\n\n',
    "only done": DONE,
    "only usage": event(usage(1, 1)),
    "endless line": b"data: " + b"x" * (2 * EVENT_BYTES),
    "endless event": b"data: x\n" * (EVENT_BYTES // 4),
    "more text than tokens": event(chunk("x" * 20_000)),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("before", [b"", event(chunk("One"))], ids=["first", "later"])
def test_what_is_no_reply_fails_at_once_and_is_not_tried_again(
    engine: Engine, build: Build, body: bytes, before: bytes
):
    if before and body == DONE:
        pytest.skip("an end that was meant")
    engine.plays(_raw(before + body))
    began = time.monotonic()
    error = _ask(build()).error()
    assert isinstance(error, GenerationFailed)
    assert time.monotonic() - began < 1
    assert len(error.detail) < 400
    assert len(engine.asked) == 1


@pytest.mark.parametrize("kind", ["text/html", "application/octet-stream"])
def test_another_content_type_is_no_reply(engine: Engine, build: Build, kind: str):
    engine.plays(_raw(b"<html>Log in</html>", kind=kind))
    error = _ask(build()).error()
    assert isinstance(error, GenerationFailed)
    assert kind in error.detail


def test_a_compressed_stream_is_refused(engine: Engine, build: Build):
    engine.plays(lambda wire: wire.head(content_encoding="gzip"))
    assert "compresses" in _ask(build()).error().detail


def test_a_token_of_100_mb_is_not_read_to_its_end(engine: Engine, build: Build):
    sent = 0

    def script(wire: Wire) -> None:
        nonlocal sent
        wire.head()
        wire.send(b'data: {"choices": [{"text": "')
        for _ in range(100):
            wire.send(b"x" * 1_000_000)
            sent += 1

    engine.plays(script)
    error = _ask(build(limits=PATIENT)).error()
    assert isinstance(error, GenerationFailed)
    _until(lambda: engine.open == 0)
    assert sent < 30, "the socket buffers hold a few MB; the rest must not have been taken"


def test_every_byte_alone_through_the_socket_gives_the_same_text(engine: Engine, build: Build):
    def script(wire: Wire) -> None:
        wire.head()
        wire.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in event(chunk("龘👍é")) + event(chunk("", "stop")) + DONE:
            wire.send(bytes([byte]))

    engine.plays(script)
    heard = _ask(build())
    heard.finished()
    assert heard.text == "龘👍é"


# Cancelling


def _in_backoff(wire: Wire) -> None:
    fails(503, retry_after="5")(wire)


STAGES: dict[str, Script] = {
    "waiting for the head": hangs,
    "waiting for the first token": lambda wire: (wire.head(), wire.hang()),
    "mid-stream": lambda wire: (wire.head(), wire.piece("One"), wire.hang()),
    "between tries": _in_backoff,
}


@pytest.mark.parametrize("script", STAGES.values(), ids=STAGES.keys())
def test_cancelling_frees_everything_within_a_second(engine: Engine, build: Build, script: Script):
    engine.plays(script)
    generator, heard = build(limits=PATIENT, queue=1), Heard()
    _until(lambda: engine.checks == 1)
    generation = generator.start(PROMPT, SAMPLING, heard)
    engine.wire(0)
    time.sleep(0.1)
    generation.cancel()
    pieces = list(heard.pieces)
    _until(lambda: engine.open == 0)
    engine.plays(says("Next."))
    _until(lambda: _has_room(generator))
    assert heard.pieces == pieces
    assert not heard.ends
    generation.cancel()


def _has_room(generator: OpenAIGenerator) -> bool:
    try:
        _ask(generator).finished()
    except Overloaded:
        return False
    return True


def test_cancelling_at_once_asks_nothing_or_hangs_up(engine: Engine, build: Build):
    generator = build(limits=PATIENT)
    engine.plays(hangs)
    for _ in range(50):
        heard = Heard()
        generator.start(PROMPT, SAMPLING, heard).cancel()
        assert not heard.ends
    _until(lambda: engine.open == 0)


def test_a_reply_may_be_cancelled_from_inside_its_own_delivery(engine: Engine, build: Build):
    engine.plays(lambda wire: (wire.head(), wire.piece("One"), wire.piece("Two"), wire.hang()))
    heard, generation = Heard(), queue.Queue[Generation]()

    def deliver(delivery: Delivery) -> None:
        heard(delivery)
        generation.get().cancel()

    generation.put(build(limits=PATIENT).start(PROMPT, SAMPLING, deliver))
    assert engine.wire(0).left.wait(1)
    assert heard.pieces == ["One"]


def test_nothing_is_delivered_once_cancel_has_returned(engine: Engine, build: Build):
    def script(wire: Wire) -> None:
        wire.head()
        while True:
            wire.piece("x")

    engine.plays(script)
    generator = build(limits=PATIENT)
    for _ in range(20):
        heard = Heard()
        generation = generator.start(PROMPT, replace(SAMPLING, max_tokens=10**6), heard)
        assert heard.first.wait(5)
        generation.cancel()
        told = len(heard.pieces)
        time.sleep(0.01)
        assert len(heard.pieces) == told
        assert not heard.ends


def test_closing_ends_every_reply_with_an_error(engine: Engine, build: Build):
    engine.plays(hangs)
    generator = build(limits=PATIENT)
    replies = [_ask(generator) for _ in range(10)]
    for number in range(10):
        engine.wire(number)
    generator.close()
    assert all(isinstance(reply.end(1), GeneratorUnavailable) for reply in replies)
    with pytest.raises(GeneratorUnavailable):
        _ask(generator)
    _until(lambda: engine.open == 0)


# Many at once, and what must not pile up


def test_one_more_than_the_queue_is_turned_away(engine: Engine, build: Build):
    engine.plays(hangs)
    generator = build(limits=PATIENT, queue=3)
    for _ in range(3):
        _ask(generator)
    with pytest.raises(Overloaded) as refused:
        _ask(generator)
    assert refused.value.data["retry_after_seconds"] == 1


def test_the_place_is_free_when_the_last_word_is_said(build: Build):
    generator, again = build(queue=1), Heard()
    done = threading.Event()

    def deliver(delivery: Delivery) -> None:
        if isinstance(delivery, Finished):
            generator.start(PROMPT, SAMPLING, again)
            done.set()

    generator.start(PROMPT, SAMPLING, deliver)
    assert done.wait(5)
    again.finished()


def test_200_replies_side_by_side_cost_one_thread(build: Build, engine: Engine):
    meet = threading.Event()

    def script(wire: Wire) -> None:
        wire.head()
        wire.piece(f"{wire.asked.body['seed']}:")
        meet.wait(20)
        wire.piece("abc", "stop")
        wire.send(DONE)

    engine.plays(script)
    generator = build(limits=replace(PATIENT, between_tokens_seconds=20), queue=200)
    before = {t for t in threading.enumerate() if t.name != "engine"}
    replies = []
    for seed in range(200):
        replies.append(Heard())
        generator.start(PROMPT, replace(SAMPLING, seed=seed), replies[-1])
    assert all(reply.first.wait(15) for reply in replies)
    assert {t for t in threading.enumerate() if t.name != "engine"} <= before
    meet.set()
    for seed, reply in enumerate(replies):
        reply.finished()
        assert reply.text == f"{seed}:abc"


FAULTS: list[Script] = [
    hangs,
    resets,
    fails(500),
    fails(400),
    lambda wire: (wire.head(), wire.piece("One"), wire.reset()),
    lambda wire: (wire.head(), wire.piece("One"), wire.hang()),
    _raw(BROKEN["no JSON"]),
    _raw(BROKEN["endless line"]),
    _raw(BROKEN["invalid UTF-8"]),
    says("Fine."),
]


def test_fifty_faults_leave_nothing_behind(engine: Engine):
    before = _held(engine)
    generator = OpenAIGenerator(
        engine.url, "sus", api_key=KEY, queue=64, limits=LIMITS, send_text=False, decode=str, count=len,
        retries=Retries(2, 0.01, 0.02), breaker=CircuitBreaker(1_000, 10.0, time.monotonic),
    )  # fmt: skip
    for script in FAULTS:
        engine.plays(script)
        replies = [_ask(generator) for _ in range(5)]
        heard = Heard()
        generator.start(PROMPT, SAMPLING, heard).cancel()
        for reply in replies:
            reply.end()
    generator.close()
    _until(lambda: _held(engine) == before, 3)


def _held(engine: Engine) -> tuple[int, int, int, int]:
    """Connections at the server, sockets of this process, threads but the server's, unfinished tasks."""
    gc.collect()
    sockets = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            sockets += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            continue
    threads = sum(thread.name != "engine" for thread in threading.enumerate())
    tasks = sum(isinstance(thing, Task) and not thing.done() for thing in gc.get_objects())
    return engine.open, sockets, threads, tasks


# The circuit


def test_an_engine_that_keeps_failing_is_left_alone_and_asked_again_later(engine: Engine, build: Build):
    engine.plays(fails(500), fails(500), says("Fine."))
    generator = build(breaker=CircuitBreaker(2, 0.3, time.monotonic), retries=Retries(tries=1))
    for _ in range(2):
        _ask(generator).error()
    with pytest.raises(GeneratorUnavailable) as refused:
        _ask(generator)
    assert refused.value.data["retry_after_seconds"] == 1
    assert len(engine.asked) == 2
    assert generator.ready() != "ok"
    time.sleep(0.35)
    _ask(generator).finished()
    _ask(generator).finished()
    assert generator.ready() == "ok"


@pytest.mark.parametrize("script", [fails(400), fails(422), fails(401), fails(429)], ids=["400", "422", "401", "429"])
def test_refusals_do_not_open_the_circuit(engine: Engine, build: Build, script: Script):
    engine.plays(script)
    generator = build(breaker=CircuitBreaker(2, 60, time.monotonic), retries=Retries(tries=1))
    for _ in range(4):
        _ask(generator).error()
    engine.plays(says("Fine."))
    _ask(generator).finished()


def test_replies_that_are_cancelled_do_not_open_the_circuit(engine: Engine, build: Build):
    engine.plays(hangs)
    generator = build(breaker=CircuitBreaker(2, 60, time.monotonic), limits=PATIENT)
    for number in range(4):
        generation = generator.start(PROMPT, SAMPLING, Heard())
        engine.wire(number)
        generation.cancel()
    engine.plays(says("Fine."))
    _ask(generator).finished()


# Readiness


def test_a_new_generator_finds_out_by_itself_whether_the_engine_is_there(engine: Engine, build: Build):
    generator = build()
    _until(lambda: generator.ready() == "ok")
    assert engine.checks == 1
    assert not engine.asked


def test_ready_says_why_not(engine: Engine, build: Build):
    engine.models_status = 401
    generator = build()
    _until(lambda: "API key" in generator.ready())
    engine.models_status = 503
    generator = build()
    _until(lambda: "503" in generator.ready())
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
    generator = build(url=url)
    _until(lambda: "cannot be reached" in generator.ready())


# Bugs of the caller


def test_a_delivery_that_raises_ends_the_reply_and_nothing_else(engine: Engine, build: Build):
    generator = build(queue=1)

    def broken(delivery: Delivery) -> None:
        raise RuntimeError("a bug upstream")

    generator.start(PROMPT, SAMPLING, broken)
    _until(lambda: _has_room(generator))
    _until(lambda: engine.open == 0)
