from __future__ import annotations

import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from conftest import wait_until
from tiny_llama import VOCABULARY, saying, tiny_llama, torch, transformers

from rag_service.errors import (
    GenerationFailed,
    GeneratorTimeout,
    GeneratorUnavailable,
    InvalidConfiguration,
    Overloaded,
    YoujuError,
)
from rag_service.inference import transformers_generator
from rag_service.inference.continuous_batching import BatchPlan, planned
from rag_service.inference.model_directory import Shape, shape_of
from rag_service.inference.transformers_generator import Mode, TransformersGenerator
from rag_service.inference.transformers_reply import TimeLimits
from rag_service.prompting import tokenizer
from rag_service.types import Finished, Sampling, Usage

TOKENS = tokenizer.load("sus-chat-34b")
END = 2
BLANK = 59568
GREEDY = Sampling(
    max_tokens=40, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=(), stop_ids=(END,)
)
DRAWN = replace(GREEDY, temperature=0.8, top_p=0.95)
UNHURRIED = TimeLimits(first_token_seconds=60, between_tokens_seconds=60, total_seconds=90)
RANDOM = tiny_llama()
ROUND = random.Random(3).sample(range(100, VOCABULARY), 60)
COPYING = saying([*ROUND, ROUND[0]], context=40)


class Listener:
    """Collects what is delivered; the last delivery is a Finished or an error."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.last: Finished | YoujuError | None = None
        self._came: queue.Queue[str | Finished | YoujuError] = queue.Queue()

    def __call__(self, delivery: str | Finished | YoujuError) -> None:
        assert self.last is None, "nothing follows the end"
        if isinstance(delivery, str):
            assert delivery, "no piece is empty"
            self.pieces.append(delivery)
        else:
            self.last = delivery
        self._came.put(delivery)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def next(self, seconds: float = 60.0) -> str | Finished | YoujuError:
        return self._came.get(timeout=seconds)

    def end(self, seconds: float = 60.0) -> Finished | YoujuError:
        while isinstance(delivery := self.next(seconds), str):
            pass
        return delivery


@contextmanager
def generator(model: Any = RANDOM, mode: Mode = "auto", **other: Any) -> Iterator[TransformersGenerator]:
    settings = {"queue": 16, "limits": UNHURRIED, "window_tokens": 4_096} | other
    opened = TransformersGenerator(model, "tiny", decode=TOKENS.decode, mode=mode, **settings)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def before_each_step(model: Any, do: Callable[[], object]) -> Iterator[None]:
    def hook(*_: object) -> None:
        do()

    registered = model.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        registered.remove()


def ask(opened: TransformersGenerator, prompt: Sequence[int], sampling: Sampling = GREEDY) -> Listener:
    listener = Listener()
    opened.start(prompt, sampling, listener)
    return listener


def plainly(model: Any, prompt: Sequence[int], sampling: Sampling = GREEDY) -> str:
    """The text of transformers' own greedy `generate`."""
    configuration = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=sampling.max_tokens, pad_token_id=0, eos_token_id=list(sampling.stop_ids)
    )
    ids = model.generate(torch.tensor([list(prompt)]), generation_config=configuration)[0].tolist()
    return TOKENS.decode(ids[len(prompt) :]).rstrip("\N{REPLACEMENT CHARACTER}")


def script(text: str) -> tuple[Any, list[int]]:
    """A model that answers the prompt `[BLANK]` with `text` and id 2; and the ids of the text."""
    ids = TOKENS.encode(text)
    return saying([BLANK, *ids, END]), ids


PROMPTS = [random.Random(n).sample(range(100, VOCABULARY), n) for n in (1, 5, 300, 700)] + [ROUND * 5, ROUND * 9]

either_mode = pytest.mark.parametrize("mode", ["solo", "batched"])


