"""Where sentences end, in Chinese and English, by what stands on the same line. Pure, linear time.

Two things hold for every text, and readers of a text that is still being written rely on them. Nothing but the line a
mark stands on decides about it, at most a few dozen characters either way. And while what follows a mark has not come
yet, it ends nothing: all sentences of a beginning of a text, its last one apart, are sentences of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag_service.text.characters import CJK_CHARACTER, HAN

_WIDE = "。｡！？；…⋯‼⁇⁈⁉"
_NARROW = "!?;"
_QUOTES = {"」": "「", "』": "『", "”": "“", "’": "‘", '"': '"', "'": "'"}
_BRACKETS = {"）": "（(", ")": "(（", "]": "[［", "］": "［[", "】": "【", "〕": "〔"}
_TITLES = {"》": "《", "〉": "〈"}
_CLOSERS = "".join([*_QUOTES, *_BRACKETS, *_TITLES]) + "¹²³⁰⁴⁵⁶⁷⁸⁹\ufe0e\ufe0f"
"""What belongs to the sentence it follows: closing quotes and brackets, raised numbers of footnotes, and the selectors
that make a mark an emoji."""
_OPENERS = "「『“‘（(［[【〔《〈"
_CLASS = re.escape(_CLOSERS)
# A run of full stops is looked at once, from its first: hostile text must not cost quadratic time.
_CANDIDATE = re.compile(
    rf"(?:[{_WIDE}{_NARROW}]++[{_CLASS}]*+)++"
    rf"|(?<!\.)\.++[{_CLASS}]*+(?=\s|$|[\[{HAN}「『“‘（［【〔《〈])"
    rf"|．++[{_CLASS}]*+"
    r"|\n[^\S\n]*(?:\n\s*)?"
)
# What every candidate begins with: looking for one of these characters takes a fifth of the time.
_MARK = re.compile(rf"[{_WIDE}{_NARROW}.．\n]")
# Wikipedia's and Markdown's way of writing a footnote's number. While it is being written it may become a link.
_NOTE = re.compile(r"(?:\[\^[\w-]{1,20}\]|\[\d{1,3}\](?!\())++")
_NOTE_BEGUN = re.compile(r"\[(?:\^[\w-]{0,20}|\d{0,3})(?=\n|\Z)")


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Spans of the sentences in `text[start:end]`, in order, trimmed of white space, none empty.

    They are those of that slice alone, whatever is around it. A sentence ends at full stops, question and exclamation
    marks, semicolons and ellipses, together with the closing quotes, brackets and footnote numbers after them, and at
    every line break.

    A full stop ends nothing inside a number, a URL, an abbreviation, an initial or a list number. No mark ends
    anything inside brackets that opened and close within the sentence, alone in its quotes or brackets, or before a
    comma or colon. After a closing quote or bracket what stands around decides:

    - before a lower-case word an English sentence goes on: `"Really?" he asked.`
    - before Chinese it goes on after an aside in brackets, after a title, and after quoted words that are part of it
      (把“安全第一！”挂在嘴边);
    - speech that opens the sentence ends it, unless it is said who spoke (“好。”他说。);
    - speech after a colon ends it. Of 他说：“好。”然后走了。 what follows is a sentence of its own, as the Chinese
      standard for punctuation has it (GB/T 15834: a full stop stands inside the quotes where they end the sentence).
      Only what can begin no sentence goes on (他说：“好。”的时候).
    """
    piece = text if start == 0 and (end is None or end >= len(text)) else text[start:end]
    begin = at = 0
    while (match := _next_candidate(piece, at)) is not None:
        stop = _stop(piece, begin, match)
        at = match.end() if stop is None else stop
        if stop is not None:
            yield from _trimmed(piece, begin, stop, start)
            begin = stop
    yield from _trimmed(piece, begin, len(piece), start)


def may_end_a_sentence(piece: str) -> bool:
    """Whether a sentence can end somewhere in `piece`: false for nearly every piece of a text that is being written."""
    return "." in piece or _next_candidate(piece, 0) is not None


def _next_candidate(text: str, at: int) -> re.Match[str] | None:
    while (mark := _MARK.search(text, at)) is not None:
        if (candidate := _CANDIDATE.match(text, mark.start())) is not None:
            return candidate
        at = mark.end()
    return None


