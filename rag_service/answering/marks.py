"""Citation marks of a whole reply: into one form and place, out again, and what each sentence cites. Pure.

The form is `[1][3]`, in both languages, before what ends the sentence: `…[1][3]。`, `… text [1].` What counts as a mark
is in mark_forms, what goes and what stays around it in stream_guard: this room has one reading of model output.

Moved before the sentence's end are marks right after it, also after closing quotes and brackets, those alone on a
line (to the nearest line above that says something), and those that begin a line when the line above ends a sentence
and begins with none itself: so the lines of a list of sources keep theirs. Where no line above can take them they stay.
Nothing is moved into or out of headings, tables and code.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from sys import maxsize
from typing import Literal

from rag_service.answering.code_spans import Code
from rag_service.answering.mark_forms import (
    BLANKS,
    LOOK_BEHIND,
    canonical,
    is_cjk,
    is_index,
    numbers,
    unfinished_before,
)
from rag_service.answering.stream_guard import guarded, joins
from rag_service.text import sentences

Kind = Literal["sentence", "item", "heading", "table", "code"]

_TERMINATORS = "。！？；…!?;."
_CLOSERS = "」』”’\"')）]】》"
_PUNCTUATION = _TERMINATORS + _CLOSERS
_NOT_BLANK = re.compile(rf"[^{BLANKS}]")
_NEAR = 80
"""Characters before a mark that say whether a sentence ended there."""
_COMMAS = (",", "，", "、")
_CANONICAL = re.compile(r"\[[1-9][0-9]*\](?!\()")
_BLOCKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("heading", re.compile(r"\s*(?:#{1,6}(?:\s|$)|([-*_=])(?:\s*+\1){2,}\s*$)")),
    ("table", re.compile(r"\s*\|")),
    ("item", re.compile(r"\s*(?:(?:[-*+•·]|\d{1,3}[.)])(?:\s|$)|\d{1,3}、)")),
)


@dataclass(frozen=True, slots=True)
class CitedSentence:
    """One sentence of a reply, or one line of a list, table or heading, or one block of code.

    `text` is as it stands in the reply, `before` the white space between it and the last one; `plain` is `text` without
    its marks and `numbers` what they cite, each once. Rules between paragraphs are headings: they say nothing.
    """

    before: str
    text: str
    plain: str
    numbers: tuple[int, ...]
    kind: Kind


def normalise(text: str, passages: int) -> str:
    """`text` without white space around it, every mark in one form and place, and only those of 1 to `passages`.

    Normalising twice is normalising once.
    """
    return _trimmed(_arranged(_trimmed(guarded(text, passages=passages))))


def _trimmed(text: str) -> str:
    """`text` without white space around it, nor at its end what could be a mark cut off once that is gone."""
    end = len(text)
    while end:
        if text[end - 1].isspace():
            end -= 1
        elif (start := unfinished_before(text, end)) is not None:
            end = start
        else:
            break
    return text[:end].lstrip()


def stripped(text: str) -> str:
    """`text` without any mark, in whatever form; code stays. For old turns, whose numbers mean nothing any more."""
    return guarded(text, passages=0)


def split(text: str) -> list[CitedSentence]:
    """The sentences of a normalised reply; joined they are that reply again."""
    marks = list(_marks(text))
    starts = [mark.start for mark in marks]
    cut, end = [], 0
    for unit in _units(text):
        inside = marks[bisect_left(starts, unit.start) : bisect_left(starts, unit.end)]
        cited = tuple(dict.fromkeys(number for mark in inside for number in mark.cited))
        plain = _without_marks(text, unit.start, unit.end, inside)
        cut.append(CitedSentence(text[end : unit.start], text[unit.start : unit.end], plain, cited, unit.kind))
        end = unit.end
    return cut


def joined(cut: Iterable[CitedSentence]) -> str:
    return "".join(sentence.before + sentence.text for sentence in cut).strip()


def without(cut: Sequence[CitedSentence], removed: Collection[int]) -> list[CitedSentence]:
    """`cut` without those at the indexes `removed`. A break before one of them stays, before what follows it."""
    kept, owed = [], ""
    for index, sentence in enumerate(cut):
        before = max(owed, sentence.before, key=lambda gap: (gap.count("\n"), len(gap)))
        if index in removed:
            owed = before
        else:
            kept.append(replace(sentence, before=before))
            owed = ""
    return kept


def marked(sentence: str, cited: Iterable[int]) -> str:
    """`sentence` with a mark for each number before its closing punctuation, after a blank where the script has any."""
    at = _ending(sentence)
    marks = canonical(dict.fromkeys(cited))
    gap = _gap(sentence[:at]) if marks else ""
    return f"{sentence[:at]}{gap}{marks}{sentence[at:]}"


def _ending(sentence: str) -> int:
    """Where what ends `sentence` begins: its last punctuation with the blanks before and the closing quotes after."""
    core = sentence.rstrip(_CLOSERS)
    return len(core.rstrip(_TERMINATORS).rstrip()) if core.endswith(tuple(_TERMINATORS)) else len(sentence)


def _gap(body: str) -> str:
    last = body[-1:]
    spaced = (last.isascii() and not last.isspace()) or (last.isalnum() and not is_cjk(last))
    return " " if last and spaced else ""


@dataclass(frozen=True, slots=True)
class _Mark:
    """Marks with nothing but blanks and commas between, at `start:end`."""

    start: int
    end: int
    cited: tuple[int, ...]


def _marks(text: str, code: Code | None = None) -> Iterator[_Mark]:
    """The canonical marks of `text`, which begins with `code`."""
    code, at = code or Code(), 0
    found: _Mark | None = None
    for match in _CANONICAL.finditer(text):
        code, at = code.after(text[at : match.start()]), match.start()
        cited = numbers(match.group(), maxsize)
        if not cited or code.inside or is_index(text[max(at - LOOK_BEHIND, 0) : at]):
            continue
        if found and text[found.end : at].strip(BLANKS) in ("", *_COMMAS):
            found = _Mark(found.start, match.end(), tuple(dict.fromkeys(found.cited + cited)))
            continue
        if found:
            yield found
        found = _Mark(at, match.end(), cited)
    if found:
        yield found


def _without_marks(text: str, start: int, end: int, marks: Iterable[_Mark]) -> str:
    plain, at = "", start
    for mark in marks:
        said = text[at : mark.start]
        at = mark.end
        plain += said.rstrip(BLANKS) if joins(text[at : min(at + 1, end)]) else said
    return (plain + text[at:end]).strip()


@dataclass(frozen=True, slots=True)
class _Unit:
    start: int
    end: int
    kind: Kind


def _units(text: str) -> Iterator[_Unit]:
    block: _Unit | None = None
    for line in _lines(text):
        if line.kind == "code":
            block = replace(block, end=line.end) if block else _Unit(line.start, line.end, "code")
            continue
        if block:
            yield block
            block = None
        yield from _units_of_line(text, line)
    if block:
        yield block


def _units_of_line(text: str, line: _Line) -> Iterator[_Unit]:
    if line.kind == "sentence":
        for start, end in sentences(text, line.start, line.end):
            yield _Unit(start, end, "sentence")
        return
    start = line.start + len(line.text) - len(line.text.lstrip())
    yield _Unit(start, start + len(line.text.strip()), line.kind)


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    start: int
    kind: Kind
    code: Code
    """At its first character."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _lines(text: str) -> Iterator[_Line]:
    code, start = Code(), 0
    for line in text.split("\n"):
        after = code.after(line + "\n")
        yield _Line(line, start, "code" if code.fence or after.fence else _kind(line), code)
        code, start = after, start + len(line) + 1