@pytest.mark.parametrize("mode", ["auto", "solo", "batched"])
@pytest.mark.parametrize("model", [RANDOM, COPYING], ids=["random", "copying"])
def test_every_mode_says_what_plain_greedy_says_alone_and_side_by_side(mode: Mode, model: Any) -> None:
    expected = [plainly(model, prompt) for prompt in PROMPTS]
    with generator(model, mode) as opened:
        for prompt, text in zip(PROMPTS, expected, strict=True):
            listener = ask(opened, prompt)
            assert isinstance(listener.end(), Finished)
            assert listener.text == text
        listeners = [ask(opened, prompt) for prompt in PROMPTS]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
        assert [listener.text for listener in listeners] == expected


def test_auto_is_solo_for_one_and_batched_from_the_second_on() -> None:
    steps: list[str] = []
    gate = threading.Event()

    def step() -> None:
        steps.append(threading.current_thread().name)
        gate.wait(60)

    with generator() as opened, before_each_step(RANDOM, step):
        first = ask(opened, [5])
        wait_until(lambda: steps == ["youju-solo"])
        second = ask(opened, [6])
        wait_until(lambda: len(steps) == 2)
        assert steps[1] != "youju-solo", "the second began although the first is not done"
        gate.set()
        assert isinstance(first.end(), Finished)
        assert isinstance(second.end(), Finished)


def test_two_steps_never_run_at_once() -> None:
    # They share the model's configuration, which transformers changes while one runs.
    inside, most = itertools.count(), [0]
    running: set[int] = set()

    def enter(*_: object) -> None:
        running.add(threading.get_ident())
        most[0] = max(most[0], len(running))
        next(inside)
        time.sleep(0.002)

    def leave(*_: object) -> None:
        running.discard(threading.get_ident())

    model = tiny_llama()
    model.model.layers[0].register_forward_pre_hook(enter)
    model.model.layers[1].register_forward_hook(leave)
    with generator(model) as opened:
        listeners = [ask(opened, prompt) for prompt in PROMPTS]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
    assert next(inside) > 80
    assert most == [1]


def test_the_name_says_which_model_answers() -> None:
    with generator() as opened:
        assert opened.name == "transformers:tiny"
        assert opened.ready() == "ok"


@either_mode
def test_a_stop_id_ends_the_reply_and_is_counted_but_not_said(mode: Mode) -> None:
    model, ids = script("好的，谢谢")
    with generator(model, mode) as opened:
        listener = ask(opened, [9, BLANK])
        assert listener.end() == Finished("stop", Usage(2, len(ids) + 1))
        assert listener.text == "好的，谢谢"


@either_mode
def test_max_tokens_end_the_reply(mode: Mode) -> None:
    with generator(mode=mode) as opened:
        listener = ask(opened, [5, 6, 7], replace(GREEDY, max_tokens=9, stop_ids=()))
        assert listener.end() == Finished("length", Usage(3, 9))


@either_mode
def test_a_stop_text_split_over_tokens_ends_the_reply_and_no_part_of_it_is_said(mode: Mode) -> None:
    model, ids = script("好的。\n### Human: hello")
    head = TOKENS.encode("好的。\n### Human")
    assert ids[: len(head)] == head
    assert len(head) > 4
    with generator(model, mode) as opened:
        listener = ask(opened, [BLANK], replace(GREEDY, stop=("### Human", "### Assistant")))
        assert listener.end() == Finished("stop", Usage(1, len(head)))
        assert listener.text == "好的。\n"
        assert not any("#" in piece for piece in listener.pieces)


@either_mode
def test_what_only_looked_like_a_stop_text_is_said(mode: Mode) -> None:
    said = "好###说"
    model, _ = script(said)
    with generator(model, mode) as opened:
        listener = ask(opened, [BLANK], replace(GREEDY, stop=("### Human", "说明书")))
        assert isinstance(listener.end(), Finished)
        assert listener.text == said


@either_mode
def test_no_half_character_is_said(mode: Mode) -> None:
    said = "a𠮷b龘c"
    model, ids = script(said)
    assert len(ids) > len(said)
    with generator(model, mode) as opened:
        whole = ask(opened, [BLANK])
        cut = ask(opened, [BLANK], replace(GREEDY, max_tokens=3))
        assert isinstance(whole.end(), Finished)
        assert cut.end() == Finished("length", Usage(1, 3))
    assert (whole.text, whole.pieces[1], cut.text) == (said, "𠮷", "a")


