"""A text read in a window that is made once, against transformers' own cache and against the text read afresh."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_prompt_lookup import COPYING, GREEDY, generated, prompt_of, small
from tiny_llama import torch

from rag_service.inference.prompt_lookup import STEP_WIDTHS, replied
from rag_service.inference.reading import ALIGNMENT_TOKENS, GrowingReading, WindowReading, windowed_or_growing
from rag_service.inference.window_attention import UnknownAttention, attended

WINDOW = 200
# Weights so large that every score depends on every token before it.
MODELS = {
    f"{family}, {heads} heads of keys": small(
        family,
        num_attention_heads=heads * each,
        num_key_value_heads=heads,
        initializer_range=0.3,
        eos_token_id=None,
    )
    for family, heads, each in (("Llama", 2, 4), ("Llama", 1, 4), ("Qwen2", 2, 2), ("Qwen3", 4, 1))
}
TEXTS = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 90)), min_size=1, max_size=6), min_size=1, max_size=3
)
"""Of each text how many tokens are read and how many then taken back, in turn."""


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(sorted(MODELS)), TEXTS, st.randoms(use_true_random=False))
def test_one_text_after_another_is_read_in_a_window_as_if_afresh(
    name: str, texts: list[list[tuple[int, int]]], chance: random.Random
) -> None:
    model = MODELS[name]
    window = WindowReading(model, WINDOW, STEP_WIDTHS)
    for text in texts:
        ids, growing, windowed = [], GrowingReading(model), window.begin()
        for tokens, back in text:
            new = [chance.randrange(3, 500) for _ in range(min(tokens, WINDOW - len(ids)))]
            if new:
                ids += new
                keep = chance.randint(1, len(new))
                expected = afresh(model, ids)[-keep:]
                assert alike(windowed.read(new, keep), expected)
                assert alike(growing.read(new, keep), expected)
            left = max(len(ids) - back, 0)
            windowed.take_back(len(ids) - left)
            growing.take_back(len(ids) - left)
            del ids[left:]


def afresh(model: Any, ids: list[int]) -> Any:
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0]


def alike(scores: Any, expected: Any) -> bool:
    return scores.shape == expected.shape and bool((scores - expected).abs().max() <= 1e-3 * expected.abs().max())


@pytest.mark.parametrize("name", MODELS)
def test_a_reply_through_a_window_is_what_plain_greedy_says(name: str) -> None:
    model, prompt = MODELS[name], [token % 500 for token in prompt_of(150)]
    begin = WindowReading(model, 150 + GREEDY.max_tokens, STEP_WIDTHS).begin
    said = [token for step in replied(begin, prompt, GREEDY, prefill_tokens=64) for token in step]
    assert said == generated(model, prompt, GREEDY)


def test_drafts_hold_in_a_window_as_they_do_in_a_growing_cache() -> None:
    begin = WindowReading(COPYING, 60 + 200, STEP_WIDTHS).begin
    windowed, growing = (
        list(replied(begin, prompt_of(60), replace(GREEDY, max_tokens=200), prefill_tokens=64))
        for begin in (begin, partial(GrowingReading, COPYING))
    )
    assert windowed == growing
    # Whole, in part and not at all.
    assert {1, 11} < {len(step) for step in windowed}


def test_a_window_is_read_to_its_last_token() -> None:
    model, ids = MODELS["Llama, 2 heads of keys"], list(range(3, 3 + ALIGNMENT_TOKENS))
    text = WindowReading(model, len(ids), STEP_WIDTHS).begin()
    text.read(ids[:-2], keep=1)
    # Fewer than a step is wide, so that it is padded past the end.
    assert alike(text.read(ids[-2:], keep=2), afresh(model, ids)[-2:])


def test_a_text_that_overflowed_leaves_nothing_behind() -> None:
    model = small("Llama")
    with torch.no_grad():
        model.model.embed_tokens.weight[7] = torch.inf
    window = WindowReading(model, WINDOW, STEP_WIDTHS)
    # Further back than the next text's step is wide, which overwrites as much.
    assert not window.begin().read([*range(20, 40), 7], keep=1).isfinite().any()
    assert alike(window.begin().read([3, 4], keep=2), afresh(model, [3, 4]))


def begun(model: Any) -> type:
    def tried(run: Callable[[], Any]) -> Callable[[], Any]:
        run()
        return run

    return type(windowed_or_growing(model, WINDOW, STEP_WIDTHS, tried)())


def test_a_model_is_read_in_a_window_where_it_can() -> None:
    assert {begun(small(family)) for family in ("Llama", "Qwen2", "Qwen3")} == {WindowReading}


@pytest.mark.parametrize(
    "model",
    [
        small("Mistral"),
        small("Llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
        # It asks for dropout, which the attention to a window has not.
        small("Llama", attention_dropout=0.1).train(),
    ],
    ids=["layers that forget", "rotations that depend on the length", "unknown attention"],
)
def test_a_model_whose_steps_cannot_be_repeated_is_read_with_a_growing_cache(model: Any) -> None:
    assert begun(model) is GrowingReading


def inputs(tokens: int, heads: int, each: int, window: int, size: int = 8) -> tuple[Any, Any, Any, Any]:
    """Query, keys, values and mask: each token attends to a few more than the one before it."""
    query = torch.randn(tokens, heads * each, 1, size)
    keys, values = torch.randn(2, heads, window, size).unbind()
    seen = torch.arange(window) < torch.linspace(window // 2, window, tokens).long()[:, None]
    mask = torch.zeros(tokens, window).masked_fill(~seen, -torch.inf)[:, None, None]
    return query, keys.expand(tokens, -1, -1, -1), values.expand(tokens, -1, -1, -1), mask


@settings(deadline=None)
@given(*(st.integers(1, 5) for _ in range(3)), st.integers(1, 6).map(lambda parts: 16 * parts), st.booleans())
def test_attention_to_a_window_is_that_of_torch(tokens: int, heads: int, each: int, window: int, packed: bool) -> None:
    torch.manual_seed(0)
    query, keys, values, mask = inputs(tokens, heads, each, window)
    expected = torch.nn.functional.scaled_dot_product_attention(
        query.double(), keys.double(), values.double(), attn_mask=mask.double(), scale=0.3, enable_gqa=True
    )
    if packed:
        query = query.view(tokens, heads, each, -1)
    got = attended(query, keys, values, attn_mask=mask, scale=0.3)
    assert got.shape == query.shape
    assert torch.allclose(got.double().reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize(
    "asked",
    [
        {"dropout_p": 0.1},
        {"is_causal": True},
        {"softcap": 30.0},
        {"attn_mask": torch.ones(2, 1, 1, 32, dtype=torch.bool)},
        {"attn_mask": torch.zeros(2, 1, 3, 32)},
    ],
    ids=str,
)
def test_what_the_attention_to_a_window_does_not_know_it_refuses(asked: dict[str, Any]) -> None:
    query, keys, values, mask = inputs(2, 1, 3, 32)
    with pytest.raises(UnknownAttention):
        attended(query, keys, values, **{"attn_mask": mask, "scale": 1.0, **asked})
