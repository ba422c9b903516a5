"""Packing real passages and a long conversation into SUS-Chat's window."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path

from bench import evalset
from bench.results import Result
from rag_service.prompting import template, tokenizer, wording
from rag_service.prompting.budget import Budget
from rag_service.prompting.packer import Packer
from rag_service.prompting.prompt_format import PromptFormat
from rag_service.text import language_of
from rag_service.types import Passage, RankedPassage, Scores, Turn

PASSAGES, TURNS, ROUNDS = 50, 60, 100


def run(evaluation: Path, scratch: Path) -> list[Result]:
    packer = Packer(PromptFormat(tokenizer.load("sus-chat-34b"), template.load("sus-chat")), wording.load())
    texts = [text for pair in _pairs(evaluation) for text in pair]
    passages = [_ranked(rank, text) for rank, text in enumerate(texts[:PASSAGES])]
    turns = [Turn(str(at), text[:60], text[:400]) for at, text in enumerate(texts[PASSAGES : PASSAGES + TURNS])]
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        plan = packer.pack("How long does it take, and why?", passages, turns, Budget(8_192, 900), "en")
        times.append((time.perf_counter() - begin) * 1_000)
    median, worst = statistics.median(times), sorted(times)[int(ROUNDS * 0.95)]
    reached = f"p50 {median:.1f} ms, p95 {worst:.1f} ms, a prompt of {plan.report.prompt_tokens:,} tokens"
    return [Result("packing 50 passages and 60 turns, 8,192 tokens", "≤ 10 ms", reached, median <= 10)]


def _pairs(evaluation: Path) -> list[tuple[str, str]]:
    """Passages of both languages by turns."""
    zh, en = (evalset.rows(evaluation, "passages", "xquad", language) for language in ("zh", "en"))
    return [(a["text"], b["text"]) for a, b in itertools.islice(zip(zh, en, strict=False), PASSAGES + TURNS)]


def _ranked(rank: int, text: str) -> RankedPassage:
    passage = Passage(
        chunk_id=rank, knowledge_base_id="kb", document_id=f"d{rank}", document_version=1, filename=f"{rank}.txt",
        media_type="text/plain", page=None, headings=("Title",), language=language_of(text), char_start=0,
        char_end=len(text), text=text,
    )  # fmt: skip
    score = 1 - rank / 100
    return RankedPassage(passage, Scores(score, score, score))