def test_a_seed_says_the_same_alone_and_beside_others() -> None:
    prompt = PROMPTS[2]
    with generator() as opened:
        alone = ask(opened, prompt, replace(DRAWN, seed=4))
        assert isinstance(alone.end(), Finished)
        others = [ask(opened, other) for other in PROMPTS]
        crowd = [ask(opened, prompt, replace(DRAWN, seed=seed)) for seed in (5, 4, 6, 4)]
        assert all(isinstance(listener.end(), Finished) for listener in others + crowd)
    assert [listener.text == alone.text for listener in crowd] == [False, True, False, True]


@pytest.mark.parametrize("sampling", [DRAWN, replace(GREEDY, repetition_penalty=1.2)], ids=["drawn", "penalised"])
def test_what_a_batch_cannot_honour_is_solo_in_batched_mode_too(sampling: Sampling) -> None:
    with generator(mode="solo") as opened:
        solo = ask(opened, PROMPTS[1], sampling)
        assert isinstance(solo.end(), Finished)
    with generator(mode="batched") as opened:
        listeners = [ask(opened, PROMPTS[1], sampling) for _ in range(2)]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
    assert [listener.text for listener in listeners] == [solo.text] * 2


def test_the_models_own_generation_settings_do_not_matter() -> None:
    model = tiny_llama()
    model.generation_config = transformers.GenerationConfig(
        do_sample=True, temperature=5.0, max_new_tokens=3, repetition_penalty=3.0, eos_token_id=list(range(64_000))
    )
    for mode in ("solo", "batched"):
        with generator(model, mode) as opened:
            listener = ask(opened, PROMPTS[1])
            assert isinstance(listener.end(), Finished)
            assert listener.text == plainly(RANDOM, PROMPTS[1])


def free_within_a_second(opened: TransformersGenerator) -> bool:
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        try:
            ask(opened, [5], replace(GREEDY, max_tokens=1))
        except Overloaded:
            time.sleep(0.02)
        else:
            return True
    return False


def test_cancelled_in_the_queue_its_place_is_free_at_once() -> None:
    gate = threading.Event()
    with generator(mode="solo", queue=2) as opened, before_each_step(RANDOM, lambda: gate.wait(60)):
        ask(opened, [5])
        waiting = Listener()
        reply = opened.start([6], GREEDY, waiting)
        with pytest.raises(Overloaded):
            ask(opened, [7])
        reply.cancel()
        reply.cancel()
        third = ask(opened, [7])
        gate.set()
        assert isinstance(third.end(), Finished)
        assert waiting.pieces == []
        assert waiting.last is None


@either_mode
def test_cancelled_in_a_long_prompt_its_place_is_free_within_a_second(mode: Mode) -> None:
    steps = itertools.count()
    with generator(mode=mode, queue=1) as opened, before_each_step(RANDOM, lambda: (next(steps), time.sleep(0.2))):
        listener = Listener()
        reply = opened.start(ROUND * 60, GREEDY, listener)
        wait_until(lambda: next(steps) > 3)
        reply.cancel()
        assert free_within_a_second(opened)
        assert listener.pieces == []
        assert listener.last is None


@either_mode
def test_cancelled_between_tokens_nothing_more_is_said_and_the_model_rests(mode: Mode) -> None:
    steps: list[float] = []

    def step() -> None:
        steps.append(time.monotonic())
        time.sleep(0.05)

    with generator(mode=mode, queue=1) as opened, before_each_step(RANDOM, step):
        listener = Listener()
        reply = opened.start([5, 6], replace(GREEDY, max_tokens=2_000), listener)
        listener.next()
        listener.next()
        reply.cancel()
        cancelled = time.monotonic()
        said = list(listener.pieces)
        time.sleep(1.0)
        assert steps[-1] - cancelled < 0.8
        assert listener.pieces == said
        assert listener.last is None
        assert free_within_a_second(opened)


