"""Models small enough for any test: SUS-Chat's architecture and vocabulary, random weights, the real tokenizer.

Whatever imports this is skipped where torch or transformers are not installed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

REASON = "a model in this process needs the extra [sus-chat]"
torch = pytest.importorskip("torch", reason=REASON)
transformers = pytest.importorskip("transformers", reason=REASON)
# Models this small only lose by threads that wait for each other.
torch.set_num_threads(1)

VOCABULARY = 64_000
WINDOW = 8_192
# Yi's special tokens, as its own tokenizer_config.json names them.
_NAMES = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<unk>", "unk_token": "<unk>"}


def tiny_llama(seed: int = 0) -> Any:
    """Two layers of 64; eight query and two key-value heads, so that grouped attention is exercised too."""
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=8,
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        rope_theta=5e6,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    return transformers.LlamaForCausalLM(config).eval()


def saying(ids: Sequence[int], context: float = 0.0) -> Any:
    """A model that follows each of `ids` with the next one. Only the first and the last may be the same.

    The output row of each id is the embedding of the one before it; attention and feed-forward add `context` times
    what they would. At 0 nothing else matters; at 40 what came before decides too, so that the model says runs of
    `ids` in an order of its own: text that can be drafted in part.
    """
    model = tiny_llama()
    assert len(set(ids[:-1])) == len(set(ids[1:])) == len(ids) - 1
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(context)
            layer.mlp.down_proj.weight.mul_(context)
        embedded = model.model.embed_tokens.weight
        embedded.copy_(torch.nn.functional.normalize(torch.randn_like(embedded), dim=-1))
        model.lm_head.weight.zero_()
        for token, following in itertools.pairwise(ids):
            model.lm_head.weight[following] = embedded[token]
    return model


def save_tiny_llama(directory: Path, model: Any = None, **tokenizer_config: Any) -> Path:
    """A model directory as a hub has it. `tokenizer_config` overrides what tokenizer_config.json says."""
    (model or tiny_llama()).save_pretrained(directory)
    shipped = resources.files("rag_service.prompting").joinpath("sus_chat_tokenizer.json").read_bytes()
    (directory / "tokenizer.json").write_bytes(shipped)
    said = _NAMES | {"tokenizer_class": "PreTrainedTokenizerFast", "add_prefix_space": False} | tokenizer_config
    (directory / "tokenizer_config.json").write_text(json.dumps(said), "utf-8")
    return directory
