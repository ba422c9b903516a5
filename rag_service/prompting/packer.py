"""The prompt, assembled as token ids within one budget, with a report of what went in and what stayed out. Pure.

The last human turn holds the instructions, the passages and, last, the question: the best passage first, the second
best last, since models read the ends of a prompt best. Before it stands the history, in whole turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag_service.errors import PromptTooLarge
from rag_service.prompting import selection, trimming
from rag_service.prompting.budget import Budget
from rag_service.prompting.prompt_format import PromptFormat, sha256_of
from rag_service.prompting.turns import Evidence, LastTurn, PastTurn, Turns
from rag_service.prompting.wording import Wording
from rag_service.types import DropReason, Language, PackedBlock, PackingReport, PromptPlan, RankedPassage, Turn

QUESTION = "question"


class Packer:
    def __init__(self, prompt_format: PromptFormat, wordings: dict[Language, Wording]) -> None:
        self.format = prompt_format
        self.wordings = wordings

    def pack(
        self,
        question: str,
        passages: Sequence[RankedPassage],
        history: Sequence[Turn],
        budget: Budget,
        language: Language,
    ) -> PromptPlan:
        """The prompt for `question`: passages best first, history oldest first and without marks, as they are given.

        `len(token_ids) + reply_tokens <= window_tokens`, always. Raises PromptTooLarge, with the sizes, where
        instructions and question alone do not fit.
        """
        packing = _Packing(self.format, self.wordings[language], question, budget)
        evidence, refused = selection.candidates(passages, budget)
        packed = packing.fitted(evidence, history)
        dropped = [*_dropped_passages(packed, passages, refused), *_dropped_turns(packed, history)]
        return _plan(self.format, budget, language, question, packed, dropped)

    def rebuild(
        self, report: PackingReport, question: str, passages: dict[str, RankedPassage], history: dict[str, Turn]
    ) -> tuple[int, ...]:
        """The exact prompt of a report, from the whole passages and turns it names by id. KeyError: one is gone."""
        language: Language = "zh" if any(block.id == _instructions_id("zh") for block in report.blocks) else "en"
        turns = Turns(self.format, self.wordings[language])
        blocks = sorted((b for b in report.blocks if b.position is not None), key=lambda block: block.position or 0)
        past = [turns.past(history[b.id]) for b in blocks if b.kind == "history"]
        order = [Evidence(passages[b.id], b.start, b.end) for b in blocks if b.kind == "passage"]
        return _assembled(turns.begin(), past, turns.last(question, order))


@dataclass(frozen=True, slots=True)
class _Packed:
    """What went in: passages in the order of the prompt, turns oldest first."""

    order: list[Evidence]
    past: list[PastTurn]
    last: LastTurn
    begin: list[int]


class _Packing:
    """One question's way into a prompt."""

    def __init__(self, prompt_format: PromptFormat, wording: Wording, question: str, budget: Budget) -> None:
        self._turns = Turns(prompt_format, wording)
        self._count = prompt_format.tokenizer.count
        self._question = question
        self._budget = budget

    def fitted(self, evidence: list[Evidence], history: Sequence[Turn]) -> _Packed:
        """Parts measured one by one are a token or two off, so what was chosen is measured whole, and chosen again
        in less room while that is too much."""
        begin, bare = self._turns.begin(), self._turns.last(self._question, [])
        room = self._budget.prompt_tokens - len(begin) - len(bare.ids)
        if room < 0:
            raise self._too_large(len(begin), bare)
        measured, recent = self._measured(evidence, room), self._recent(history, room)
        target = room
        while True:
            chosen, past = selection.choose(measured, recent, target, self._budget, self._cut)
            order = selection.placed(chosen)
            last = self._turns.last(self._question, order)
            over = len(last.ids) - len(bare.ids) + selection.size(past) - room
            if over <= 0:
                return _Packed(order, past, last, begin)
            target -= over

    def _measured(self, evidence: Sequence[Evidence], room: int) -> list[Evidence]:
        """As many as could go in at all, and one more, which may be cut."""
        measured: list[Evidence] = []
        spent = 0
        for number, one in enumerate(evidence, 1):
            tokens = self._count(self._turns.shown(one, number))
            measured.append(replace(one, tokens=tokens))
            spent += tokens
            if spent > room and len(measured) > 1:
                break
        return measured

    def _recent(self, history: Sequence[Turn], room: int) -> list[PastTurn]:
        """The newest turns that have room together, oldest first."""
        kept: list[PastTurn] = []
        left = min(room, self._budget.history_tokens)
        for turn in reversed(history):
            past = self._turns.past(turn)
            left -= len(past.ids)
            if left < 0:
                break
            kept.append(past)
        return kept[::-1]

    def _cut(self, one: Evidence, room: int) -> Evidence | None:
        most = self._budget.most_passages
        around = self._count(self._turns.shown(replace(one, start=0, end=0), most))
        text = one.ranked.passage.text
        span = trimming.around_the_best(text, self._question, room - around, self._count)
        if span is None:
            return None
        cut = replace(one, start=span[0], end=span[1])
        tokens = self._count(self._turns.shown(cut, most))
        return replace(cut, tokens=tokens) if tokens <= room else None

    def _too_large(self, begin: int, bare: LastTurn) -> PromptTooLarge:
        return PromptTooLarge(
            f"instructions ({bare.instructions} tokens) and question ({bare.question}) do not fit beside a reply of"
            f" {self._budget.reply_tokens} into a window of {self._budget.window_tokens}",
            window_tokens=self._budget.window_tokens, reply_tokens=self._budget.reply_tokens,
            instructions_tokens=bare.instructions, question_tokens=bare.question,
            template_tokens=begin + bare.template,
        )  # fmt: skip