def test_a_listener_may_cancel_from_inside_a_delivery() -> None:
    for mode in ("solo", "batched"):
        with generator(mode=mode, queue=1) as opened:
            heard: list[object] = []
            replies: queue.Queue[Any] = queue.Queue()

            def hear(delivery: object, heard: list[object] = heard, replies: queue.Queue[Any] = replies) -> None:
                heard.append(delivery)
                replies.get(timeout=60).cancel()

            replies.put(opened.start([5], GREEDY, hear))
            wait_until(lambda heard=heard: len(heard) == 1)
            assert free_within_a_second(opened)
            assert len(heard) == 1


def test_a_listener_that_fails_costs_its_own_reply_only() -> None:
    def broken(_: object) -> None:
        raise RuntimeError("nobody listens")

    for mode in ("solo", "batched"):
        with generator(mode=mode, queue=2) as opened:
            opened.start([5], GREEDY, broken)
            assert isinstance(ask(opened, [6]).end(), Finished)
            assert opened.ready() == "ok"


def test_one_reply_too_many_is_refused_with_a_time_to_come_back() -> None:
    gate = threading.Event()
    for mode in ("solo", "batched", "auto"):
        gate.clear()
        with generator(mode=mode, queue=3) as opened, before_each_step(RANDOM, lambda: gate.wait(60)):
            listeners = [ask(opened, [n]) for n in (5, 6, 7)]
            with pytest.raises(Overloaded) as refused:
                ask(opened, [8])
            assert refused.value.data["retry_after_seconds"] >= 1
            gate.set()
            assert all(isinstance(listener.end(), Finished) for listener in listeners)
            wait_until(lambda opened=opened: isinstance(ask(opened, [8]).end(), Finished))


def timed_out(listener: Listener) -> tuple[object, object]:
    error = listener.end(10)
    assert isinstance(error, GeneratorTimeout)
    return error.data["limit"], error.data["seconds"]


@either_mode
def test_a_model_that_hangs_before_its_first_token_times_out(mode: Mode) -> None:
    gate = threading.Event()
    limits = replace(UNHURRIED, first_token_seconds=0.3)
    with generator(mode=mode, limits=limits) as opened, before_each_step(RANDOM, lambda: gate.wait(60)):
        listener = ask(opened, [5])
        assert timed_out(listener) == ("first_token", 0.3)
        gate.set()
        assert isinstance(ask(opened, [6]).end(), Finished), "the worker lives on"


@either_mode
def test_a_model_that_hangs_between_tokens_times_out(mode: Mode) -> None:
    gate, steps = threading.Event(), itertools.count()
    limits = replace(UNHURRIED, between_tokens_seconds=0.3)
    hang = before_each_step(RANDOM, lambda: next(steps) >= 3 and gate.wait(60))
    with generator(mode=mode, limits=limits) as opened, hang:
        listener = ask(opened, [5])
        assert timed_out(listener) == ("between_tokens", 0.3)
        assert listener.pieces
        gate.set()
        assert isinstance(ask(opened, [6]).end(), Finished)


@either_mode
def test_a_reply_that_goes_on_for_too_long_times_out(mode: Mode) -> None:
    limits = replace(UNHURRIED, total_seconds=0.5)
    with generator(mode=mode, limits=limits) as opened, before_each_step(RANDOM, lambda: time.sleep(0.02)):
        assert timed_out(ask(opened, [5], replace(GREEDY, max_tokens=2_000))) == ("total", 0.5)


@either_mode
@pytest.mark.parametrize("fault", [RuntimeError("a kernel failed"), torch.OutOfMemoryError("2 GiB"), MemoryError()])
def test_a_fault_of_the_model_ends_the_reply_and_the_next_one_is_answered(mode: Mode, fault: Exception) -> None:
    steps = itertools.count()

    def fail_once() -> None:
        if next(steps) == 3:
            raise fault

    with generator(mode=mode) as opened, before_each_step(RANDOM, fail_once):
        failed = ask(opened, [5])
        error = failed.end()
        assert isinstance(error, GenerationFailed)
        assert error.data == {"prompt_tokens": 1, "completion_tokens": 3}
        again = ask(opened, [5])
        assert isinstance(again.end(), Finished)
        assert again.text == plainly(RANDOM, [5])
        assert opened.ready() == "ok"