def _trimmed(text: str, begin: int, end: int, offset: int) -> Iterator[tuple[int, int]]:
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    if begin < end:
        yield begin + offset, end + offset


def _stop(text: str, begin: int, match: re.Match[str]) -> int | None:
    """Where the sentence that began at `begin` ends if it ends by this mark, else None."""
    start, end = match.span()
    if text[start] == "\n":
        return end
    closed = _before_opening_quote(text, begin, start, end)
    end = closed
    if text.startswith("[", end):
        note = _NOTE.match(text, end)
        end = note.end() if note else end
        if _NOTE_BEGUN.match(text, end):
            return None
    if text[end : end + 1] in _GO_ON or _is_quoted(text, begin, start) or not _ends(text, begin, start, end):
        return None
    if text[closed - 1] in _CLOSERS and _goes_on_after_closing(text, begin, start, closed, end):
        return None
    return None if _is_inside_brackets(text, begin, start, end) else end


_GO_ON = frozenset("，、：,:.．")
"""After a mark and its quotes, these show that it was not the last."""


def _before_opening_quote(text: str, begin: int, start: int, end: int) -> int:
    """`end`, or where a straight quote begins among the closers that opens what comes next: `好。"不好。"`."""
    at = text.find('"', start, end)
    if at < 0 or end >= len(text) or text[end].isspace():
        return end
    return end if _is_open(text, begin, at) else at


def _is_open(text: str, begin: int, at: int) -> bool:
    """Whether a straight quote is open at `at`, by those of the last few hundred characters."""
    return text.count('"', max(begin, at - 300), at) % 2 == 1


def _is_quoted(text: str, begin: int, start: int) -> bool:
    """A mark right after what opens is talked about, left out, or not the end: （？）, “！”, [...], “……那么."""
    if start == begin:
        return False
    before = text[start - 1]
    return before in _OPENERS or (before == '"' and _is_open(text, begin, start))


def _ends(text: str, begin: int, start: int, end: int) -> bool:
    """By the mark itself, whatever quotes and brackets are around it."""
    mark = text[start]
    if mark in ".．":
        return _full_stop_ends(text, begin, start, end)
    if mark in "…⋯":
        return _has_begun(text, begin, start)
    if mark in _NARROW:
        return _narrow_mark_ends(text, begin, start, end)
    return True


_BLANKS = 40
_FREE = frozenset("「『“‘（［【〔《〈")


def _has_begun(text: str, begin: int, at: int) -> bool:
    """Whether anything but white space stands between, as far as one looks."""
    return bool(text[max(begin, at - _BLANKS) : at].strip())


def _is_free(after: str) -> bool:
    """Whether a half-width mark before `after` stands inside nothing: no URL, no number, no code."""
    return not after or after.isspace() or after in _FREE or CJK_CHARACTER.match(after) is not None


_QUERY = re.compile(r"(?<=[A-Za-z0-9/]\?)[\w%-]{1,30}(?:=|(?=\n|\Z))")
_ENTITY = re.compile(r"&#?\w{1,8}\Z")


def _narrow_mark_ends(text: str, begin: int, start: int, end: int) -> bool:
    if not _is_free(text[end : end + 1]) or (text[start] == "?" and _QUERY.match(text, end)):
        return False
    return not (text[start] == ";" and _ENTITY.search(text[max(begin, start - 10) : start]))