def _plan(
    prompt_format: PromptFormat,
    budget: Budget,
    language: Language,
    question: str,
    packed: _Packed,
    dropped: Sequence[PackedBlock],
) -> PromptPlan:
    ids = _assembled(packed.begin, packed.past, packed.last)
    placed = [replace(b, position=at) for at, b in enumerate(_blocks(packed, language, question))]
    template = PackedBlock("template", prompt_format.template.name, packed.last.template + len(packed.begin), "kept")
    report = PackingReport(
        window_tokens=budget.window_tokens, reply_tokens=budget.reply_tokens, prompt_tokens=len(ids),
        tokenizer=prompt_format.tokenizer.name, template=prompt_format.template.name,
        blocks=(*placed, template, *dropped), prompt_sha256=sha256_of(ids),
    )  # fmt: skip
    return PromptPlan(ids, report, tuple(one.cut() for one in packed.order), language)


def _assembled(begin: Sequence[int], past: Sequence[PastTurn], last: LastTurn) -> tuple[int, ...]:
    return (*begin, *(token for turn in past for token in turn.ids), *last.ids)


def _blocks(packed: _Packed, language: Language, question: str) -> Iterator[PackedBlock]:
    """In the order of the prompt."""
    for past in packed.past:
        yield PackedBlock("history", past.turn.id, len(past.ids), "kept")
    yield PackedBlock("instructions", _instructions_id(language), packed.last.instructions, "kept")
    for marker, (one, tokens) in enumerate(zip(packed.order, packed.last.passages, strict=True), 1):
        whole = PackedBlock(
            "passage", _passage_id(one.ranked), tokens, "kept", score=one.ranked.score, start=one.start, end=one.end,
            marker=marker,
        )  # fmt: skip
        yield whole if one.is_whole else replace(whole, state="trimmed", reason="budget")
    yield PackedBlock("question", QUESTION, packed.last.question, "kept", end=len(question))


def _dropped_passages(
    packed: _Packed, passages: Sequence[RankedPassage], refused: dict[int, DropReason]
) -> Iterator[PackedBlock]:
    went_in = {one.ranked.passage.chunk_id for one in packed.order}
    for rank, ranked in enumerate(passages):
        if rank in refused or ranked.passage.chunk_id not in went_in:
            reason = refused.get(rank, "budget")
            yield PackedBlock("passage", _passage_id(ranked), 0, "dropped", reason, score=ranked.score)


def _dropped_turns(packed: _Packed, history: Sequence[Turn]) -> Iterator[PackedBlock]:
    for turn in history[: len(history) - len(packed.past)]:
        yield PackedBlock("history", turn.id, 0, "dropped", "budget")


def _passage_id(ranked: RankedPassage) -> str:
    return str(ranked.passage.chunk_id)


def _instructions_id(language: Language) -> str:
    return f"instructions-{language}"
