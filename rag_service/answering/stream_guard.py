"""What may reach a client while a reply is coming: no stop string, no template text, no mark that names no passage.

The text is read a character at a time and whatever is taken out is as if it had never been written, so what is left
cannot close over the gap: `[9[99]9]` and `<|im_<|im_end|>end|>` leave nothing. What is done does not depend on how the
text was cut into pieces.

- A stop string ends the reply and is no part of it. Forbidden text is cut out.
- A mark (see mark_forms) becomes `[1][3]` of the numbers the prompt has passages for. Without any it goes, with the
  blanks before it unless they still part two words, or at a line's start with those after it. Code keeps its own.
- Marks stay where the model put them; only the final text has them before the full stop.
- Held back is what can still become one of these, `HELD` characters or the longest template text at most. Unfinished
  openings nested deeper, which only hostile text has, lose the oldest.
- At the end of the reply, an unfinished mark goes, and the beginning of a stop string or template text goes too where
  it can be told: from three characters or two different ones on. `C#` and `a <` stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from rag_service.answering.code_spans import Code
from rag_service.answering.mark_forms import (
    BLANKS,
    CLOSERS,
    LOOK_BEHIND,
    OPENERS,
    canonical,
    holds_a_number,
    is_cjk,
    is_index,
    numbers,
    unfinished,
)

HELD = 64
_MOST_BLANKS = 8
"""More in a row are a layout, and those before the last ones stay."""
_SNUG = BLANKS + "\n.,;:!?)]}'\""
"""What wants no blank before it, besides Chinese and the end."""


def guarded(
    text: str,
    *,
    passages: int,
    stop: tuple[str, ...] = (),
    forbidden: tuple[str, ...] = (),
    strip_first_space: bool = False,
) -> str:
    """All that a client gets of `text`, however it was cut into pieces."""
    guard = StreamGuard(stop, forbidden, passages, strip_first_space=strip_first_space)
    return guard.feed(text) + guard.finish()


def joins(following: str) -> bool:
    """Whether a mark that goes takes the blanks before it along, by the character after it; "" is the end."""
    return following in _SNUG or is_cjk(following)


@dataclass(slots=True)
class _Opening:
    """The beginning, at `start` of what is held, of something that may yet be taken out."""

    start: int
    may_be_mark: bool
    emptied: bool = False
    """A mark was taken out of this one, so that without a number it is none of the author's brackets."""


