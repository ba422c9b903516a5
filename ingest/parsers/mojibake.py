"""Text that was decoded wrongly before it came here, told by reading it back.

UTF-8 taken for a legacy encoding ("ä½\\xa0å¥½", "浣犲ソ", "РџСЂРёРІРµС‚") encodes back into bytes that are UTF-8 again,
which bytes of honest text in those encodings hardly ever are. GBK taken for Latin-1 ("ÄãºÃ") stands in runs of
accented letters that no alphabet has. What could not be decoded at all leaves marks: U+FFFD, 锟斤拷 (two of them as
UTF-8, read as GBK), 烫烫烫 and 屯屯屯 (memory never written to, read as GBK), rows of question marks.

Not told: Big5 read as GBK or the other way round, which gives real characters.

Measured on the 39,672 passages (24 million characters) of sixteen public question answering sets in both languages:
refused were 79, each of which does hold damage of its source. Of the Chinese passages (22,533) turned to mojibake
these passed: UTF-8 as Latin-1 0, as cp1252 3, as GBK or GB18030 13, as Big5 127, as cp932 31, as cp949 80, as cp1251
19; GBK as Latin-1 17 (of 16,203). Of passages cut to twenty characters 3 % pass as GBK and .2 % as cp1252. English
that has only a few typographic marks passes where fewer than one character in a thousand was hit.
"""

from __future__ import annotations

import re

from ingest.parsers import scripts

DAMAGED = 0.005
"""Share of a text's characters from which it is taken for damaged."""

_LOST = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f-\x84\x86-\x9f\ufffd]|(?<![“\"「『‘'])锟斤拷|[锛銆鈥锘]")
_LOST_PER = 1000
_MEMORY = re.compile("烫{3,}|屯{3,}|葺{3,}|锟{2,}")
_QUESTION_MARKS = re.compile(r"\?{2,}")

# Characters of everyday text in UTF-8: Latin, Greek, Cyrillic, Hebrew and Arabic letters, typography, CJK, emoji.
_UTF8 = re.compile(
    rb"(?:\xc2[\xa0-\xbf]|[\xc3-\xc5][\x80-\xbf]|\xce[\x91-\xbf]|\xcf[\x80-\x8e]|\xd0[\x90-\xbf]|\xd1[\x80-\x8f]"
    rb"|(?:\xd7[\x90-\xaa]|[\xd8\xd9][\x80-\xbf]){3,}|\xe2\x80[\x90-\xaf]|[\xe3-\xed][\x80-\xbf]{2}|\xef[\xbb-\xbd][\x80-\xbf]"
    rb"|\xf0\x9f[\x80-\xbf]{2})+"
)
# In two-byte encodings any pair may look like one letter; three bytes twice in a row are no chance.
_UTF8_HAN = re.compile(rb"(?:[\xe3-\xed][\x80-\xbf]{2}|\xef[\xbc-\xbd][\x80-\xbf]|\xe2\x80[\x90-\xaf]){2,}")
_UTF8_CYRILLIC = re.compile(rb"(?:\xd0[\x90-\xbf]|\xd1[\x80-\x8f]){4,}")
# "小小小小" is such a run in GBK as well, but everyday characters have no second byte as low as these.
_CONTINUATION = re.compile(rb"[\x80-\x9f]")
_CP1252 = {
    ord(bytes([byte]).decode("cp1252")): byte for byte in range(0x80, 0xA0) if byte not in b"\x81\x8d\x8f\x90\x9d"
}
_LATIN_RUN = re.compile(rf"[\x80-\xff{''.join(map(chr, _CP1252))}]{{2,}}")
_CYRILLIC_HIGH = bytes(byte for byte in range(0x80, 0x100) if byte != 0x98).decode("cp1251")
_CYRILLIC_RUN = re.compile(rf"[{re.escape(_CYRILLIC_HIGH)}]{{4,}}")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_CYRILLIC_LETTER = re.compile("[А-я]")
_LATIN_LETTERS = re.compile("[À-ÖØ-öø-ÿ]")


def damage(text: str) -> float:
    """Share of the characters of `text` that an earlier wrong decoding left: 0 for an honest text, up to 1."""
    if not text:
        return 0.0
    lost = len(_LOST.findall(text))
    found = [DAMAGED * lost * _LOST_PER / len(text), _repeated(text)]
    if not text.isascii():
        # One pass finds what may have been read as Latin; the rest of a Chinese text is not looked at again.
        runs = "\n".join(_LATIN_RUN.findall(text)).translate(_CP1252)
        found += [_utf8_in_latin(runs) / len(text), _legacy_in_latin(runs) / len(text)]
        found += [_utf8_in_cyrillic(text), _utf8_in_han(text)]
    return min(1.0, max(found))


def _repeated(text: str) -> float:
    memory = sum(map(len, _MEMORY.findall(text)))
    marks = sum(map(len, _QUESTION_MARKS.findall(text)))
    return memory / len(text) + (marks / len(text) if marks * 4 > len(text) else 0.0)


def _utf8_in_latin(runs: str) -> float:
    """Characters of UTF-8 that was read as Latin-1 or cp1252."""
    found = _UTF8.findall(runs.encode("latin-1"))
    return max(sum(map(len, found)), DAMAGED * len(found) * _LOST_PER)


def _utf8_in_cyrillic(text: str) -> float:
    if not _CYRILLIC_LETTER.search(text):
        return 0.0
    read_back = "\n".join(_CYRILLIC_RUN.findall(text)).encode("cp1251")
    return sum(len(run) for run in _UTF8.findall(read_back) if len(run) >= 4) / len(text)


def _utf8_in_han(text: str) -> float:
    """UTF-8 that was read as a Chinese, Japanese or Korean encoding: most of what is not ASCII, or it is chance.

    Looked for only where the text stops being ASCII: a file is damaged so as a whole, and this check is the slowest.
    """
    first = _NOT_ASCII.search(text)
    start = first.start() if first is not None else 0
    sample = text[start : start + scripts.SAMPLE_BYTES]
    foreign = scripts.foreign(sample)
    for encoding in ("gb18030", "big5hkscs", "cp949", "cp932"):
        read_back = sample.encode(encoding, "replace")
        covered = sum(map(len, _UTF8_HAN.findall(read_back)))
        covered += sum(len(run) for run in _UTF8_CYRILLIC.findall(read_back) if _CONTINUATION.search(run))
        if covered > foreign * 0.6:
            return covered / 2 / min(len(text), scripts.SAMPLE_BYTES)
    return 0.0


def _legacy_in_latin(runs: str) -> int:
    """Characters of GBK, Big5 or Cyrillic that was read as Latin-1 or cp1252."""
    long = [run for run in runs.split("\n") if len(run) >= 4 and len(_LATIN_LETTERS.findall(run)) * 3 > len(run)]
    joined = "\n".join(long).encode("latin-1")
    if not joined:
        return 0
    scores = (scripts.chinese(joined, "gb18030"), scripts.chinese(joined, "big5hkscs"))
    is_legacy = max(scores) > 0.62 or scripts.russian(joined.decode("cp1251", "replace")) > 0.7
    return len(joined) if is_legacy else 0
