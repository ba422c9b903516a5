"""Bytes to text with a stated confidence: Unicode by its marks, others by how much they read like a language."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

import charset_normalizer

from ingest.parsers import mojibake, scripts
from rag_service.errors import ParseFailed

FLOOR = 0.5
"""Confidence below which no reading is believed."""

_BOMS: tuple[tuple[bytes, str], ...] = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is a prefix of it
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CHINESE = ("gb18030", "big5hkscs")
_ENOUGH = 0.62
_WIDE_PLAIN = re.compile(rf"[\t\n\r -~{scripts.HAN}{scripts.KANA}А-яЁё\u3000-\u303f\uff00-\uffef\u2010-\u2027]")
_WESTERN = re.compile(
    r"(?<=[A-Za-z])[ß-öø-ÿ]|[ÀÂÇÈÉÊÎÔÖØÙÛÜÄÅÆÁÍÓÚÑß-öø-ÿœŒ](?=[A-Za-z])|[‘’“”–—…•€£§©®°«»·™\xa0¿¡à±²³×÷¼½¾µ]"
)
_HIGH_PAIR = re.compile(rb"[\x80-\xff]{2}")
_CODE_PAGES = ["cp1250", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp1258", "cp874", "iso8859_2", "cp437"]
"""What is guessed among when nothing else fits: alphabets of one byte a letter."""


@dataclass(frozen=True, slots=True)
class Decoded:
    text: str
    encoding: str
    confidence: float
    """From `FLOOR` to 1 (a byte order mark, or ASCII). Of a reading by content, how much it reads like its language."""


def decode(data: bytes, declared: str | None = None) -> str:
    """The text of `data`, as `read` finds it."""
    return read(data, declared).text


def read(data: bytes, declared: str | None = None) -> Decoded:
    """The text of `data`. A byte order mark decides, then UTF-8, then `declared` (a charset label), then content.

    Raises ParseFailed("encoding") with the best reading's `encoding` and `confidence` when no reading is believable
    or the text was already damaged, ("empty") for no bytes.
    """
    if not data.strip(b"\x00 \t\r\n"):
        raise ParseFailed("empty", "the file is empty")
    best = max(_readings(data, declared), key=lambda reading: reading.confidence, default=None)
    if best is None:
        raise ParseFailed("encoding", "the text's encoding could not be told", confidence=0.0)
    if best.confidence < FLOOR:
        raise ParseFailed(
            "encoding",
            f"the text is most likely {best.encoding}, but not likely enough",
            encoding=best.encoding,
            confidence=round(best.confidence, 2),
        )
    return _undamaged(best)


def _undamaged(reading: Decoded) -> Decoded:
    damage = mojibake.damage(reading.text)
    if damage > mojibake.DAMAGED:
        raise ParseFailed(
            "encoding",
            f"the text, read as {reading.encoding}, was decoded wrongly before it was saved, or is no text",
            encoding=reading.encoding,
            confidence=round(reading.confidence * (1 - damage), 2),
        )
    return Decoded(reading.text.removeprefix("\ufeff"), reading.encoding, reading.confidence)


def _readings(data: bytes, declared: str | None) -> Iterator[Decoded]:
    """Readings of `data`; none follow one that is beyond doubt."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            yield Decoded(data.decode(encoding, "replace"), encoding, 1.0)
            return
    for certain in (_escaped, _utf16_without_mark, _utf8):
        if (reading := certain(data)) is not None:
            yield reading
            return
    if declared is not None and (told := _as_declared(data, declared)) is not None:
        yield told
        return
    for likely in (_lone_signs, _neighbour, _chinese, _japanese, _western, _russian, _traditional):
        if (reading := likely(data)) is not None and reading.confidence >= FLOOR:
            yield reading
            return
    yield from _guesses(data)


# --- Unicode


def _utf8(data: bytes) -> Decoded | None:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return _nearly_utf8(data, error)
    if text.isascii():
        return Decoded(text, "utf-8", 1.0)
    # Short GBK words ("联通") are sometimes valid UTF-8 as well, of two-byte characters that make no word.
    if max(text) < "\u0800" and scripts.foreign(text) <= 8 and scripts.alphabetic(text) < FLOOR <= _best_chinese(data):
        return None
    return Decoded(text, "utf-8", 0.99)