def _kind(line: str) -> Kind:
    return next((kind for kind, pattern in _BLOCKS if pattern.match(line)), "sentence")


@dataclass(frozen=True, slots=True)
class _Place:
    """Marks to be put at `at` of a bare line, after `gap`; None: after what the script asks for."""

    at: int
    gap: str | None
    cited: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Bare:
    """A line without its marks, and where they go. `ends_in_code`: a code span is open where it ends."""

    text: str
    places: tuple[_Place, ...]
    kind: Kind
    ends_in_code: bool

    @property
    def blank(self) -> bool:
        return not self.text.strip() and not self.places

    @property
    def takes_marks(self) -> bool:
        end = len(self.text.rstrip())
        last = self.places[-1].at if self.places else end
        prose = self.kind in ("sentence", "item") and not self.ends_in_code
        return prose and not self.blank and _may_move(self.text, last, end)

    @property
    def led_by_marks(self) -> bool:
        return bool(self.places) and not self.text[: self.places[0].at].strip()


def _arranged(text: str) -> str:
    lines: list[_Bare] = []
    closed = False
    for line in map(_bare, _lines(text)):
        host = _host(lines, line)
        if host is None:
            if not (closed and line.blank):
                lines.append(_before_full_stops(line))
            closed = False
            continue
        lines[host] = _before_full_stops(_with_marks(lines[host], line.places[0].cited))
        rest = _without_leading_marks(line)
        if not rest.blank:
            lines.append(_before_full_stops(rest))
        # Of the blank lines around a line that is gone only those above it are kept.
        closed = rest.blank and lines[-1].blank
    return "\n".join(map(_rendered, lines))


