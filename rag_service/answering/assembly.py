"""From a model's reply to an answer: every sentence checked against the passages it cites, and what fails taken out
or marked."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rag_service.answering import marks, refusal
from rag_service.answering.marks import CitedSentence
from rag_service.answering.verification.quantities import loose_values
from rag_service.answering.verification.verifier import Read, Support, Verifier
from rag_service.text import lexical_terms
from rag_service.types import Citation, Outcome, Passage, PromptPlan, RefusalReason

Unsupported = Literal["remove", "mark"]
Ending = Literal["whole", "growing", "torn"]
"""Of a reply: finished, still being written, or cut off because its tokens were used up."""
_ORNAMENTS = " \t*_>-\"'“”‘’「」『』"
"""What models put around a sentence they were told to say."""
_INTRODUCES = re.compile(r"[:：]\W*$")
_LEAD_INS = {"item": re.compile(r"\s*(?:[-*+•·]|\d{1,3}[.)、])\s*"), "heading": re.compile(r"\s*#{1,6}\s+")}
_ENDED = re.compile(r"[。！？；….!?;:：|`][」』”’\"')）\]】》*_]*$")


@dataclass(frozen=True, slots=True)
class Assembled:
    text: str
    citations: tuple[Citation, ...]
    outcome: Outcome
    refusal: RefusalReason | None


@dataclass(frozen=True, slots=True)
class _Checked:
    """A sentence of the reply with the passages, by index, that are cited for it. No support at all: it claims
    nothing, or nothing supports it."""

    sentence: CitedSentence
    supports: tuple[Support, ...]
    claims: bool

    @property
    def stands(self) -> bool:
        return any(support.verdict != "unsupported" for support in self.supports)


class Checking:
    """One reply's sentences against the passages of its prompt. What was checked once is remembered, so it can be
    asked again and again while the reply grows."""

    def __init__(
        self, verifier: Verifier, plan: PromptPlan, unsupported: Unsupported, refusals: Collection[str]
    ) -> None:
        self._verifier = verifier
        self._plan = plan
        self._passages = [ranked.passage for ranked in plan.passages]
        self._unsupported = unsupported
        self._refusals = refusals
        self._read: Read | None = None
        self._known: dict[tuple[str, tuple[int, ...], tuple[int, ...]], _Checked] = {}

    def assembled(self, text: str, live: Collection[int], ending: Ending = "whole") -> Assembled:
        """The answer that `text`, a reply as its guard let it through, makes. Only passages whose chunk id is in
        `live` are cited. A sentence that may not be finished is left out.

        What is assembled of a growing reply is a beginning of what is assembled of all of it.
        """
        language = self._plan.language
        sentences = marks.split(marks.normalise(text, len(self._passages)))
        if ending == "growing" or (ending == "torn" and not _ENDED.search(sentences[-1].plain if sentences else ".")):
            sentences = sentences[:-1]
        checked = [self._checked(sentence, live) for sentence in sentences]
        if not any(one.stands for one in checked):
            reason = self._reason(checked)
            told = "" if ending == "growing" else refusal.sentence(reason, language)
            return Assembled(told, (), "refused", reason)
        partial = ending == "torn" or any(one.claims and not one.stands for one in checked)
        return self._joined(checked, self._removed(checked), "partial" if partial else "answered")

    def _reason(self, checked: Sequence[_Checked]) -> RefusalReason:
        """Nothing stands: because the model says so itself, or because what it says does not."""
        declined = any(one.sentence.plain.strip(_ORNAMENTS) in self._refusals for one in checked)
        return "insufficient" if declined else "unsupported"

    def _removed(self, checked: Sequence[_Checked]) -> set[int]:
        """Indexes of what does not stand, and of what leads up to nothing that is shown."""
        removed: set[int] = set()
        leading: list[int] = []
        for index, one in enumerate(checked):
            if not one.claims:
                leading.append(index)
                continue
            if not one.stands and self._unsupported == "remove":
                removed.update(leading, [index])
            leading = []
        return removed.union(leading)

    def _checked(self, sentence: CitedSentence, live: Collection[int]) -> _Checked:
        if _claims_nothing(sentence):
            return _Checked(sentence, (), claims=False)
        allowed = tuple(at for at, passage in enumerate(self._passages) if passage.chunk_id in live)
        cited = tuple(number - 1 for number in sentence.numbers if number - 1 in allowed)
        known = (sentence.plain, cited, allowed)
        if known not in self._known:
            claim = sentence.plain[_lead_in(sentence) :]
            self._known[known] = _Checked(sentence, self._supports(claim, cited, allowed), claims=True)
        return replace(self._known[known], sentence=sentence)

    def _supports(self, text: str, cited: Sequence[int], allowed: Sequence[int]) -> tuple[Support, ...]:
        """Of the passages cited, those that support the sentence by themselves, else all that do so together, else
        one that is not cited and plainly does; with `mark` at last those cited, or the nearest, as unsupported."""
        alone = [s for at in cited if (s := self._check(text, [at])) is not None]
        if standing := tuple(support for support in alone if support.verdict != "unsupported"):
            return standing
        if len(alone) > 1 and (together := self._together(text, cited, alone)):
            return together
        other = self._check(text, [at for at in allowed if at not in cited])
        if other is not None and other.verdict == "supported":
            return (other,)
        if self._unsupported == "remove":
            return ()
        if alone:
            return tuple(alone)
        # Weak support is enough for a passage that was cited, not for one that was found.
        return () if other is None else (replace(other, verdict="unsupported"),)

    def _together(self, text: str, cited: Sequence[int], alone: Sequence[Support]) -> tuple[Support, ...]:
        """A sentence may put together what two passages say."""
        first = self._passages[cited[0]]
        joined = "\n\n".join(self._passages[at].text for at in cited)
        headings = tuple(heading for at in cited for heading in self._passages[at].headings)
        whole = replace(first, text=joined, headings=headings)
        both = self._verifier.check(text, self._verifier.read([whole], self._plan.language), [0])
        if both is None or both.verdict == "unsupported":
            return ()
        return tuple(replace(support, verdict=both.verdict, score=both.score) for support in alone)

    def _check(self, text: str, among: Sequence[int]) -> Support | None:
        if not among:
            return None
        if self._read is None:
            self._read = self._verifier.read(self._passages, self._plan.language)
        return self._verifier.check(text, self._read, among)

    def _joined(self, checked: Sequence[_Checked], removed: Collection[int], outcome: Outcome) -> Assembled:
        kept = marks.without([one.sentence for one in checked], removed)
        supports = [one.supports for index, one in enumerate(checked) if index not in removed]
        text, citations = "", []
        for sentence, found in zip(kept, supports, strict=True):
            text += sentence.before if text else ""
            begin = len(text)
            text += _written(sentence, found)
            citations += [_citation(self._passages[s.passage], s, begin, len(text)) for s in found]
        return Assembled(text, tuple(citations), outcome, None)


class Assembly:
    def __init__(self, verifier: Verifier, unsupported: Unsupported, refusals: Collection[str]) -> None:
        self._verifier = verifier
        self._unsupported: Unsupported = unsupported
        self._refusals = refusals

    def checking(self, plan: PromptPlan) -> Checking:
        return Checking(self._verifier, plan, self._unsupported, self._refusals)


def _claims_nothing(sentence: CitedSentence) -> bool:
    """A heading or what introduces a list, if it names no figure; a rule. It stands or goes with what follows it."""
    claim = sentence.plain[_lead_in(sentence) :]
    if not lexical_terms(claim):
        return True
    leads = sentence.kind == "heading" or (not sentence.numbers and _INTRODUCES.search(claim) is not None)
    return leads and not loose_values(claim)


def _lead_in(sentence: CitedSentence) -> int:
    """Length of what makes a list item or a heading one: its number is none of the claim's."""
    pattern = _LEAD_INS.get(sentence.kind)
    found = pattern.match(sentence.plain) if pattern else None
    return found.end() if found else 0


def _written(sentence: CitedSentence, found: Sequence[Support]) -> str:
    """The sentence with the marks it has been left with. None is added in tables and code, nor for a passage that it
    did not cite and that does not support it."""
    numbers = [(support.passage + 1, support.verdict) for support in found]
    cited = [number for number, verdict in numbers if number in sentence.numbers or verdict != "unsupported"]
    if tuple(cited) == sentence.numbers:
        return sentence.text
    return marks.marked(sentence.plain, cited) if sentence.kind in ("sentence", "item") else sentence.plain


def _citation(passage: Passage, support: Support, begin: int, end: int) -> Citation:
    return Citation(
        marker=support.passage + 1, document_id=passage.document_id, document_version=passage.document_version,
        filename=passage.filename, chunk_id=passage.chunk_id, page=passage.page, headings=passage.headings,
        char_start=passage.char_start + support.start, char_end=passage.char_start + support.end,
        quote=passage.text[support.start : support.end], answer_start=begin, answer_end=end,
        verdict=support.verdict, score=round(support.score, 4),
    )  # fmt: skip