def _nearly_utf8(data: bytes, error: UnicodeDecodeError) -> Decoded | None:
    begun = not data[: error.start].isascii()
    if begun and error.reason == "unexpected end of data":
        detail = "the UTF-8 text ends in the middle of a character"
        raise ParseFailed("encoding", detail, encoding="utf-8", confidence=0.0) from error
    # Chance makes few valid multi-byte characters: a text full of them with hardly a broken one is UTF-8.
    text = data.decode("utf-8", "replace")
    many = scripts.foreign(text) > 20 * text.count("\ufffd")
    return Decoded(text, "utf-8", 0.9) if many and mojibake.damage(text) <= mojibake.DAMAGED else None


def _utf16_without_mark(data: bytes) -> Decoded | None:
    """Plain UTF-16: ASCII as NUL-padded pairs, or almost nothing but letters of the known scripts."""
    sample = data[: min(4096, len(data) - len(data) % 2)]
    if b"\x00" not in sample and _is_utf8(sample):
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        text = sample.decode(encoding, "replace")
        plain = len(_WIDE_PLAIN.findall(text)) / len(text) if text else 0.0
        # Two ASCII letters also make a Han character, but seldom a common one.
        familiar = sum(c in scripts.COMMONEST_HAN or c.isascii() or "\u3041" <= c <= "\u3096" for c in text)
        if plain >= 0.95 and familiar >= 0.1 * len(text):
            return Decoded(data.decode(encoding, "replace"), encoding, round(plain, 2))
    return None