def _bare(line: _Line) -> _Bare:
    places: list[_Place] = []
    text, at = "", 0
    for mark in _marks(line.text, line.code) if line.kind != "code" else ():
        said = line.text[at : mark.start]
        body = said.rstrip(BLANKS)
        text += body
        places.append(_Place(len(text), said[len(body) :], mark.cited))
        joint, at = _joint(text[-_NEAR:], line.text, mark.end)
        text += joint
    inside = line.kind != "code" and line.code.after(line.text).inside
    return _Bare(text + line.text[at:], tuple(places), line.kind, inside)


def _joint(body: str, text: str, end: int) -> tuple[str, int]:
    """What is to part `body` from the rest of `text` when the marks between them, up to `end`, go before a full stop;
    and where that rest begins."""
    terminator = body[_ending(body) :].lstrip()[:1]
    following, word = text[end : end + 1], _NOT_BLANK.search(text, end)
    # Punctuation that stood apart stays apart: it would become part of the ending, and the marks go before that too.
    if terminator and is_cjk(terminator) and word and is_cjk(word.group()) and word.group() not in _PUNCTUATION:
        return "", word.start()
    apart = terminator.isascii() and following.isalpha() and not is_cjk(following)
    return " " if terminator and apart else "", end


def _host(lines: Sequence[_Bare], line: _Bare) -> int | None:
    """Which of the lines above gets the marks that begin `line`."""
    if line.kind != "sentence" or not line.led_by_marks:
        return None
    rest = _without_leading_marks(line)
    if rest.blank:
        above = next((index for index in reversed(range(len(lines))) if not lines[index].blank), None)
        return above if above is not None and lines[above].takes_marks else None
    if not lines or not lines[-1].takes_marks or lines[-1].led_by_marks:
        return None
    ended = lines[-1].text.rstrip()
    starts_a_sentence = _kind(rest.text) == "sentence" and rest.text[0] not in "`~"
    return len(lines) - 1 if starts_a_sentence and _ending(ended) < len(ended) else None


def _with_marks(line: _Bare, cited: tuple[int, ...]) -> _Bare:
    return replace(line, places=(*line.places, _Place(len(line.text.rstrip()), None, cited)))


def _without_leading_marks(line: _Bare) -> _Bare:
    text = line.text[line.places[0].at :].lstrip()
    cut = len(line.text) - len(text)
    places = tuple(replace(place, at=max(place.at - cut, 0)) for place in line.places[1:])
    return replace(line, text=text, places=places)


def _before_full_stops(line: _Bare) -> _Bare:
    if not line.places or line.kind not in ("sentence", "item"):
        return line
    ends = list(_sentence_ends(line.text))
    places: list[_Place] = []
    for place in line.places:
        behind = bisect_left(ends, place.at, key=lambda end: end[1])
        at = ends[behind][0] if behind < len(ends) else place.at
        if at < place.at and _may_move(line.text, places[-1].at if places else at, at):
            place = replace(place, at=at, gap=None)
        if places and places[-1].at == place.at:
            both = dict.fromkeys(places[-1].cited + place.cited)
            places[-1] = replace(places[-1], cited=tuple(both))
        else:
            places.append(place)
    return replace(line, places=tuple(places))


def _may_move(line: str, last: int, at: int) -> bool:
    """Whether marks moved to `at` stay marks of their own: after a bracket or the comma of the `last` ones before them
    they would read as one with these."""
    return last <= at and line[last:at].strip(BLANKS) not in _COMMAS and unfinished_before(line, at) is None


def _sentence_ends(line: str) -> Iterator[tuple[int, int]]:
    """Where the punctuation that ends each sentence begins and ends. What ends no sentence before another word, such as
    an abbreviation, ends none at the end of the line."""
    for (start, end), _ in pairwise(sentences(f"{line} X")):
        at = start + _ending(line[start:end])
        if line[start:at].strip():
            yield at, end


def _rendered(line: _Bare) -> str:
    text, at = "", 0
    for place in line.places:
        text += line.text[at : place.at]
        text += (_gap(text) if place.gap is None else place.gap) + canonical(place.cited)
        at = place.at
    return text + line.text[at:]
