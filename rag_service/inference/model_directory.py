"""What can be said of a model directory before its weights are loaded: whether it will work, and why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from rag_service.errors import InvalidConfiguration

Quantization = Literal["none", "8bit", "4bit"]

SUPPORTED = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Decoders whose attention reads all of the window, tested with both ways of decoding."""
VALUE_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
# One byte, or half a byte and a scale of four for every 64 weights; embedding and output stay at two.
QUANTISED_BYTES = {"8bit": 1.0, "4bit": 0.5 + 4 / 64}
PROBES = (
    "### Human: 你好\n\n### Assistant: ",
    "Hello world",
    " a leading blank",
    "公司的年假制度是什么？[1][3]。",
    "1,234.5 kg · 2024-05-01\t\r\n    indented\n\n\n",
    "naïve café 😀 𠮷野家 한국어 Ω≈ç",
    "def f(x):\n    return x[0] # {}",
    "<p>&nbsp;</p> -- … “引号”",
)
"""Texts on which tokenizers that are not the same differ: blanks, line ends, digits, both languages, byte fallback."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes that follow from a model's config.json. All bytes are per token, but for `logits_bytes`, per request."""

    layers: int
    heads: int
    key_value_heads: int
    head_size: int
    hidden_size: int
    vocabulary: int
    positions: int
    value_bytes: int

    @property
    def cache_bytes(self) -> int:
        return 2 * self.layers * self.key_value_heads * self.head_size * self.value_bytes

    @property
    def attention_bytes(self) -> int:
        """While one layer runs: its keys and values, and the same repeated for every query head."""
        return (2 * self.heads + self.key_value_heads) * self.head_size * self.value_bytes

    @property
    def logits_bytes(self) -> int:
        return self.hidden_size * self.value_bytes + self.vocabulary * 4


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """A directory that passed `inspect`. `weights_bytes` is what its files hold; `quantised` names AWQ, GPTQ, …"""

    path: Path
    architecture: str
    shape: Shape
    weights_bytes: int
    safetensors: bool
    quantised: str | None

    def loaded_bytes(self, dtype: str, quantization: Quantization) -> int:
        """Of the weights once loaded as `dtype` (`auto`: as stored), or through bitsandbytes."""
        if self.quantised is not None:
            return self.weights_bytes
        parameters = self.weights_bytes / self.shape.value_bytes
        if quantization != "none":
            outer = 2 * self.shape.vocabulary * self.shape.hidden_size
            return int(outer * 2 + max(parameters - outer, 0) * QUANTISED_BYTES[quantization])
        return int(parameters * VALUE_BYTES.get(dtype, self.shape.value_bytes))


def inspect(path: Path, window_tokens: int) -> ModelDirectory:
    """Reads config.json and the sizes of the weights' files. Raises InvalidConfiguration: no model directory, another
    architecture than a supported one, positions for less than the window, weights missing or incomplete."""
    config = _config(path)
    architecture = next(iter(config.get("architectures") or ()), "none")
    if architecture not in SUPPORTED:
        raise InvalidConfiguration(
            f"{path}: the architecture is {architecture}; supported are {', '.join(sorted(SUPPORTED))}",
            reason="architecture",
            architecture=architecture,
            supported=sorted(SUPPORTED),
        )
    shape = _shape(path, config)
    if shape.positions < window_tokens:
        raise InvalidConfiguration(
            f"{path}: the model has {shape.positions} positions, the window is {window_tokens} tokens",
            reason="window",
            positions=shape.positions,
            window_tokens=window_tokens,
        )
    size, safetensors = _weights(path)
    quantised = (config.get("quantization_config") or {}).get("quant_method")
    return ModelDirectory(path, architecture, shape, size, safetensors, quantised)


def check_quantization(model: ModelDirectory, quantization: Quantization) -> None:
    if model.quantised is not None and quantization != "none":
        raise InvalidConfiguration(
            f"{model.path} is quantised already ({model.quantised}): set the quantization to none",
            reason="quantised-twice",
            quantised=model.quantised,
        )


def check_memory(
    model: ModelDirectory, window_tokens: int, dtype: str, quantization: Quantization, free_bytes: int
) -> None:
    """Raises InvalidConfiguration unless weights and one full window fit into `free_bytes`, GPUs and RAM together."""
    weights = model.loaded_bytes(dtype, quantization)
    cache = window_tokens * model.shape.cache_bytes
    if weights + cache > free_bytes:
        raise InvalidConfiguration(
            f"{model.path} needs {_gib(weights)} for its weights and {_gib(cache)} for {window_tokens} tokens of "
            f"cache; free are {_gib(free_bytes)} on the GPUs and in RAM. Quantise it (8bit, 4bit), take an AWQ or "
            "GPTQ version, or run it elsewhere and set the generator to openai",
            reason="memory",
            weights_bytes=weights,
            cache_bytes=cache,
            free_bytes=free_bytes,
        )