class StreamGuard:
    """For one reply. `stopped` once a stop string came: all further text is ignored.

    `strip_first_space` drops one space at the very beginning, which `healed` spacing owes to the prompt.
    """

    def __init__(
        self, stop: tuple[str, ...], forbidden: tuple[str, ...], passages: int, *, strip_first_space: bool = False
    ) -> None:
        self.stopped = False
        self._stop = stop
        self._forbidden = tuple(sorted(forbidden, key=len, reverse=True))
        self._passages = passages
        self._strips_space = strip_first_space
        self._last = frozenset(text[-1] for text in stop + forbidden)
        self._begun_stop = _beginnings(stop)
        self._begun_forbidden = _beginnings(forbidden)
        self._most = max((HELD, *map(len, stop + forbidden)))
        self._starts = frozenset((*OPENERS, *BLANKS, *(text[0] for text in stop + forbidden)))
        self._plain = re.compile(f"[^{re.escape(''.join(sorted(self._starts)))}]+")
        # Held text is its openings, end to end: none of it is text for good.
        self._held = ""
        self._openings: list[_Opening] = []
        self._cited: tuple[int, ...] | None = None
        """What the mark at the end of the held text cites; only the next character says whether it is one."""
        self._blanks_in_doubt = False
        self._swallows_blanks = False
        self._released: list[str] = []
        self._code = Code()
        self._behind = ""

    def feed(self, piece: str) -> str:
        """What can be shown now; may be empty."""
        if self._strips_space and piece:
            piece = piece.removeprefix(" ")
            self._strips_space = False
        at = 0
        while at < len(piece) and not self.stopped:
            plain = None if self._held or self._swallows_blanks else self._plain.match(piece, at)
            if plain:
                self._release(plain.group())
                at = plain.end()
            else:
                self._take(piece[at])
                at += 1
        return self._drained()

    def finish(self) -> str:
        """What is left at the end of the reply. Nothing may be fed afterwards."""
        self._end()
        return self._drained()

    def _take(self, character: str) -> None:
        if self._cited is not None:
            self._settle_mark(character)
        if self._swallows_blanks and character in BLANKS:
            return
        self._swallows_blanks = False
        if self._blanks_in_doubt:
            self._settle_blanks(character)
        self._held += character
        if not (character in self._last and self._cut_template_text()):
            self._hold_or_release()

    def _cut_template_text(self) -> bool:
        for text in self._stop:
            if self._held.endswith(text):
                self._shorten(len(self._held) - len(text))
                self.stopped = True
                self._end()
                return True
        for text in self._forbidden:
            if self._held.endswith(text):
                self._shorten(len(self._held) - len(text))
                return True
        return False

    def _hold_or_release(self) -> None:
        """Keeps what is held for as long as something can come of it, with the character that was just added."""
        goes_on = self._openings and self._goes_on(self._openings[-1])
        first = self._openings[-1].start + 1 if self._openings else 0
        if not goes_on and not any(self._opens(at) for at in range(first, len(self._held))):
            self._release_held(len(self._held))
        while len(self._held) > self._most:
            self._lose_oldest()

    def _goes_on(self, opening: _Opening) -> bool:
        text = self._held[opening.start :]
        if text in self._begun_forbidden or text in self._begun_stop:
            return True
        if text[0] in BLANKS:
            return len(text) <= _MOST_BLANKS and not text.strip(BLANKS)
        if not opening.may_be_mark:
            return False
        if text[-1] in CLOSERS and (opening.emptied or holds_a_number(text)):
            # Where the closer is that of a mark inside this one, this one is still open.
            self._cited = None if unfinished(text) else numbers(text, self._passages)
            if self._cited is not None:
                return True
        return unfinished(text)

    def _opens(self, at: int) -> bool:
        """Whether something may begin at `at`; what is held before it is let go where that can no longer change."""
        if self._held[at] not in self._starts:
            return False
        new = _Opening(at, self._held[at] in OPENERS and self._allows_mark(at))
        if not self._goes_on(new):
            return False
        if self._openings and self._is_over(self._openings[-1], new):
            self._release_held(at)
            new.start = 0
        self._openings.append(new)
        return True

    def _is_over(self, before: _Opening, new: _Opening) -> bool:
        """Whether what is held before `new` is text for good: where `new` takes nothing with it when it goes."""
        text, following = self._held[before.start : new.start], self._held[new.start :]
        if following[0] in BLANKS and not text.strip(BLANKS):
            return True
        only_stops = following in self._begun_stop and following not in self._begun_forbidden and not new.may_be_mark
        return only_stops and self._is_shown_at_the_end(text, before)

    def _allows_mark(self, at: int) -> bool:
        before = self._held[:at]
        return not self._code.after(before).inside and not is_index(self._behind + before)

    def _settle_mark(self, following: str) -> None:
        cited, self._cited = self._cited, None
        ascii_closer = self._held[-1] == "]"
        if following == "(" and ascii_closer:
            self._release_held(len(self._held))  # a Markdown link
            return
        opening = self._openings.pop()
        self._held = self._held[: opening.start]
        if cited:
            # Written in ASCII brackets it must not become a link.
            self._held += canonical(cited) + (" " if following == "(" else "")
            if not (self._openings and self._goes_on(self._openings[-1])):
                self._release_held(len(self._held))
            return
        if self._openings:
            self._openings[-1].emptied = True
        self._blanks_in_doubt = True
        self._swallows_blanks = (self._behind + self._held)[-1:] in ("", "\n")

    def _settle_blanks(self, following: str) -> None:
        """Whether the blanks before a mark that was dropped stay: they still part two words."""
        self._blanks_in_doubt = False
        if joins(following):
            self._shorten(len(self._held.rstrip(BLANKS)))

    def _end(self) -> None:
        if self._cited is not None:
            self._settle_mark("")
        if self._blanks_in_doubt:
            self._settle_blanks("")
        shown = ""
        places = [*(opening.start for opening in self._openings), len(self._held)]
        for opening, (start, end) in zip(self._openings, pairwise(places), strict=True):
            text = self._held[start:end]
            shown = shown + text if self._is_shown_at_the_end(text, opening) else shown.rstrip(BLANKS)
        self._held, self._openings = "", []
        self._release(shown)

    def _is_shown_at_the_end(self, text: str, opening: _Opening) -> bool:
        if opening.may_be_mark and unfinished(text):
            return False
        begun = text in self._begun_stop or text in self._begun_forbidden
        return not begun or (len(text) < 3 and len(set(text)) == 1)

    def _lose_oldest(self) -> None:
        """Nested too deep. Letting the oldest go as text could complete it once the others are taken out."""
        end = self._openings[1].start
        if not self._held[:end].strip(BLANKS):
            self._release_held(end)
        else:
            self._drop_front(end)

    def _release_held(self, end: int) -> None:
        text = self._held[:end]
        self._drop_front(end)
        self._release(text)

    def _drop_front(self, end: int) -> None:
        self._held = self._held[end:]
        self._openings = [
            _Opening(one.start - end, one.may_be_mark, one.emptied) for one in self._openings if one.start >= end
        ]

    def _shorten(self, end: int) -> None:
        self._held = self._held[:end]
        while self._openings and self._openings[-1].start >= end:
            self._openings.pop()

    def _release(self, text: str) -> None:
        if text:
            self._released.append(text)
            self._code = self._code.after(text)
            self._behind = (self._behind + text)[-LOOK_BEHIND:]

    def _drained(self) -> str:
        text = "".join(self._released)
        self._released.clear()
        return text


def _beginnings(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text[:length] for text in texts for length in range(1, len(text)))
