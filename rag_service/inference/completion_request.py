"""The body of a completions request, with nothing left to what an engine takes when a member is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rag_service.types import Sampling

EXTENSIONS = (
    "top_k", "min_p", "repetition_penalty", "stop_token_ids", "min_tokens", "ignore_eos", "skip_special_tokens",
    "add_special_tokens", "repeat_penalty", "repeat_last_n", "typical_p", "top_n_sigma", "xtc_probability",
    "dry_multiplier", "dynatemp_range", "mirostat",
)  # fmt: skip
"""Members that are not OpenAI's. vLLM and SGLang take those up to `add_special_tokens` (SGLang all but that one) and
llama.cpp the rest, `top_k`, `min_p` and `ignore_eos`; each ignores what it does not know."""


def request_body(model: str, prompt: Sequence[int] | str, prompt_tokens: int, sampling: Sampling) -> bytes:
    """JSON. Left out, these would be: `max_tokens` 16, `temperature` 1.0 (llama.cpp 0.8), `top_k` 40 and `min_p` 0.05
    in llama.cpp, a start token before a text in vLLM, and in vLLM and llama.cpp whatever the model's files suggest."""
    members: dict[str, object] = {
        "model": model,
        "prompt": prompt if isinstance(prompt, str) else list(prompt),
        "stream": True,
        "stream_options": {"include_usage": True},
        "n": 1,
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "seed": sampling.seed,
        "stop": list(sampling.stop),
        # SGLang refuses 0 for "off"; vLLM takes 0 and -1, llama.cpp whatever is below 1.
        "top_k": sampling.top_k if sampling.top_k > 0 else -1,
        "min_p": 0.0,
        "repetition_penalty": sampling.repetition_penalty,
        "stop_token_ids": list(sampling.stop_ids),
        "min_tokens": 0,
        "ignore_eos": False,
        "skip_special_tokens": True,
        "add_special_tokens": False,
        # llama.cpp's name for it, and its reach: 64 tokens unless told, where the others look at everything.
        "repeat_penalty": sampling.repetition_penalty,
        "repeat_last_n": prompt_tokens + sampling.max_tokens,
        # llama.cpp's further samplers, off: a model file may turn them on.
        "typical_p": 1.0,
        "top_n_sigma": -1.0,
        "xtc_probability": 0.0,
        "dry_multiplier": 0.0,
        "dynatemp_range": 0.0,
        "mirostat": 0,
    }
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