def check_tokenizer(path: Path, encode: Callable[[str], Sequence[int]], highest_id: int, vocabulary: int) -> None:
    """Raises InvalidConfiguration where the directory's tokenizer.json gives other ids than `encode`, is not there, or
    where the model's `vocabulary` does not reach up to `highest_id`."""
    if vocabulary <= highest_id:
        raise InvalidConfiguration(
            f"{path}: the model knows {vocabulary} tokens, the prompts' highest id is {highest_id}",
            reason="vocabulary",
            vocabulary=vocabulary,
            highest_id=highest_id,
        )
    theirs = _tokenizer(path)
    for probe in PROBES:
        given, ours = theirs.encode(probe, add_special_tokens=True).ids, list(encode(probe))
        if given != ours:
            raise InvalidConfiguration(
                f"{path}/tokenizer.json gives other ids than the prompts are made with: {probe[:24]!r} becomes "
                f"{given[:6]}…, not {ours[:6]}…. If the model is SUS-Chat-34B, {_FIX}; if it is another, set the "
                "tokenizer to its tokenizer.json and choose its template",
                reason="tokenizer",
                probe=probe,
                ids=str(given),
                expected=str(ours),
            )


def tokenizer_trap(path: Path) -> str | None:
    """How transformers' `AutoTokenizer`, and so an engine that is sent strings, would misread the directory's right
    tokenizer.json: as a LlamaTokenizer it is rebuilt with a forced prefix blank (5.0 to 5.23). None where it is read
    right. No fault for Youju, which sends ids."""
    said = _json(path / "tokenizer_config.json") if (path / "tokenizer_config.json").is_file() else {}
    kind, prefix = said.get("tokenizer_class"), said.get("add_prefix_space")
    if kind not in ("LlamaTokenizer", "LlamaTokenizerFast") or prefix is False:
        return None
    return (
        f"{path}/tokenizer_config.json says {kind}: transformers puts a blank before every text then. Ids are sent, so "
        f"answers are not affected; an engine that is sent text would be wrong. To mend it, {_FIX}"
    )


def write_tokenizer(path: Path, tokenizer_json: bytes) -> None:
    """Puts `tokenizer_json` into a model directory, in a form that every reader reads as it is. What was there is kept
    beside it, with `.before` at its end. Raises InvalidConfiguration where there is no model."""
    _config(path)
    settings = path / "tokenizer_config.json"
    said = _json(settings) if settings.is_file() else {}
    for name in ("legacy", "use_fast", "sp_model_kwargs", "auto_map", "add_bos_token", "add_eos_token"):
        said.pop(name, None)
    said |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False}
    _replace(path / "tokenizer.json", tokenizer_json)
    _replace(settings, json.dumps(said, ensure_ascii=False, indent=2).encode())


_FIX = (
    "copy the tokenizer.json that Youju ships over it and set `tokenizer_class: PreTrainedTokenizerFast` and "
    "`add_prefix_space: false` in tokenizer_config.json (`youju tokenizer DIRECTORY` does both)"
)


def _config(path: Path) -> dict[str, Any]:
    if not (path / "config.json").is_file():
        raise InvalidConfiguration(f"{path} has no config.json: it is no model directory", reason="no-config")
    return _json(path / "config.json")


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InvalidConfiguration(f"{path}: {error}", reason="unreadable") from error
    if not isinstance(content, dict):
        raise InvalidConfiguration(f"{path} is no JSON object", reason="unreadable")
    return content


def _shape(path: Path, config: Mapping[str, Any]) -> Shape:
    try:
        return shape_of(config, VALUE_BYTES[config.get("dtype") or config.get("torch_dtype") or "float32"])
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise InvalidConfiguration(f"{path}/config.json lacks or misstates {error}", reason="unreadable") from error


def shape_of(config: Mapping[str, Any], value_bytes: int) -> Shape:
    heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
    return Shape(
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_size=int(config.get("head_dim") or hidden // heads),
        hidden_size=hidden,
        vocabulary=int(config["vocab_size"]),
        positions=int(config["max_position_embeddings"]),
        value_bytes=value_bytes,
    )


def _weights(path: Path) -> tuple[int, bool]:
    """Bytes of the weights, and whether they are safetensors, which are preferred to pickled ones."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = path / f"{stem}.{suffix}.index.json"
        names = set(_json(index).get("weight_map", {}).values()) if index.is_file() else {f"{stem}.{suffix}"}
        missing = sorted(name for name in names if not (path / name).is_file())
        if index.is_file() and missing:
            raise InvalidConfiguration(
                f"{path}: {len(missing)} of {len(names)} files of the weights are missing, among them {missing[0]}",
                reason="incomplete",
                missing=missing,
            )
        if names and not missing:
            return sum((path / name).stat().st_size for name in names), suffix == "safetensors"
    raise InvalidConfiguration(f"{path} has no weights, safetensors or .bin", reason="no-weights")


def _tokenizer(path: Path) -> Tokenizer:
    file = path / "tokenizer.json"
    if not file.is_file():
        raise InvalidConfiguration(
            f"{path} has no tokenizer.json to compare with the one prompts are made with. If the model is "
            f"SUS-Chat-34B, {_FIX}",
            reason="no-tokenizer",
        )
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:
        # The library raises nothing more precise.
        raise InvalidConfiguration(f"{file}: {error}", reason="unreadable") from error


def _replace(path: Path, content: bytes) -> None:
    kept = path.with_name(f"{path.name}.before")
    if path.exists() and path.read_bytes() != content and not kept.exists():
        path.rename(kept)
    written = path.with_name(f"{path.name}.new")
    written.write_bytes(content)
    written.replace(path)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
