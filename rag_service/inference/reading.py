"""What a model has read of one text: reading on, and taking back what was read last.

A step that reads one token of a large model is some two thousand kernels, and queueing them takes the CPU longer than
they take a GPU. So there a step is recorded once, as a CUDA graph, and played again for each token.
"""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from rag_service.inference.model_loading import on_one_device
from rag_service.inference.window_attention import PARTS, WindowAttention

log = logging.getLogger(__name__)
ALIGNMENT_TOKENS = 16 * PARTS
"""Of a window: the fast kernels of matrix products want the tokens of each part to be a multiple of a few."""
_MOVING_ROTATIONS = ("dynamic", "longrope")
Run = Callable[[], torch.Tensor]


class Reading(Protocol):
    def read(self, ids: Sequence[int], keep: int) -> torch.Tensor:
        """float32 [keep, vocabulary]: the scores after each of the last `keep` of `ids`, until the next call."""

    def take_back(self, tokens: int) -> None:
        """As if the last `tokens` of them had not been read."""


def readings(model: Any, window_tokens: int, widths: Sequence[int]) -> Callable[[], Reading]:
    """What begins a text. On a GPU only one can be under way at a time, and `widths` are the steps to be recorded."""
    if model.device.type != "cuda":
        return functools.partial(GrowingReading, model)
    return windowed_or_growing(model, window_tokens, widths, recorded)


def windowed_or_growing(
    model: Any, window_tokens: int, widths: Sequence[int], repeatable: Callable[[Run], Run]
) -> Callable[[], Reading]:
    """What begins a WindowReading, or a GrowingReading where the model has no steps that are `repeatable`."""
    growing = functools.partial(GrowingReading, model)
    if not _has_fixed_steps(model):
        return growing
    try:
        return WindowReading(model, window_tokens, widths, repeatable).begin
    except (torch.AcceleratorError, torch.OutOfMemoryError, NotImplementedError) as error:
        log.warning("no step of the model could be recorded, so that each is slower: %s", error)
        return growing


