"""What both languages need before anything else: folding, lexical terms, sentence boundaries, language of a span.

Everything here is pure and works on Unicode code points; offsets are those of the text handed in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

from rag_service.types import Language

# Han with its extensions and compatibility block, the two iteration marks, and kana: scripts written without spaces.
_HAN = "\u2e80-\u2fdf\u3005\u3007\u3021-\u3029\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3040-\u30ff\u31f0-\u31ff"
_CJK_RUN = re.compile(f"[{_HAN}{_KANA}]+")
_CJK_CHARACTER = re.compile(f"[{_HAN}{_KANA}]")
_WORD_RUN = re.compile(r"[^\W_]+")
_SCRIPT_RUN = re.compile(f"[{_HAN}{_KANA}]+|[^{_HAN}{_KANA}]+")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")


def fold(text: str) -> str:
    """Width and case folded: NFKC, then casefold. For comparing, never for showing (offsets change)."""
    return unicodedata.normalize("NFKC", text).casefold()


def lexical_terms(text: str) -> list[str]:
    """The terms the lexical leg indexes and asks for, in text order, repeats kept.

    Runs of Han or kana become overlapping character bigrams (a lone character stays itself): they retrieve as well as
    dictionary words (shared measurements: R@1 .928 against .922) and need no dictionary. Everything else is words.
    """
    terms: list[str] = []
    for run in _WORD_RUN.findall(fold(text)):
        if run.isascii():
            terms.append(_stem(run))
            continue
        for part in _SCRIPT_RUN.findall(run):
            if len(part) > 1 and _CJK_CHARACTER.match(part):
                terms += [part[at : at + 2] for at in range(len(part) - 1)]
            else:
                terms.append(part)
    return terms


def storable(text: str) -> str:
    """`text` with U+FFFD for what no database holds as text: U+0000, and half of a surrogate pair."""
    return _UNSTORABLE.sub("\ufffd", text)


def in_context(headings: Sequence[str], text: str) -> str:
    """`text` under its heading path, as it is embedded and indexed: a section seldom repeats what it is about.

    Headings that `text` itself begins with are not said twice.
    """
    opening = text[: sum(len(heading) + 16 for heading in headings)]
    missing = [heading for heading in headings if heading not in opening]
    return "\n".join([*missing, text])


def _stem(word: str) -> str:
    """Harman's S-stemmer (1991, "How effective is suffixing?"): plural and singular meet, nothing else is touched."""
    if len(word) < 4 or not word.isascii() or not word.endswith("s"):
        return word
    if word.endswith("ies") and word[-4] not in "ea":
        return word[:-3] + "y"
    if word.endswith("es") and word[-3] not in "aeo":
        return word[:-1]
    if word[-2] not in "us":
        return word[:-1]
    return word


def language_of(text: str) -> Language:
    """`zh` where Han characters carry at least as much as the Latin words beside them, else `en`.

    One Latin word weighs as much as two Han characters: about what each carries, and it keeps product names inside a
    Chinese sentence from turning the sentence English.
    """
    han = sum(len(run.group()) for run in _CJK_RUN.finditer(text))
    words = sum(1 for _ in _LATIN_WORD.finditer(text))
    return "zh" if han > 0 and han >= 2 * words else "en"


# A sentence ends after these, together with the closing quotes and brackets that follow.
_TERMINATORS = "。！？!?；;…"
_CLOSERS = "」』”’\"')）]】》〉"
_ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "sr", "jr", "vs", "etc", "e.g", "i.e", "al", "fig", "figs", "no", "nos",
     "vol", "pp", "p", "cf", "dept", "inc", "ltd", "co", "corp",
     "approx", "est", "u.s", "u.k", "u.n", "a.m", "p.m", "ph.d",
     "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec")
)  # fmt: skip
# A run of full stops is looked at once, from its first: hostile text must not cost quadratic time.
_BOUNDARY = re.compile(
    rf"[{_TERMINATORS}]+[{re.escape(_CLOSERS)}]*"
    rf"|(?<!\.)\.++[{re.escape(_CLOSERS)}]*+(?=\s|$|[{_HAN}])"
    r"|\n[^\S\n]*(?:\n\s*)?"
)
_INITIALS = re.compile(r"(?:[A-Za-z]\.)*[A-Za-z]")
_BEFORE_A_WORD = frozenset("(（[【\"'“‘「『《，、：；。！？…")
_LONGEST_ABBREVIATION = 8


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Spans of the sentences in `text[start:end]`, in order, trimmed of white space, none empty.

    Ends at Chinese and English full stops, question and exclamation marks, semicolons, ellipses and line breaks, with
    the closing quotes that follow. A full stop ends nothing inside a number, a URL, an abbreviation or an initial.
    """
    stop = len(text) if end is None else end
    begin = start
    for match in _BOUNDARY.finditer(text, start, stop):
        if match.end() <= begin or not _is_boundary(text, begin, match):
            continue
        yield from _trimmed(text, begin, match.end())
        begin = match.end()
    yield from _trimmed(text, begin, stop)


def may_end_a_sentence(piece: str) -> bool:
    """Whether a sentence can end somewhere in `piece`: false for nearly every piece of a text that is being written."""
    return _BOUNDARY.search(piece) is not None or "." in piece


def _is_boundary(text: str, begin: int, match: re.Match[str]) -> bool:
    mark = match.group()
    if mark[0] in "。！？\n；…":
        return True
    if mark[0] in "!?;":
        # Half-width marks also stand inside URLs and code, where no space follows.
        after = text[match.end() : match.end() + 1]
        return not after or after.isspace() or bool(_CJK_CHARACTER.match(after))
    if mark.startswith(".."):
        return True
    first = _word_start(text, begin, match.start())
    word = text[first : match.start()]
    if word.casefold() in _ABBREVIATIONS:
        return False
    if _INITIALS.fullmatch(word):
        # Between Chinese characters ("维生素C.另一句") a letter is no initial, and the mark a Chinese full stop.
        after = text[match.end() : match.end() + 2].lstrip()
        return bool(_CJK_CHARACTER.match(text[first - 1 : first]) and _CJK_CHARACTER.match(after))
    # "3." at the start of a line is a list number, not a sentence.
    return not (word.isdigit() and not text[begin:first].strip())


def _word_start(text: str, begin: int, end: int) -> int:
    """Where the word that ends at `end` begins, or somewhere inside it where it is too long to be an abbreviation."""
    first, earliest = end, max(begin, end - _LONGEST_ABBREVIATION - 1)
    while first > earliest:
        before = text[first - 1]
        if before.isspace() or before in _BEFORE_A_WORD or _CJK_CHARACTER.match(before):
            break
        first -= 1
    return first


def _trimmed(text: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    while begin < end and text[begin].isspace():
        begin += 1
    while end > begin and text[end - 1].isspace():
        end -= 1
    if begin < end:
        yield begin, end
