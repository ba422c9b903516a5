"""Which token follows, given the model's scores: greedy, or drawn so that a seed means the same text everywhere."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from rag_service.types import Sampling


def is_plain(sampling: Sampling) -> bool:
    """The highest score wins, nothing is done to the scores."""
    return sampling.temperature == 0 and sampling.repetition_penalty == 1.0


def choose(scores: torch.Tensor, ids: Sequence[int], sampling: Sampling, position: int) -> int:
    """The token that follows `ids`, as the `position`-th of the reply. `scores` is float32 [vocabulary].

    The draw depends on the seed and the position alone, on no generator that others draw from: beside other requests,
    and with or without drafted tokens, the same seed gives the same text.
    """
    if sampling.repetition_penalty != 1.0:
        scores = _penalised(scores, ids, sampling.repetition_penalty)
    if sampling.temperature == 0:
        return int(scores.argmax())
    # On the CPU and in double precision: sums in one fixed order, whatever the device.
    return _drawn(scores.to("cpu", torch.float64) / sampling.temperature, sampling, position)


def _penalised(scores: torch.Tensor, ids: Sequence[int], penalty: float) -> torch.Tensor:
    """As in CTRL (Keskar et al. 2019), over prompt and reply: what was said before becomes less likely."""
    said = torch.tensor(sorted(set(ids)), device=scores.device)
    before = scores[said]
    return scores.index_copy(0, said, torch.where(before < 0, before * penalty, before / penalty))


def _drawn(scores: torch.Tensor, sampling: Sampling, position: int) -> int:
    count = len(scores) if sampling.top_k == 0 else min(sampling.top_k, len(scores))
    best, tokens = torch.sort(scores, descending=True, stable=True)
    summed = torch.softmax(best[:count], dim=0).cumsum(0)
    # The smallest set of best tokens that reaches top_p; the first is always in it.
    kept = min(count, int((summed < sampling.top_p).sum()) + 1)
    point = random.Random(f"{sampling.seed}:{position}").random() * float(summed[kept - 1])
    return int(tokens[min(kept - 1, int(torch.searchsorted(summed[:kept], point, right=True)))])