_WORD_ENDS = frozenset("(（[【\"'“‘「『《，、：:；;。！？…/")
_LONGEST_ABBREVIATION = 8
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
_LABEL = re.compile(
    r"[^\S\n]{0,40}(?:\d{1,3}(?:[.．]\d{1,3}){0,5}|[A-Za-z]|[ivxIVX]{1,5}|[一二三四五六七八九十百]{1,5})"
)
_LONGEST_LABEL = 70
_NEVER_LAST = frozenset(
    ("mr", "mrs", "ms", "messrs", "dr", "prof", "e.g", "i.e", "cf", "vs", "viz", "fig", "figs", "eq", "eqs", "ca",
     "approx", "resp", "incl", "excl",
     "lit")
)  # fmt: skip
_BEFORE_A_NAME = frozenset(("Gen", "Col", "Capt", "Lt", "Sgt", "Rev", "Hon", "Sen", "Rep", "Gov", "Pres", "Mt", "Ft"))
_BEFORE_A_NUMBER = frozenset(
    ("no", "nos", "nr", "art", "arts", "sec", "secs", "ch", "chs", "chap", "para", "paras", "ver", "vol", "vols", "pp",
     "tel", "ext", "max", "min", "par", "cl", "app", "ed", "ser")
)  # fmt: skip
_ABBREVIATIONS = frozenset(
    ("st", "sr", "jr", "etc", "al", "dept", "inc", "ltd", "co", "corp", "llc", "plc", "univ", "assn", "bros", "est",
     "u.s", "u.k", "u.n", "e.u", "u.s.a", "d.c", "b.c", "a.d", "a.m", "p.m", "ph.d", "m.d", "b.sc", "m.sc", "ave",
     "blvd", "ibid", "eds", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec")
)  # fmt: skip
# None of them is a name, as the surnames He, She, You, An, So and We are: after an initial those would be.
_STARTER = re.compile(
    r"[^\S\n]+(?:The|This|That|These|Those|It|They|There|However|When|While|Although|Because|Since|After|Before|But|And"
    r"|For|From|If|Its|Their|Then|With|By|Both|Each|Some|Many|Most|Please|See)(?=[^\S\n]|,)"
)
_NUMBER_FOLLOWS = re.compile(r"[^\S\n]{0,3}(?:\d|[#(（](?=\d|\n|\Z))")


def _full_stop_ends(text: str, begin: int, start: int, end: int) -> bool:
    after = text[end : end + 1]
    if not _is_free(after):
        return False
    if text.startswith(("..", "．．"), start):
        return _has_begun(text, begin, start)
    if start - begin <= _LONGEST_LABEL and _LABEL.fullmatch(text, begin, start):
        return False
    first = _word_start(text, begin, start)
    return not _is_abbreviated(text, first, start, end) and not _is_number_of_item(text, begin, first, start, after)


def _word_start(text: str, begin: int, end: int) -> int:
    """Where the word that ends at `end` begins, or somewhere inside it where it is too long to be an abbreviation."""
    first, earliest = end, max(begin, end - _LONGEST_ABBREVIATION - 1)
    while first > earliest:
        before = text[first - 1]
        if before.isspace() or before in _WORD_ENDS or CJK_CHARACTER.match(before):
            break
        first -= 1
    return first


def _is_abbreviated(text: str, first: int, start: int, end: int) -> bool:
    """Whether the stop belongs to the word before it. Many abbreviations also end sentences: the next word tells."""
    word = text[first:start]
    folded = word.casefold()
    if folded in _BEFORE_A_NUMBER:
        return _NUMBER_FOLLOWS.match(text, end) is not None
    if folded in _NEVER_LAST or word in _BEFORE_A_NAME:
        return True
    if _INITIALS.fullmatch(word):
        # Between Chinese characters ("维生素C.另一句") a letter is no initial, and the mark a Chinese full stop.
        after = text[end : end + 2].lstrip()
        if first > 0 and CJK_CHARACTER.match(text[first - 1]) and CJK_CHARACTER.match(after):
            return False
        return _STARTER.match(text, end) is None
    return folded in _ABBREVIATIONS and _STARTER.match(text, end) is None


def _is_number_of_item(text: str, begin: int, first: int, start: int, after: str) -> bool:
    """Short numbers that count the items of a list inside a line: `如下：1.总则2.范围`, `Steps: 1. Open it.`"""
    word = text[first:start]
    if not (0 < len(word) <= 2 and word.isdigit()):
        return False
    before = text[max(begin, first - 2) : first]
    if before[:1].isdigit() and before.endswith((":", "：")):  # 10:30
        return False
    return CJK_CHARACTER.match(after) is not None or before.rstrip().endswith((":", "："))


_FAR = 120
"""Brackets further apart are not looked for."""
_OPENING = re.compile(r"[（(［[【〔《〈]")
_CLOSERS_OF = {
    opener: tuple(closer for closer, openers in (_BRACKETS | _TITLES).items() if opener in openers)
    for opener in "（(［[【〔《〈"
}
_KIND = {closer: max(openers) for closer, openers in (_BRACKETS | _TITLES).items()}
_ANY_BRACKET = re.compile(f"[{re.escape(''.join([*_CLOSERS_OF, *_KIND]))}]")


def _is_inside_brackets(text: str, begin: int, start: int, end: int) -> bool:
    """Whether brackets opened within the sentence, not where it begins, close on this line, or still may."""
    first = max(begin, start - _FAR)
    window = text[first:end]
    if _OPENING.search(window) is None:
        return False
    opened = _innermost_open(window)
    if opened is None or not _has_begun(text, begin, first + opened):
        return False
    last = first + opened + _FAR
    ahead = text[end:last].partition("\n")[0]
    return end + len(ahead) < last or any(closer in ahead for closer in _CLOSERS_OF[window[opened]])


def _innermost_open(window: str) -> int | None:
    """Each kind of bracket is counted for itself: a closing one of another kind closes nothing."""
    closed: dict[str, int] = {}
    for bracket in reversed([*_ANY_BRACKET.finditer(window)]):
        character = bracket.group()
        if character in _KIND:
            closed[_KIND[character]] = closed.get(_KIND[character], 0) + 1
            continue
        kind = _KIND[_CLOSERS_OF[character][0]]
        if not closed.get(kind):
            return bracket.start()
        closed[kind] -= 1
    return None


_LOOK_BACK = 200
_LONGEST_WORDING = 24
"""In characters. More than that, quoted right after a word, is what a person said: reports leave out the colon."""
_LOWER_CASE = re.compile(r"[^\S\n]{1,3}[a-z]")
_AHEAD = 12
_SAYS = (
    "(?<![思理梦夢感名职職学學疑编編小])[说說问問答喊叫想笑称稱写寫讲講骂罵嚷唱叹嘆][道着著了]?"
    "|表示|指出|认为|認為|介绍|介紹|透露|[强強][调調]|坦言|[补補]充|解[释釋]"
)
_WHO_SPOKE = re.compile(rf"[{HAN}A-Za-z·]{{0,8}}(?:{_SAYS})[，。：；！？…,:]")
_MAY_BECOME_WHO_SPOKE = re.compile(rf"[{HAN}A-Za-z·]{{0,11}}")
_BEGINS_NOTHING = re.compile(r"的(?![确確士])|之(?![后後前所])|等(?![到待我你他她])|便(?![宜利])|[却卻]")


def _goes_on_after_closing(text: str, begin: int, start: int, closed: int, end: int) -> bool:
    """Whether the sentence goes on after its mark and the closing quotes or brackets, which end at `closed`."""
    after = text[end : end + 1]
    if not after or after.isspace():
        return text[start] not in _WIDE and _LOWER_CASE.match(text, end) is not None
    closer = text[closed - 1]
    if closer in _TITLES or after == "—":
        return True
    openers = _BRACKETS.get(closer) or _QUOTES.get(closer)
    if openers is None or not CJK_CHARACTER.match(after):
        return False
    before, length = _before_opener(text, begin, start, openers, closer)
    if closer in _BRACKETS:
        return before != ""
    if before.isalnum() and length <= _LONGEST_WORDING:
        return True
    return _BEGINS_NOTHING.match(text, end) is not None or (before not in ("：", ":") and _says_who_spoke(text, end))


def _before_opener(text: str, begin: int, start: int, openers: str, closer: str) -> tuple[str, int]:
    """The last character of the sentence before the opener of a quote that closes after `start`, "" for none, and how
    much is quoted."""
    earliest = max(begin, start - _LOOK_BACK)
    opened = max(text.rfind(opener, earliest, start) for opener in openers)
    if opened < 0 or (closer not in openers and text.find(closer, opened, start) >= 0):
        return "", 0
    return text[max(earliest, opened - _BLANKS) : opened].rstrip()[-1:], start - opened


def _says_who_spoke(text: str, end: int) -> bool:
    """Also where too little has come to tell."""
    ahead = text[end : end + _AHEAD].partition("\n")[0]
    return _WHO_SPOKE.match(ahead) is not None or _MAY_BECOME_WHO_SPOKE.fullmatch(ahead) is not None
