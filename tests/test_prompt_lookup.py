from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_llama import VOCABULARY, saying, torch, transformers

from rag_service.inference.prompt_lookup import PromptLookup, replied
from rag_service.inference.reading import GrowingReading
from rag_service.inference.token_choice import choose
from rag_service.types import Sampling

GREEDY = Sampling(
    max_tokens=60, temperature=0.0, top_p=1.0, top_k=0, repetition_penalty=1.0, seed=0, stop=(), stop_ids=()
)
DRAWN = replace(GREEDY, temperature=1.0)
ROUND = random.Random(3).sample(range(100, VOCABULARY), 60)
COPYING = saying([*ROUND, ROUND[0]], context=40)
"""Says runs of ROUND in an order of its own: some drafts hold, some do not, some in part."""


def generated(model: Any, prompt: Sequence[int], sampling: Sampling, **more: Any) -> list[int]:
    """What transformers' own `generate` says."""
    configuration = transformers.GenerationConfig(
        do_sample=False,
        max_new_tokens=sampling.max_tokens,
        repetition_penalty=sampling.repetition_penalty,
        pad_token_id=0,
        eos_token_id=None,
        **more,
    )
    ids: list[int] = model.generate(torch.tensor([prompt]), generation_config=configuration)[0].tolist()
    return ids[len(prompt) :]


def said(model: Any, prompt: Sequence[int], sampling: Sampling, prefill: int = 64, draft: int = 10) -> list[int]:
    begin = partial(GrowingReading, model)
    return [token for step in replied(begin, prompt, sampling, prefill, draft) for token in step]


def prompt_of(length: int) -> list[int]:
    return (ROUND * (length // len(ROUND) + 1))[:length]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_drafts_are_those_of_transformers(ids: list[int]) -> None:
    theirs = transformers.generation.candidate_generator.PromptLookupCandidateGenerator(
        num_output_tokens=10, max_matching_ngram_size=3, max_length=1_000
    )
    candidates, _ = theirs.get_candidates(torch.tensor([ids]))
    assert PromptLookup(ids).draft(10) == candidates[0, len(ids) :].tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 12))
def test_a_draft_is_no_longer_than_asked_for(ids: list[int], limit: int) -> None:
    assert len(PromptLookup(ids).draft(limit)) <= min(limit, 10)


@pytest.mark.parametrize("length", [1, 2, 65, 700])
@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_drafting_says_what_plain_greedy_says(length: int, penalty: float) -> None:
    prompt, sampling = prompt_of(length), replace(GREEDY, repetition_penalty=penalty)
    expected = generated(COPYING, prompt, sampling)
    assert said(COPYING, prompt, sampling) == expected
    assert said(COPYING, prompt, sampling, draft=0) == expected
    if length > 1:
        assert expected == generated(COPYING, prompt, sampling, prompt_lookup_num_tokens=10, max_matching_ngram_size=3)


@pytest.mark.parametrize("family", ["Llama", "Mistral", "Qwen2", "Qwen3"])
def test_every_supported_architecture_says_what_plain_greedy_says(family: str) -> None:
    model = small(family)
    prompt = [token % 500 for token in prompt_of(150)]
    assert said(model, prompt, GREEDY) == generated(model, prompt, GREEDY)


def small(family: str, **more: Any) -> Any:
    """Mistral with a sliding window that the prompt is longer than."""
    torch.manual_seed(1)
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": 500,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 1_024,
            "pad_token_id": 0,
            **({"sliding_window": 48} if family == "Mistral" else {}),
            **more,
        }
    )
    return getattr(transformers, f"{family}ForCausalLM")(config).eval()


def test_a_copied_text_takes_far_fewer_steps_than_it_has_tokens() -> None:
    steps = list(replied(partial(GrowingReading, COPYING), prompt_of(60), replace(GREEDY, max_tokens=400), 64))
    lengths = Counter(map(len, steps))
    assert sum(length * count for length, count in lengths.items()) == 400
    # Drafts hold whole, in part and not at all.
    assert lengths.keys() > {1, 11}
    assert len(lengths) > 4
    assert lengths.total() < 200


def test_no_more_than_the_asked_for_tokens_come() -> None:
    for most in (1, 2, 7):
        assert len(said(COPYING, prompt_of(40), replace(GREEDY, max_tokens=most))) == most


@pytest.mark.parametrize("top_k", [0, 20])
def test_a_seed_says_the_same_with_and_without_drafts_and_whatever_was_drawn_between(top_k: int) -> None:
    prompt, sampling = prompt_of(50), replace(DRAWN, temperature=0.3, top_k=top_k, seed=7)
    first = said(COPYING, prompt, sampling, draft=0)
    torch.manual_seed(0)
    assert said(COPYING, prompt, sampling) == first
    assert said(COPYING, prompt, replace(sampling, seed=8)) != first


def test_draws_follow_the_probabilities() -> None:
    scores = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    drawn = Counter(choose(scores, [], DRAWN, position) for position in range(8_000))
    assert [drawn[token] / 8_000 for token in range(4)] == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.02)


SCORES = st.lists(st.integers(-40, 40), min_size=2, max_size=30, unique=True).map(
    lambda values: torch.tensor(values, dtype=torch.float32) / 8
)


@settings(deadline=None, max_examples=150)
@given(SCORES, st.floats(0.2, 2.0), st.integers(0, 8), st.floats(0.05, 1.0))
def test_what_may_be_drawn_is_what_the_warpers_of_transformers_leave(
    scores: Any, temperature: float, top_k: int, top_p: float
) -> None:
    warpers = [transformers.TemperatureLogitsWarper(temperature)]
    warpers += [transformers.TopKLogitsWarper(top_k)] if top_k else []
    left = scores[None].double()
    for warper in [*warpers, transformers.TopPLogitsWarper(top_p)]:
        left = warper(None, left)
    sampling = replace(DRAWN, temperature=temperature, top_k=top_k, top_p=top_p)
    drawn = {choose(scores, [], sampling, position) for position in range(60)}
    assert drawn <= set(torch.isfinite(left[0]).nonzero().flatten().tolist())


@settings(deadline=None)
@given(SCORES, st.lists(st.integers(0, 1), min_size=1, max_size=4), st.floats(0.5, 2.0))
def test_the_penalty_is_that_of_transformers(scores: Any, ids: list[int], penalty: float) -> None:
    theirs = transformers.RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([ids]), scores[None].clone())
    ours = choose(scores, ids, replace(GREEDY, repetition_penalty=penalty), 0)
    assert float(theirs[0, ours]) == float(theirs.max())
