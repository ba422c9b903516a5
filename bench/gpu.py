"""SUS-Chat-34B's shape on a GPU, random weights in bf16: load, prefill, decoding against the memory's bandwidth, and
batches. Run: `python -m bench.gpu`; `--tiny` runs the same on a CPU with a model of nothing, to know that it runs.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from bench.replies import Timed, ask_all
from bench.results import Result, markdown
from rag_service.inference.model_directory import Shape, shape_of
from rag_service.inference.prompt_lookup import STEP_WIDTHS, replied
from rag_service.inference.reading import Reading, readings
from rag_service.inference.transformers_generator import STEP_TOKENS, TransformersGenerator
from rag_service.inference.transformers_reply import TimeLimits
from rag_service.types import Sampling

UNLIMITED = TimeLimits(3_600, 3_600, 3_600)
STEPS = 20


@dataclass(frozen=True)
class Setup:
    """What is measured. `batch_prompt` and `batch_reply` are tokens of each request of a batch."""

    layers: int
    hidden: int
    inner: int
    heads: int
    key_value_heads: int
    vocabulary: int
    window: int
    decoded: int
    batches: tuple[int, ...]
    batch_prompt: int
    batch_reply: int
    bandwidth_bytes: int
    """Size of the block whose reading tells the bandwidth."""


SUS_CHAT = Setup(60, 7_168, 20_480, 56, 8, 64_000, 8_192, 64, (8, 32), 1_024, 64, 2**32)
TINY = Setup(2, 64, 160, 8, 2, 512, 512, 8, (2, 4), 64, 8, 2**22)


def measured(setup: Setup, device: str) -> list[Result]:
    begun = time.perf_counter()
    model = _random_model(setup, device)
    _wait(device)
    loaded = time.perf_counter() - begun
    shape = shape_of(model.config.to_dict(), model.dtype.itemsize)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return [
        Result("weights made on the device", "–", f"{loaded:.1f} s, {parameters * 2 / 2**30:.1f} GiB", None),
        *_one_stream(model, setup, shape, parameters, device),
        *_batches(model, setup),
    ]


def _one_stream(model: Any, setup: Setup, shape: Shape, parameters: int, device: str) -> list[Result]:
    bandwidth = _bandwidth(setup, device)
    prompt = _prompt(setup, setup.window - setup.decoded, seed=0)
    begin = readings(model, setup.window, STEP_WIDTHS)
    _solo(begin, device, prompt[: setup.batch_prompt], 4)  # Warm: kernels chosen, memory taken.
    prefill, decode = _solo(begin, device, prompt, setup.decoded)
    work = 2 * (parameters - setup.vocabulary * setup.hidden) * len(prompt)
    work += 2 * setup.layers * len(prompt) ** 2 * setup.hidden
    # Each step reads the weights, but for the embedding, and the cache.
    read = (parameters - setup.vocabulary * setup.hidden) * shape.value_bytes + len(prompt) * shape.cache_bytes
    limit, reached = bandwidth / read, setup.decoded / decode
    drafted = max(STEP_WIDTHS)
    one, several = _step_seconds(begin, device, prompt, (1, drafted))
    return [
        Result("bandwidth of the memory, read and written", "–", f"{bandwidth / 1e12:.2f} TB/s", None),
        Result(f"prefill of {len(prompt)} tokens", "–", f"{prefill:.2f} s, {work / prefill / 1e12:.0f} TFLOP/s", None),
        Result(
            f"decoding one stream at {len(prompt)} tokens, without drafts",
            "≥ 60 % of the bandwidth's limit",
            f"{reached:.1f} tokens/s of {limit:.1f}, {reached / limit:.0%}",
            reached / limit >= 0.6,
        ),
        Result(
            f"reading {drafted} tokens in one step, as with a draft",
            "–",
            f"{several * 1_000:.1f} ms, {several / one:.2f} times that of one",
            None,
        ),
    ]


def _solo(begin: Callable[[], Reading], device: str, prompt: Sequence[int], tokens: int) -> tuple[float, float]:
    """Seconds until the first token, and for `tokens` more."""
    sampling = replace(_GREEDY, max_tokens=tokens + 1)
    begun = time.perf_counter()
    steps = replied(begin, prompt, sampling, STEP_TOKENS[device], draft_tokens=0)
    ends = [time.perf_counter() for step in steps if step]
    return ends[0] - begun, ends[-1] - ends[0]


def _step_seconds(
    begin: Callable[[], Reading], device: str, prompt: Sequence[int], widths: Sequence[int]
) -> list[float]:
    """The usual step of each width at the end of `prompt`, until the CPU has the tokens that it chooses."""
    text, read = begin(), len(prompt) - max(widths)
    for start in range(0, read, STEP_TOKENS[device]):
        text.read(prompt[start : min(start + STEP_TOKENS[device], read)], keep=1)
    seconds = []
    for width in widths:
        steps = []
        for _ in range(STEPS):
            begun = time.perf_counter()
            text.read(prompt[-width:], keep=width).argmax(dim=-1).tolist()
            steps.append(time.perf_counter() - begun)
            text.take_back(width)
        seconds.append(statistics.median(steps))
    return seconds


def _batches(model: Any, setup: Setup) -> Iterator[Result]:
    for size in setup.batches:
        with _batched(model, setup, size) as ask:
            ask([_prompt(setup, setup.batch_prompt, seed=0)])
            replies, seconds = ask([_prompt(setup, setup.batch_prompt, seed) for seed in range(1, size + 1)])
        said = sum(reply.tokens for reply in replies)
        first = max(reply.first_seconds for reply in replies)
        rate = size * (setup.batch_reply - 1) / (seconds - first) if seconds > first else 0.0
        yield Result(
            f"batch of {size}, {setup.batch_prompt} tokens in, {setup.batch_reply} out",
            "–",
            f"{said / seconds:.0f} tokens/s with the prompts; about {rate:.0f} once all are read",
            None,
        )


@contextmanager
def _batched(
    model: Any, setup: Setup, size: int
) -> Iterator[Callable[[Sequence[Sequence[int]]], tuple[list[Timed], float]]]:
    generator = TransformersGenerator(
        model,
        "random",
        decode=lambda ids: " ".join(map(str, ids)),
        mode="batched",
        window_tokens=setup.batch_prompt + setup.batch_reply,
        queue=size,
        limits=UNLIMITED,
        batch_requests=size,
    )
    sampling = replace(_GREEDY, max_tokens=setup.batch_reply)
    try:
        yield lambda prompts: ask_all(generator, prompts, sampling)
    finally:
        generator.close()


_GREEDY = Sampling(
    max_tokens=1, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=(), stop_ids=()
)


def _random_model(setup: Setup, device: str) -> Any:
    config = LlamaConfig(
        vocab_size=setup.vocabulary,
        hidden_size=setup.hidden,
        intermediate_size=setup.inner,
        num_hidden_layers=setup.layers,
        num_attention_heads=setup.heads,
        num_key_value_heads=setup.key_value_heads,
        max_position_embeddings=setup.window,
        rope_theta=5e6,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        dtype="bfloat16",
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    model.generation_config = GenerationConfig()
    return model


def _prompt(setup: Setup, tokens: int, seed: int) -> list[int]:
    ids: list[int] = torch.randint(
        3, setup.vocabulary, (tokens,), generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return ids


def _bandwidth(setup: Setup, device: str) -> float:
    """Bytes a second of a copy, read and write counted, the best of a few."""
    block = torch.empty(setup.bandwidth_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(block)
    best = 0.0
    for _ in range(5):
        _wait(device)
        begun = time.perf_counter()
        target.copy_(block)
        _wait(device)
        best = max(best, 2 * setup.bandwidth_bytes / (time.perf_counter() - begun))
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _where(device: str) -> str:
    if device != "cuda":
        return "CPU, a tiny shape: no figure here means anything"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    return f"{torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape on the CPU")
    given = parser.parse_args()
    if not given.tiny and not torch.cuda.is_available():
        raise SystemExit("there is no CUDA device; --tiny runs without")
    device = "cpu" if given.tiny else "cuda"
    results = measured(TINY if given.tiny else SUS_CHAT, device)
    print(f"{datetime.date.today()}, {_where(device)}, torch {torch.__version__}\n")
    print(markdown(results))
    return 0 if given.tiny or all(result.met is not False for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
