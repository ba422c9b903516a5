"""Turns of a conversation as token ids: past ones as they were, the last one from its parts. Pure.

A turn is encoded whole, because a tokenizer merges across the borders of what it is made of; each token is then
counted to the part that its first character belongs to, so the parts add up to the whole exactly.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rag_service.prompting.document_marks import without_document_marks
from rag_service.prompting.prompt_format import PromptFormat
from rag_service.prompting.template import Segment, Special
from rag_service.prompting.wording import Wording
from rag_service.types import Chat, RankedPassage, Turn


@dataclass(frozen=True, slots=True)
class Evidence:
    """A passage on its way into the prompt: `ranked.passage.text[start:end]`, by itself `tokens` long."""

    ranked: RankedPassage
    start: int
    end: int
    tokens: int = 0

    @property
    def is_whole(self) -> bool:
        return (self.start, self.end) == (0, len(self.ranked.passage.text))

    def cut(self) -> RankedPassage:
        """The passage as the prompt shows it: nothing else of it can be cited."""
        passage = self.ranked.passage
        shown = replace(
            passage, text=passage.text[self.start : self.end],
            char_start=passage.char_start + self.start, char_end=passage.char_start + self.end,
        )  # fmt: skip
        return replace(self.ranked, passage=shown)


@dataclass(frozen=True, slots=True)
class PastTurn:
    turn: Turn
    ids: list[int]


@dataclass(frozen=True, slots=True)
class LastTurn:
    """Its ids, and how many of them belong to the instructions, to each passage, to the question, to the template."""

    ids: list[int]
    instructions: int
    passages: list[int]
    question: int
    template: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """Text of the last turn and whose it is: an index into its blocks, None for the template's."""

    text: str
    block: int | None


class Turns:
    def __init__(self, prompt_format: PromptFormat, wording: Wording) -> None:
        self._format = prompt_format
        self._wording = wording
        self._before, self._after = prompt_format.template.around(prompt_format.template.user)

    def begin(self) -> list[int]:
        """What a prompt begins with, before any turn."""
        return [token for segment in self._format.template.begin for token in self._format.ids(segment)]

    def past(self, turn: Turn) -> PastTurn:
        template = self._format.template
        messages = [Chat("user", template.harmless(turn.question)), Chat("assistant", template.harmless(turn.answer))]
        segments = template.segments(messages)[len(template.begin) :]
        return PastTurn(turn, [token for segment in segments for token in self._format.ids(segment)])

    def last(self, question: str, order: Sequence[Evidence]) -> LastTurn:
        """Instructions, the passages in the order given and numbered by it, the question."""
        pieces = [_Piece(self._wording.instructions, 0)]
        pieces += [_Piece(self.shown(one, number), number) for number, one in enumerate(order, 1)]
        pieces.append(_Piece(self._asked(question), len(order) + 1))
        ids: list[int] = []
        counts, template = [0] * (len(order) + 2), 0
        for run in _runs(self._ended([*self._before, *pieces, *self._after])):
            if isinstance(run, Special):
                ids.append(self._format.tokenizer.special(run.token))
                template += 1
                continue
            encoded = self._format.tokenizer.encode_with_starts("".join(piece.text for piece in run))
            ids += encoded.ids
            for block, tokens in _counted(run, encoded.starts):
                if block is None:
                    template += tokens
                else:
                    counts[block] += tokens
        return LastTurn(ids, counts[0], counts[1:-1], counts[-1], template)

    def shown(self, evidence: Evidence, number: int) -> str:
        """A passage as it stands in the prompt."""
        passage = evidence.ranked.passage
        text = without_document_marks(passage.text[evidence.start : evidence.end])
        source = " › ".join([passage.filename, *passage.headings]).replace("\n", " ")
        shown = _filled(self._wording.passage, number=str(number), source=source, text=text)
        # Of the whole: a heading and the text below it could make a turn together.
        return self._format.template.harmless(shown)

    def _asked(self, question: str) -> str:
        return self._format.template.harmless(_filled(self._wording.question, text=question))

    def _ended(self, segments: Sequence[Segment | _Piece]) -> list[Special | _Piece]:
        """As the format's spacing says; it touches nothing but the template's own end."""
        pieces = [_Piece(s, None) if isinstance(s, str) else s for s in segments]
        last = pieces[-1]
        if isinstance(last, _Piece) and last.block is None:
            [ended] = self._format.ended([last.text])
            pieces[-1] = _Piece(str(ended), None)
        return pieces


def _runs(pieces: Iterable[Special | _Piece]) -> list[Special | list[_Piece]]:
    """Texts that stand side by side are one run: they are encoded as one."""
    runs: list[Special | list[_Piece]] = []
    for piece in pieces:
        if isinstance(piece, Special):
            runs.append(piece)
        elif runs and isinstance(runs[-1], list):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _counted(run: Sequence[_Piece], starts: Sequence[int]) -> list[tuple[int | None, int]]:
    """Tokens of each piece: those whose first character is the piece's."""
    counts, end, first = [], 0, 0
    for piece in run:
        end += len(piece.text)
        last = bisect_right(starts, end - 1)
        counts.append((piece.block, last - first))
        first = last
    return counts


def _filled(pattern: str, **values: str) -> str:
    """Every name replaced, and all at once: what a value says is never taken for a name."""
    first, *rest = pattern.split("{")
    named = (piece.partition("}") for piece in rest)
    return first + "".join(values[name] + after for name, _, after in named)
