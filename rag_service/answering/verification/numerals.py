"""Numbers as they are written in Chinese and English, digits and words, to values. Pure."""

from __future__ import annotations

import re

DIGITS = {c: n for n, c in enumerate("零一二三四五六七八九")}
DIGITS |= {"〇": 0, "两": 2, "壹": 1, "贰": 2, "叁": 3, "肆": 4, "伍": 5, "陆": 6, "柒": 7, "捌": 8, "玖": 9, "廿": 20}
_SMALL_POWERS = {"十": 10.0, "拾": 10.0, "百": 100.0, "佰": 100.0, "千": 1000.0, "仟": 1000.0}
_LARGE_POWERS = {"万": 1e4, "亿": 1e8, "兆": 1e12}
POWERS = "".join(_SMALL_POWERS) + "".join(_LARGE_POWERS)
CHINESE = "".join(DIGITS) + POWERS

_PIECE = re.compile(r"[0-9]+(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?|.")
_ASCII_DIGITS = frozenset("0123456789")

_ONES = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17, "eighteen": 18, "nineteen": 19,
}  # fmt: skip
_TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "dozen": 12.0}
_SHORT_SCALES = {"mln": 1e6, "m": 1e6, "bn": 1e9, "b": 1e9, "k": 1e3}
_ORDINALS = {
    "second": 2, "third": 3, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
    "eleventh": 11, "twelfth": 12, "thirteenth": 13, "fourteenth": 14, "fifteenth": 15, "sixteenth": 16,
    "seventeenth": 17, "eighteenth": 18, "nineteenth": 19, "twentieth": 20, "thirtieth": 30,
}  # fmt: skip
SCALES = "|".join(_SCALES)
CARDINALS = "|".join(sorted([*_ONES, *_TENS], key=len, reverse=True))
ORDINALS = "|".join(sorted(_ORDINALS, key=len, reverse=True))
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def chinese_value(text: str) -> float | None:
    """`1.5亿`, `三千二百`, `二〇二四`, `3万5千`, `十二`; None for what is no number. Simplified characters."""
    if all(c in DIGITS for c in text):
        return float("".join(str(DIGITS[c]) for c in text)) if text else None
    total = section = number = 0.0
    counted = False
    for piece in _PIECE.findall(text):
        if piece in _SMALL_POWERS:
            section += (number if counted else 1.0) * _SMALL_POWERS[piece]
            number, counted = 0.0, False
        elif piece in _LARGE_POWERS:
            # "三千五百万亿" raises all that was said so far, "1亿2千万" only what came after the larger power.
            power, part = _LARGE_POWERS[piece], section + number
            total = total + part * power if part else (total or 1.0) * power
            section, number, counted = 0.0, 0.0, False
        elif piece in DIGITS or piece[0] in _ASCII_DIGITS:
            number, counted = float(DIGITS[piece] if piece in DIGITS else piece.replace(",", "")), True
        else:
            return None
    return total + section + number


def decimals(written: str | None) -> float:
    """What stands after 点, digit by digit: `三五` is .35."""
    return float("0." + "".join(str(DIGITS[c]) for c in written)) if written else 0.0


def english_value(words: list[str]) -> float | None:
    """`twenty-five`, `two hundred and fifty`, `three million` as lower-case words; None for what is no number."""
    total = section = 0.0
    for word in words:
        if word in _ONES or word in _TENS:
            section += _ONES.get(word, 0) + _TENS.get(word, 0)
        elif word in _SCALES and _SCALES[word] < 1000:
            section = (section or 1.0) * _SCALES[word]
        elif word in _SCALES:
            total += (section or 1.0) * _SCALES[word]
            section = 0.0
        elif word != "and":
            return None
    return total + section if words else None


def scale_of(word: str) -> float:
    return _SCALES.get(word) or _SHORT_SCALES[word]


def ordinal_value(word: str) -> int:
    return _ORDINALS[word]


def roman_value(text: str) -> int:
    """Up to a few hundred, as they number games, kings and chapters."""
    values = [_ROMAN[c] for c in text]
    return sum(-v if v < max(values[at + 1 :], default=0) else v for at, v in enumerate(values))
