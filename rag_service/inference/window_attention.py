"""Attention of a few tokens to a window of one text's keys and values, all of it read behind a mask.

torch's kernels for a mask let few of a GPU's processors read most of such a window: 175 µs a layer for 8,448 tokens
of 8 key-value heads of 128 in bfloat16, one query or eleven, on an H200 with torch 2.11. Two matrix products and a
softmax between them took 33 and 89 there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

PARTS = 16
"""Of the window, whose tokens must be a multiple of it: so that each head's values are summed by several processors."""


class UnknownAttention(NotImplementedError):
    """A model asks of attention what is not done here."""


class WindowAttention(TorchFunctionMode):  # type: ignore[misc]  # torch is not typed here
    """Inside of `with`, a model on this thread that calls torch's attention is given that to a window."""

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        chosen = attended if function is functional.scaled_dot_product_attention else function
        return chosen(*args, **(kwargs or {}))


def attended(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, *, attn_mask: torch.Tensor, scale: float, **more: Any
) -> torch.Tensor:
    """What `scaled_dot_product_attention` says where each row of a batch is one token of the same text.

    `query` is [tokens, heads, 1, size] or, packed by transformers, [tokens, key-value heads, heads of each, size];
    `keys` and `values` are [tokens, key-value heads, window, size] and the same for every token; `attn_mask`, float32
    [tokens, 1, 1, window], is added to the scores. Scores, softmax and sums are float32. Raises UnknownAttention.
    """
    tokens, heads, window, _ = keys.shape
    _check(attn_mask, (tokens, 1, 1, window), more)
    rows = query.reshape(tokens, heads, -1, query.shape[-1]).transpose(0, 1).flatten(1, 2)
    scores = _product(rows, keys[0].transpose(1, 2)).view(heads, tokens, -1, window)
    weights = torch.add(attn_mask.transpose(0, 1), scores, alpha=scale).softmax(dim=-1)
    parts = weights.view(heads, -1, PARTS, window // PARTS).transpose(1, 2)
    # Conversion and copy are one kernel like this.
    parts = parts.to(values.dtype, memory_format=torch.contiguous_format).reshape(heads * PARTS, -1, window // PARTS)
    sums = _product(parts, values[0].reshape(heads * PARTS, window // PARTS, -1))
    sums = sums.view(heads, PARTS, tokens, -1, values.shape[-1]).sum(dim=1)
    return sums.transpose(0, 1).to(query.dtype).reshape(*query.shape[:-1], values.shape[-1])


def _check(mask: torch.Tensor, shape: tuple[int, ...], more: Mapping[str, Any]) -> None:
    # Which heads share a key is told by the shapes.
    unknown = {name: value for name, value in more.items() if name != "enable_gqa" and value}
    if unknown or mask.shape != shape or mask.dtype != torch.float32:
        raise UnknownAttention(f"attention with {sorted(unknown)} and a mask of {mask.dtype} {list(mask.shape)}")


def _product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """float32, as the kernels sum anyway: a score rounded to bfloat16 would be off by as much as 0.4 %."""
    if left.is_cuda and left.dtype != torch.float32:
        return torch.bmm(left, right, out_dtype=torch.float32)
    return torch.bmm(left.float(), right.float())