def test_many_faults_in_a_row_end_each_reply_once() -> None:
    def fail() -> None:
        raise RuntimeError("a kernel failed")

    with generator() as opened, before_each_step(RANDOM, fail):
        for _ in range(3):
            listeners = [ask(opened, [n]) for n in (5, 6, 7, 8)]
            assert all(isinstance(listener.end(), GenerationFailed) for listener in listeners)


@pytest.mark.parametrize("prompt", [[], [5] * 100], ids=["empty", "too long"])
def test_a_prompt_that_does_not_fit_fails_with_its_sizes(prompt: list[int]) -> None:
    for mode in ("solo", "batched"):
        with generator(mode=mode, window_tokens=128, queue=1) as opened:
            error = ask(opened, prompt).end()
            assert isinstance(error, GenerationFailed)
            assert error.data == {"prompt_tokens": len(prompt), "max_tokens": 40, "window_tokens": 128}
            assert free_within_a_second(opened)


def test_closing_ends_the_replies_and_the_threads() -> None:
    before = set(threading.enumerate())
    with generator() as opened, before_each_step(RANDOM, lambda: time.sleep(0.02)):
        listeners = [ask(opened, [n], replace(GREEDY, max_tokens=2_000)) for n in (5, 6, 7)]
        listeners.append(ask(opened, [8], replace(DRAWN, max_tokens=2_000)))
        opened.close()
        assert [type(listener.end(5)) for listener in listeners] == [GeneratorUnavailable] * 4
        assert set(threading.enumerate()) == before
        with pytest.raises(GeneratorUnavailable):
            ask(opened, [5])
        assert opened.ready() != "ok"


def test_more_replies_than_the_batch_holds_are_all_answered() -> None:
    prompts = [ROUND[n:] * 8 for n in range(10)]
    with generator(COPYING, "batched", window_tokens=1_024, batch_requests=2) as opened:
        listeners = [ask(opened, prompt) for prompt in prompts]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
        assert [listener.text for listener in listeners] == [plainly(COPYING, prompt) for prompt in prompts]


SUS_CHAT = Shape(
    layers=60,
    heads=56,
    key_value_heads=8,
    head_size=128,
    hidden_size=7_168,
    vocabulary=64_000,
    positions=8_192,
    value_bytes=2,
)


def test_the_sizes_of_sus_chat_are_those_of_its_architecture() -> None:
    assert SUS_CHAT.cache_bytes == 240 * 1024
    assert SUS_CHAT.cache_bytes * 8_192 == 1.875 * 2**30
    assert shape_of(RANDOM.config.to_dict(), 4).cache_bytes == 2 * 2 * 2 * 8 * 4


def test_a_batch_takes_what_memory_there_is_and_never_less_than_one_window() -> None:
    def plan(gib: float) -> BatchPlan | None:
        return planned(SUS_CHAT, 8_192, 32, 2_048, int(gib * 2**30))

    roomy, tight = plan(200), plan(20)
    assert roomy is not None
    assert tight is not None
    assert roomy.pages * 256 >= 32 * 8_192
    assert 8_192 <= tight.pages * 256 < 10 * 8_192
    assert plan(2) is None


def test_without_room_for_a_batch_auto_is_solo_and_batched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_generator, "_free_bytes", lambda device: 1_000)
    with generator() as opened:
        listeners = [ask(opened, [n]) for n in (5, 6)]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
    with pytest.raises(InvalidConfiguration, match="not even one window"), generator(mode="batched"):
        pass


def test_a_model_on_several_devices_is_solo() -> None:
    model = tiny_llama()
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    with pytest.raises(InvalidConfiguration, match="several devices"), generator(model, "batched"):
        pass
