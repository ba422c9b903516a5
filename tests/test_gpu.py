"""The model in this process on a CUDA device, against what it says on the CPU."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_prompt_lookup import small
from test_reading import inputs
from test_transformers_generator import (
    COPYING,
    DRAWN,
    GREEDY,
    PROMPTS,
    TOKENS,
    UNHURRIED,
    Listener,
    ask,
    free_within_a_second,
    generator,
)
from tiny_llama import save_tiny_llama, tiny_llama, torch

from bench import gpu
from rag_service.inference import model_loading
from rag_service.inference.model_directory import inspect
from rag_service.inference.prompt_lookup import STEP_WIDTHS, replied
from rag_service.inference.reading import readings
from rag_service.inference.transformers_generator import Mode, Prompts, open_generator
from rag_service.inference.window_attention import attended
from rag_service.types import Finished

on_a_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, see [gpu]"),
]


def gpu_test(function: Any) -> Any:
    for mark in on_a_gpu:
        function = mark(function)
    return function


def test_the_bench_for_gpus_runs_through_with_a_tiny_shape() -> None:
    rows = gpu.measured(gpu.TINY, "cpu")
    assert [row.what.split()[0] for row in rows] == [
        "weights", "bandwidth", "prefill", "decoding", "reading", "batch", "batch",
    ]  # fmt: skip


def test_the_bench_for_gpus_measures_the_shape_of_sus_chat() -> None:
    with torch.device("meta"):
        model = gpu._random_model(gpu.SUS_CHAT, "meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == 34_388_917_248
    assert model.dtype == torch.bfloat16


@gpu_test
@pytest.mark.parametrize("mode", ["auto", "solo", "batched"])
def test_every_mode_says_on_a_gpu_what_plain_greedy_says_there(mode: Mode) -> None:
    model = tiny_llama().to("cuda")
    expected = [plainly_on_gpu(model, prompt) for prompt in PROMPTS]
    with generator(model, mode) as opened:
        listeners = [ask(opened, prompt) for prompt in PROMPTS]
        assert all(isinstance(listener.end(), Finished) for listener in listeners)
    assert [listener.text for listener in listeners] == expected


def plainly_on_gpu(model: Any, prompt: list[int]) -> str:
    said = plain_ids(model, prompt, GREEDY.max_tokens)
    # Up to the first that ends a reply, and with it.
    end = next((place + 1 for place, token in enumerate(said) if token in GREEDY.stop_ids), len(said))
    return TOKENS.decode(said[:end]).rstrip("\N{REPLACEMENT CHARACTER}")


def plain_ids(model: Any, prompt: list[int], tokens: int) -> list[int]:
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(tokens):
            ids.append(int(model(torch.tensor([ids], device="cuda")).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@gpu_test
def test_one_recording_says_reply_after_reply_what_plain_greedy_says() -> None:
    model = small("Llama", initializer_range=0.3, eos_token_id=None).to("cuda")
    sampling = replace(GREEDY, max_tokens=60, stop_ids=())
    prompts = [[5], [7, 8, 9] * 3, [5], list(range(3, 80)), [9, 8, 7] * 3]
    expected = [plain_ids(model, prompt, sampling.max_tokens) for prompt in prompts]
    begin = readings(model, 160, STEP_WIDTHS)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda _, given, named: calls.append(named["input_ids"].numel()), with_kwargs=True)
    said = [[token for step in replied(begin, prompt, sampling, 64) for token in step] for prompt in prompts]
    assert said == expected
    # All else was played back, without the model's Python.
    assert calls == [64, 12]


@gpu_test
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tokens", STEP_WIDTHS)
def test_attention_to_a_window_is_as_near_to_the_truth_as_torch_is(tokens: int, dtype: Any) -> None:
    query, keys, values, mask = (part.to("cuda") for part in inputs(tokens, 4, 7, 2_048, 128))
    scale = 128**-0.5
    torchs = torch.nn.functional.scaled_dot_product_attention
    rounded = [part.to(dtype) for part in (query, keys, values)]
    exact = [part.double() for part in rounded]
    truth = torchs(*exact, attn_mask=mask.double(), scale=scale, enable_gqa=True)
    theirs = torchs(*rounded, attn_mask=mask.to(dtype), scale=scale, enable_gqa=True)
    ours = attended(*rounded, attn_mask=mask, scale=scale)
    assert ours.dtype == dtype
    assert (ours - truth).abs().max() <= 1.5 * (theirs - truth).abs().max()


@gpu_test
def test_a_seed_says_the_same_on_a_gpu_and_beside_others() -> None:
    with generator(tiny_llama().to("cuda")) as opened:
        alone = ask(opened, PROMPTS[1], replace(DRAWN, seed=4))
        assert isinstance(alone.end(), Finished)
        crowd = [ask(opened, PROMPTS[2]), ask(opened, PROMPTS[1], replace(DRAWN, seed=4))]
        assert all(isinstance(listener.end(), Finished) for listener in crowd)
    assert crowd[1].text == alone.text


@gpu_test
@pytest.mark.parametrize("mode", ["solo", "batched"])
def test_cancelled_on_a_gpu_a_place_is_free_within_a_second(mode: Mode) -> None:
    with generator(tiny_llama().to("cuda"), mode, queue=1) as opened:
        listener = Listener()
        reply = opened.start(PROMPTS[3], replace(GREEDY, max_tokens=3_000, stop_ids=()), listener)
        listener.next()
        reply.cancel()
        assert free_within_a_second(opened)


@gpu_test
def test_running_out_of_gpu_memory_ends_the_reply_and_the_next_one_is_answered() -> None:
    model = tiny_llama().to("cuda")
    taken: list[Any] = []

    def take_too_much(*_: object) -> None:
        if not taken:
            taken.append(None)
            torch.empty(2**42, dtype=torch.uint8, device="cuda")

    with generator(model, "solo") as opened:
        model.register_forward_pre_hook(take_too_much)
        assert "out of memory" in str(ask(opened, PROMPTS[3]).end())
        assert isinstance(ask(opened, PROMPTS[3]).end(), Finished)


@gpu_test
def test_a_model_is_loaded_onto_the_gpu_by_itself(tmp_path: Path) -> None:
    path = save_tiny_llama(tmp_path / "tiny")
    loaded = model_loading.load(inspect(path, 512), "bfloat16", "none", 2**20)
    assert loaded.device.type == "cuda"
    assert loaded.dtype == torch.bfloat16
    assert model_loading.on_one_device(loaded)


@gpu_test
@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes, see [gpu]")
@pytest.mark.parametrize("quantization", ["8bit", "4bit"])
def test_a_quantised_model_answers_in_both_modes(tmp_path: Path, quantization: Any) -> None:
    path = save_tiny_llama(tmp_path / "tiny", COPYING)
    for mode in ("solo", "batched"):
        opened = open_generator(
            str(path),
            prompts=Prompts(TOKENS.encode, TOKENS.decode, TOKENS.highest_id),
            mode=mode,
            dtype="auto",
            quantization=quantization,
            window_tokens=1_024,
            queue=2,
            limits=UNHURRIED,
        )
        try:
            begun = time.monotonic()
            assert isinstance(ask(opened, PROMPTS[4]).end(), Finished)
            assert time.monotonic() - begun < 60
        finally:
            opened.close()
