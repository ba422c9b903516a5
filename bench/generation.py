"""Generation on a CPU with SmolLM2-135M, a real Llama: what prompt lookup and batching gain, and whether they say the
same as plain greedy decoding. Run alone: `python -m bench.generation --eval FOLDER [--gguf FILE]`.

Everything compared is measured in turns within one run, so that other load on the machine falls on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from bench import evalset
from bench.replies import ask_all
from bench.results import Result, markdown
from bench.smollm2 import download
from rag_service.inference.transformers_generator import Mode, TransformersGenerator
from rag_service.inference.transformers_reply import TimeLimits
from rag_service.types import Sampling

END = 2
"""`<|im_end|>`"""
COPIES = 3
REQUESTS = 8
ROUNDS = 2
WINDOW_TOKENS = 1_024
COPYING = Sampling(
    max_tokens=96, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=(), stop_ids=(END,)
)
ANSWERING = Sampling(
    max_tokens=48, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=(), stop_ids=(END,)
)
UNLIMITED = TimeLimits(3_600, 3_600, 3_600)


@dataclass(frozen=True)
class SmolLM2:
    model: Any
    tokenizer: Any

    def encode(self, instruction: str, passage: str) -> list[int]:
        asked = f"<|im_start|>user\n{instruction}\n\n{passage}<|im_end|>\n<|im_start|>assistant\n"
        ids: list[int] = self.tokenizer(asked, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def plain(self, prompt: Sequence[int], sampling: Sampling) -> list[int]:
        """transformers' own greedy `generate`, one token a step."""
        configuration = GenerationConfig(
            do_sample=False, max_new_tokens=sampling.max_tokens, eos_token_id=END, pad_token_id=0
        )
        ids = self.model.generate(torch.tensor([list(prompt)]), generation_config=configuration)[0].tolist()
        return list(ids[len(prompt) :])

    def generator(self, mode: Mode) -> TransformersGenerator:
        return TransformersGenerator(
            self.model,
            "SmolLM2-135M-Instruct",
            decode=self.decode,
            mode=mode,
            window_tokens=WINDOW_TOKENS,
            queue=REQUESTS,
            limits=UNLIMITED,
        )


def run(evaluation: Path, scratch: Path) -> list[Result]:
    return measured(evaluation, download(scratch))


def measured(evaluation: Path, gguf: Path) -> list[Result]:
    smol = _load(gguf)
    texts = [row["text"] for row in evalset.rows(evaluation, "passages", "xquad", "en")][::17]
    copies = [smol.encode("Copy this text, word for word:", text[:500]) for text in texts[:COPIES]]
    questions = [smol.encode("Summarise this text in two sentences:", text[:500]) for text in texts[:REQUESTS]]
    return _solo(smol, copies) + _batched(smol, questions)


def _solo(smol: SmolLM2, prompts: Sequence[Sequence[int]]) -> list[Result]:
    generator = smol.generator("solo")
    plain, lookup = _in_turns(
        lambda: [smol.plain(prompt, COPYING) for prompt in prompts],
        lambda: [ask_all(generator, [prompt], COPYING)[0][0] for prompt in prompts],
    )
    generator.close()
    equal = _equality(smol, prompts, plain.last, [reply.text for reply in lookup.last])
    tokens = sum(map(len, plain.last))
    gain = plain.seconds / lookup.seconds
    return [
        Result(
            f"solo with prompt lookup, {len(prompts)} texts copied, against plain greedy",
            "≥ 1.3 ×",
            f"{gain:.2f} × ({tokens / lookup.seconds:.1f} and {tokens / plain.seconds:.1f} tokens/s)",
            gain >= 1.3,
        ),
        Result("solo says what plain greedy says", "all", equal.said, equal.all),
    ]


def _batched(smol: SmolLM2, prompts: Sequence[Sequence[int]]) -> list[Result]:
    batched, solo = smol.generator("batched"), smol.generator("solo")
    plain, alone, together = _in_turns(
        lambda: [smol.plain(prompt, ANSWERING) for prompt in prompts],
        lambda: [ask_all(solo, [prompt], ANSWERING)[0][0] for prompt in prompts],
        lambda: ask_all(batched, prompts, ANSWERING)[0],
    )
    batched.close()
    solo.close()
    equal = _equality(smol, prompts, plain.last, [reply.text for reply in together.last])
    tokens = sum(map(len, plain.last))
    gain = plain.seconds / together.seconds
    return [
        Result(
            f"batched, {len(prompts)} requests at once, against one after another",
            "≥ 2 ×",
            f"{gain:.2f} × ({tokens / together.seconds:.1f} and {tokens / plain.seconds:.1f} tokens/s)",
            gain >= 2,
        ),
        Result(
            "the same against one after another in solo mode", "–", f"{alone.seconds / together.seconds:.2f} ×", None
        ),
        Result("batched says what plain greedy says", "all", equal.said, equal.all),
    ]


@dataclass(frozen=True)
class Measured:
    """The quickest round, and what the last one gave."""

    seconds: float
    last: list[Any]


def _in_turns(*ways: Callable[[], list[Any]]) -> list[Measured]:
    rounds: list[list[tuple[float, list[Any]]]] = [[_timed(way) for way in ways] for _ in range(ROUNDS)]
    return [Measured(min(seconds for seconds, _ in way), way[-1][1]) for way in zip(*rounds, strict=True)]


def _timed(way: Callable[[], list[Any]]) -> tuple[float, list[Any]]:
    begun = time.perf_counter()
    made = way()
    return time.perf_counter() - begun, made


@dataclass(frozen=True)
class Equality:
    said: str
    all: bool


def _equality(
    smol: SmolLM2, prompts: Sequence[Sequence[int]], plain: Sequence[Sequence[int]], texts: Sequence[str]
) -> Equality:
    """Where a text differs, the gap is how much the scores of the two best tokens differ at the closest call."""
    expected = [smol.decode(ids) for ids in plain]
    unequal = [n for n, text in enumerate(texts) if text != expected[n]]
    said = f"{len(texts) - len(unequal)} of {len(texts)} equal"
    if unequal:
        gaps = [_closest_call(smol, prompts[n], plain[n]) for n in unequal]
        said += f"; closest calls in the others {', '.join(f'{gap:.1e}' for gap in gaps)}"
    return Equality(said, not unequal)


def _closest_call(smol: SmolLM2, prompt: Sequence[int], reply: Sequence[int]) -> float:
    with torch.inference_mode():
        scores = smol.model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
    best = scores.topk(2, dim=-1).values
    return float((best[:, 0] - best[:, 1]).min())


def _load(gguf: Path) -> SmolLM2:
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="sdpa"
    )
    model.generation_config = GenerationConfig()
    return SmolLM2(model.eval(), AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.generation", description=__doc__)
    parser.add_argument("--eval", type=Path, required=True, help="folder of the evaluation sets")
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf, downloaded when not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="youju-bench-") as scratch:
        results = measured(given.eval, given.gguf or download(Path(scratch)))
    print(markdown(results))
    return 0 if all(result.met is not False for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