class GrowingReading:
    """Any model, on any devices: transformers' own cache, which grows with the text."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._cache = DynamicCache(config=model.config)
        self._cache.activate_past_recording()

    def read(self, ids: Sequence[int], keep: int) -> torch.Tensor:
        return _scores(self._model, self._cache, ids, keep)

    def take_back(self, tokens: int) -> None:
        self._cache.crop(-tokens)


class WindowReading:
    """One text at a time in a window that is made once. What is read must fit into it.

    As few tokens as one of `widths` go through a step of that width, whose shapes and addresses are always the same:
    it is padded at its end, and attends to the whole window behind a mask. `repeatable` makes of such a step what is
    called in its place.
    """

    def __init__(
        self, model: Any, window_tokens: int, widths: Sequence[int], repeatable: Callable[[Run], Run] = lambda run: run
    ) -> None:
        self._model = model
        self._tokens = 0
        # Padding may stand after the window's last token.
        room = -(-(window_tokens + max(widths)) // ALIGNMENT_TOKENS) * ALIGNMENT_TOKENS
        self._window = _Window(room)
        with torch.inference_mode():
            self._steps = [_Step(model, self._window, width, repeatable) for width in sorted(widths)]

    def begin(self) -> WindowReading:
        self._tokens = 0
        self._window.clear()
        return self

    def read(self, ids: Sequence[int], keep: int) -> torch.Tensor:
        step = next((step for step in self._steps if len(ids) <= step.width), None)
        if step is not None:
            scores = step.scores(ids, self._tokens)[-keep:]
        else:
            scores = _scores(self._model, _Part(self._window, self._tokens), ids, keep)
        self._tokens += len(ids)
        return scores

    def take_back(self, tokens: int) -> None:
        # What stands there is overwritten before anything attends to it.
        self._tokens -= tokens


def recorded(run: Run) -> Run:
    """Plays `run` again on the same addresses. What it returns is overwritten by the next time."""
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    # The outer one also leads back where recording fails: `torch.cuda.graph` does not.
    with torch.cuda.stream(stream):
        # Libraries choose their kernels and take their memory at the first runs, which cannot be recorded.
        for _ in range(2):
            run()
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = run()

    def play() -> torch.Tensor:
        graph.replay()
        return result

    return play


def _has_fixed_steps(model: Any) -> bool:
    """Whether every layer keeps every token on one device, and nothing waits for the CPU or changes with the length.

    The kernels of bitsandbytes wait, and so do some rotations. torch would find that out while it records, but before
    2.13 its `empty_cache` gives nothing back for the rest of a process in which a recording failed.
    """
    whole = not any(DynamicCache(config=model.config).is_sliding)
    still = not any(getattr(module, "rope_type", None) in _MOVING_ROTATIONS for module in model.modules())
    return whole and still and on_one_device(model) and not getattr(model, "is_quantized", False)


def _scores(model: Any, cache: Any, ids: Sequence[int], keep: int) -> torch.Tensor:
    with torch.inference_mode():
        given = torch.tensor([list(ids)], device=model.device)
        output = model(input_ids=given, past_key_values=cache, use_cache=True, logits_to_keep=keep)
        scores: torch.Tensor = output.logits[0].float()
        return scores


class _Step:
    """A step of `width` tokens at a place that the device alone knows."""

    def __init__(self, model: Any, window: _Window, width: int, repeatable: Callable[[Run], Run]) -> None:
        self.width = width
        self._model = model
        self._window = window
        # First the place, then the tokens: one copy to the device.
        self._given = torch.zeros(1 + width, dtype=torch.long, device=model.device)
        self._run = repeatable(self._forward)

    def scores(self, ids: Sequence[int], place: int) -> torch.Tensor:
        with torch.inference_mode():
            padding = [0] * (self.width - len(ids))
            self._given.copy_(torch.tensor([place, *ids, *padding]))
            return self._run()[: len(ids)].float()

    def _forward(self) -> torch.Tensor:
        """[width, vocabulary]. The tokens stand below each other as if each were a text of its own: attention of one
        token to a window needs no copy of the keys for each head, which that of several behind a mask would."""
        device = self._given.device
        places = self._given[0] + torch.arange(self.width, device=device)
        later = torch.arange(self._window.room, device=device) > places[:, None]
        mask = torch.zeros(later.shape, dtype=torch.float32, device=device).masked_fill_(later, -torch.inf)
        with WindowAttention():
            output = self._model(
                input_ids=self._given[1:, None],
                position_ids=places[:, None],
                attention_mask=mask[:, None, None],
                past_key_values=_Places(self._window, places),
                use_cache=True,
            )
        scores: torch.Tensor = output.logits[:, 0]
        return scores


class _Window:
    """Keys and values of `room` tokens for each layer, each [heads, room, size], made when first asked for."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if layer not in self._layers:
            self._layers[layer] = (self._made_for(keys), self._made_for(values))
        return self._layers[layer]

    def clear(self) -> None:
        """Nothing may stay of a text that overflowed: what is masked is multiplied by zero, and NaN is NaN still."""
        with torch.inference_mode():
            for kept in itertools.chain.from_iterable(self._layers.values()):
                kept.zero_()

    def _made_for(self, new: torch.Tensor) -> torch.Tensor:
        _, heads, _, size = new.shape
        return new.new_zeros(heads, self.room, size)


class _Part:
    """A part of a text that follows its first `tokens`, as much as a model asks of a cache."""

    def __init__(self, window: _Window, tokens: int) -> None:
        self._window = window
        self._tokens = tokens

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        end = self._tokens + keys.shape[2]
        all_keys, all_values = self._window.of(layer, keys, values)
        all_keys[:, self._tokens : end] = keys[0]
        all_values[:, self._tokens : end] = values[0]
        return all_keys[None, :, :end], all_values[None, :, :end]

    def get_seq_length(self, layer: int = 0) -> int:
        return self._tokens

    def get_query_offset(self, layer: int = 0) -> int:
        return self._tokens

    def get_mask_sizes(self, query_length: int, layer: int = 0) -> tuple[int, int]:
        return self._tokens + query_length, 0


class _Places:
    """Tokens below each other at `places` of one text; the model is given positions and mask and asks for no more."""

    def __init__(self, window: _Window, places: torch.Tensor) -> None:
        self._window = window
        self._places = places

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        all_keys, all_values = self._window.of(layer, keys, values)
        all_keys.index_copy_(1, self._places, keys[:, :, 0].transpose(0, 1))
        all_values.index_copy_(1, self._places, values[:, :, 0].transpose(0, 1))
        rows = len(self._places)
        return all_keys.expand(rows, -1, -1, -1), all_values.expand(rows, -1, -1, -1)
