"""A model directory's weights into memory: where they go, in what form, and what has to be there for that."""

from __future__ import annotations

import importlib.util
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, GenerationConfig

from rag_service.errors import InvalidConfiguration
from rag_service.inference.model_directory import ModelDirectory, Quantization

CGROUP = Path("/sys/fs/cgroup")
_FAULTS = (
    OSError, ValueError, RuntimeError, ImportError, MemoryError, EOFError, SafetensorError, pickle.UnpicklingError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """`gpus[n]` is what device n has left; `ram_bytes` what this process may still take."""

    gpus: tuple[int, ...]
    ram_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(self.gpus) + self.ram_bytes


def free_memory(cgroup: Path = CGROUP) -> FreeMemory:
    """Now. A container's own limit counts, which the machine's figures do not show."""
    gpus = tuple(torch.cuda.mem_get_info(n)[0] for n in range(torch.cuda.device_count()))
    available = int(psutil.virtual_memory().available)
    limit = _cgroup_free(cgroup)
    return FreeMemory(gpus, available if limit is None else min(available, limit))


def load(found: ModelDirectory, dtype: str, quantization: Quantization, cache_bytes: int) -> Any:
    """The model, ready to run, spread by accelerate over the GPUs and then RAM where one GPU is not enough.

    `cache_bytes` stay free on the GPUs together. The model's own generation settings are dropped: every one that is
    used comes with the request. Raises InvalidConfiguration.
    """
    if quantization != "none" and importlib.util.find_spec("bitsandbytes") is None:
        raise InvalidConfiguration(f"{quantization} needs bitsandbytes: pip install 'youju[gpu]'", reason="packages")
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            found.path,
            device_map="auto",
            max_memory=_shares(free_memory(), cache_bytes),
            dtype="auto" if dtype == "auto" else getattr(torch, dtype),
            quantization_config=_bitsandbytes(quantization, dtype),
            use_safetensors=found.safetensors,
            attn_implementation="sdpa",
            local_files_only=True,
            output_loading_info=True,
        )
    except _FAULTS as error:
        raise InvalidConfiguration(f"{found.path} could not be loaded: {error}", reason="loading") from error
    missing = sorted(report["missing_keys"])
    if missing:
        # They would be left at random.
        raise InvalidConfiguration(
            f"{found.path} has no weights for {len(missing)} parts of the model, among them {missing[0]}",
            reason="incomplete",
            missing=missing,
        )
    model.generation_config = GenerationConfig()
    return model.eval()


def on_one_device(model: Any) -> bool:
    """Continuous batching keeps one cache on one device; a model that accelerate has spread out cannot use it."""
    return len(set(getattr(model, "hf_device_map", {}).values())) <= 1


def _shares(free: FreeMemory, cache_bytes: int) -> dict[int | str, int] | None:
    if not free.gpus:
        return None
    # What a prompt's activations and the CUDA context take besides.
    spare = cache_bytes // len(free.gpus) + 2**30
    shares: dict[int | str, int] = {n: max(size - spare, 0) for n, size in enumerate(free.gpus)}
    return shares | {"cpu": free.ram_bytes}


def _bitsandbytes(quantization: Quantization, dtype: str) -> BitsAndBytesConfig | None:
    if quantization == "none":
        return None
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    compute = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
    return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)


def _cgroup_free(cgroup: Path) -> int | None:
    limit = _number(cgroup / "memory.max")
    used = _number(cgroup / "memory.current")
    if limit is None or used is None:
        return None
    lines = (cgroup / "memory.stat").read_text().splitlines() if (cgroup / "memory.stat").is_file() else []
    # Cached files are given up before anything is refused.
    cached = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    return max(limit - used + cached, 0)


def _number(path: Path) -> int | None:
    """None for a file that is not there and for `max`."""
    text = path.read_text().strip() if path.is_file() else ""
    return int(text) if text.isdigit() else None