def _is_utf8(sample: bytes) -> bool:
    try:
        _beginning(sample, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _beginning(data: bytes, encoding: str) -> str:
    """Up to 64 KiB decoded strictly, a character cut off at the end left out; raises UnicodeDecodeError."""
    return codecs.getincrementaldecoder(encoding)().decode(scripts.sample(data))


def _escaped(data: bytes) -> Decoded | None:
    """ISO-2022-JP, the seven-bit encoding of Japanese mail, which says itself by its escapes."""
    if b"\x1b$" not in data or not data.isascii():
        return None
    try:
        return Decoded(data.decode("iso2022_jp_2"), "iso2022_jp_2", 0.99)
    except UnicodeDecodeError:
        return None


# --- declared


def _as_declared(data: bytes, label: str) -> Decoded | None:
    """The text in a declared charset, or None where the label is unknown, untrue, or says too little to trust."""
    try:
        name = codecs.lookup(label.strip()).name
    except LookupError:
        return None
    # The Latin ones accept everything, and UTF-16 cannot be told by an ASCII label inside the text.
    if name.startswith(("iso8859-1", "cp1252", "ascii", "latin", "utf-16", "utf-32")):
        return None
    # As browsers do (WHATWG Encoding): the labels mean their supersets.
    supersets = {"gb2312": "gb18030", "gbk": "gb18030", "big5": "big5hkscs", "shift_jis": "cp932", "euc_kr": "cp949"}
    name = supersets.get(name, name)
    try:
        text = data.decode(name, "replace")
    except (LookupError, UnicodeError):
        # Python also knows codecs that are no charset: `hex`, `undefined`.
        return None
    return Decoded(text, name, 0.9) if _is_likely(data, text, name) else None


def _is_likely(data: bytes, text: str, name: str) -> bool:
    """Whether nothing speaks against a declared charset."""
    if mojibake.damage(text) > mojibake.DAMAGED:
        return False
    if name in _CHINESE:
        score = scripts.chinese(data, name)
        return score >= _ENOUGH or score >= max(scripts.chinese(data, other) for other in _CHINESE)
    single_byte = name.startswith(("cp125", "iso8859", "koi8", "cp866", "cp874", "mac"))
    return not single_byte or scripts.alphabetic(text) >= 0.8


# --- by content


def _neighbour(data: bytes) -> Decoded | None:
    """Japanese and Korean, which mostly decode as Chinese too: told by a text full of kana or Hangul."""
    for encoding in ("cp932", "euc_jp"):
        text = _strictly(data, encoding)
        if text is not None and scripts.foreign(text) >= 8 and scripts.share(text, scripts.KANA) >= 0.3:
            return Decoded(data.decode(encoding, "replace"), encoding, round(scripts.japanese(text), 2))
    text = _strictly(data, "cp949")
    if text is None or scripts.foreign(text) < 4:
        return None
    hangul = scripts.share(text, scripts.HANGUL + "·‘’“”")
    as_chinese = scripts.sample(data).decode("gb18030", "replace")
    common = sum(c in scripts.COMMONEST_HANGUL for c in text) > sum(c in scripts.COMMONEST_HAN for c in as_chinese)
    return Decoded(data.decode("cp949", "replace"), "cp949", round(hangul, 2)) if hangul >= 0.9 and common else None


def _strictly(data: bytes, encoding: str) -> str | None:
    try:
        return _beginning(data, encoding)
    except UnicodeDecodeError:
        return None


def _chinese(data: bytes) -> Decoded | None:
    """GB18030 or Big5, whichever reads better, or None when neither reads as Chinese."""
    scores = {encoding: scripts.chinese(data, encoding) for encoding in _CHINESE}
    best = max(scores, key=lambda encoding: scores[encoding])
    return _scored(data, best, scores[best]) if scores[best] >= _ENOUGH else None


def _best_chinese(data: bytes) -> float:
    return max(scripts.chinese(data, encoding) for encoding in _CHINESE)


def _japanese(data: bytes) -> Decoded | None:
    """Kanji without kana, as in a list of names, where it does not read as Chinese."""
    text = _strictly(data, "cp932")
    score = 0.0 if text is None else scripts.japanese(text)
    return _scored(data, "cp932", score) if score >= 0.8 else None


def _lone_signs(data: bytes) -> Decoded | None:
    """English with a few Western signs ("100 °C"), none beside another, as Chinese hardly has any."""
    return None if _HIGH_PAIR.search(scripts.sample(data)) else _cp1252(data)


def _western(data: bytes) -> Decoded | None:
    reading = _cp1252(data)
    return reading if reading is not None and scripts.foreign(reading.text) * 4 < len(reading.text) else None


def _cp1252(data: bytes) -> Decoded | None:
    """Where what is not ASCII is Latin letters within words, and the punctuation of word processors."""
    text = scripts.sample(data).decode("cp1252", "replace")
    foreign = scripts.foreign(text)
    likely = len(_WESTERN.findall(text))
    return _scored(data, "cp1252", likely / foreign) if foreign and likely >= 0.95 * foreign else None


def _russian(data: bytes) -> Decoded | None:
    """The Cyrillic encodings, which differ in the order of letters and in which half the small ones lie."""
    scores = {
        encoding: scripts.russian(scripts.sample(data).decode(encoding, "replace"))
        for encoding in ("cp1251", "koi8-r", "cp866", "iso8859-5")
    }
    best = max(scores, key=lambda encoding: scores[encoding])
    return _scored(data, best, scores[best])


def _traditional(data: bytes) -> Decoded | None:
    score = scripts.traditional(data)
    return _scored(data, "gb18030", score) if score >= 0.75 else None


def _guesses(data: bytes) -> Iterator[Decoded]:
    guess = charset_normalizer.from_bytes(scripts.sample(data), cp_isolation=_CODE_PAGES).best()
    if guess is not None:
        text = data.decode(guess.encoding, "replace")
        yield Decoded(text, guess.encoding, round(scripts.alphabetic(text) * (1 - guess.chaos) * 0.8, 2))


def _scored(data: bytes, encoding: str, score: float) -> Decoded:
    """A score holds for a text, and for a few characters less."""
    text = data.decode(encoding, "replace")
    few = scripts.foreign(text)
    return Decoded(text, encoding, round(score * (few + 1) / (few + 1.5), 2))
