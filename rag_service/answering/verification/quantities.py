"""Numbers in Chinese and English text, with what they count. Pure.

Text comes through `normal`; spans are those of the text handed in. Ordinals, fractions, percentages, ranges, decades
and centuries are quantities like any other, and so are the parts of a date (`dates`). Nothing is converted: 3 km is
not 3,000 m.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rag_service.answering.verification import numerals, units
from rag_service.text import simplified


@dataclass(frozen=True, slots=True)
class Quantity:
    """`unit` is a name of `units` or "" where none is known."""

    value: float
    unit: str
    start: int
    end: int
    exact: bool = True
    """False for "one", "half" and the like, said in so many ways that not finding them means nothing."""


_VULGAR = {"½": ".5", "¼": ".25", "¾": ".75", "⅓": ".333", "⅔": ".667"}
_VULGAR_SIGN = re.compile(r"(\d?)\s?([½¼¾⅓⅔])")
_SPACES = re.compile(r"\s+")


def normal(text: str) -> str:
    """NFKC, simplified characters, single spaces, vulgar fractions as decimals: what every reader here takes."""
    text = _VULGAR_SIGN.sub(lambda m: (m[1] or "0") + _VULGAR[m[2]], text.replace("1⁄2", "½"))
    return _SPACES.sub(" ", simplified(unicodedata.normalize("NFKC", text)))


def quantities(text: str) -> list[Quantity]:
    """In text order, none overlapping."""
    found: list[Quantity] = []
    rest = text
    for read in (_fractions, _chinese, _english_digits, _english_words, _english_ordinals):
        found += read(rest)
        rest = without(text, found)
    return _ranges_completed(text, sorted(found, key=lambda quantity: quantity.start))


def without(text: str, found: Sequence[Quantity]) -> str:
    """`text` with what was found blanked out, lengths kept."""
    pieces, at = [], 0
    for quantity in sorted(found, key=lambda quantity: quantity.start):
        if quantity.start >= at:  # The parts of a date share one span.
            pieces += [text[at : quantity.start], "\0" * (quantity.end - quantity.start)]
            at = quantity.end
    return "".join([*pieces, text[at:]])


def loose_values(text: str) -> set[float]:
    """Every value that could be meant by anything in `text`: where a claimed number is looked for last."""
    runs = _CHINESE_RUN.findall(text)
    lower = text.lower()
    values = {value for run in runs if (value := numerals.chinese_value(run)) is not None}
    # "三四个", "二十三四": each digit may have been meant alone.
    values |= {float(numerals.DIGITS[c]) for run in runs for c in run if c in numerals.DIGITS}
    values |= {float(numerals.roman_value(run)) for run in _ROMAN.findall(text)}
    values |= {float(run.replace(",", "")) for run in _PLAIN_DIGITS.findall(text)}
    values |= {value for word in _WORDS.findall(lower) if (value := numerals.english_value([word])) is not None}
    values |= {float(numerals.ordinal_value(word)) for word in _ORDINAL_WORDS.findall(lower)}
    return values | {value for value, said in _SAID_OTHERWISE.items() if said.search(lower)}


_DIGITS = r"[0-9]+(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]+(?:\.[0-9]+)?"
_WRITTEN = re.compile(_DIGITS)
_CHINESE_RUN = re.compile(f"[{numerals.CHINESE}]+")
_ROMAN = re.compile(r"\b[IVXLC]{2,7}\b")
# Digits that stand for more, as in "3000万", are not their own value.
_PLAIN_DIGITS = re.compile(
    rf"(?<![0-9.,])(?:{_DIGITS})(?![0-9]|[.,][0-9]|\s?[{numerals.POWERS}]|\s(?:{numerals.SCALES}))"
)
_WORDS = re.compile(rf"\b(?:{numerals.CARDINALS})\b")
_ORDINAL_WORDS = re.compile(rf"\b(?:{numerals.ORDINALS})\b")
_SAID_OTHERWISE = {
    2.0: re.compile(r"\b(?:both|twice|double[ds]?|doubling|pair|couple|dual|twin|n?either|another)\b|双|俩|倍|另|兼"),
    10.0: re.compile("decade"),
    100.0: re.compile("centur"),
}


# ------------------------------------------------------------------------------------------------------- fractions

_CHINESE_FRACTION = re.compile(
    rf"(?P<under>[{numerals.CHINESE}]+|[0-9]+)分之(?P<over>[0-9.,]+|[{numerals.CHINESE}]+)"
    "(?:点(?P<decimal>[零一二三四五六七八九]+))?"
)
_ENGLISH_FRACTION = re.compile(
    r"\b(?P<over>one|two|three|four|five|a(?= quarter\b))[ -]"
    r"(?P<under>third|quarter|fourth|fifth|sixth|seventh|eighth|ninth|tenth)s?\b(?! (?:century|world))",
    re.IGNORECASE,
)
_HALF = re.compile(r"\bhalf\b|一半|半数|过半", re.IGNORECASE)


def _fractions(text: str) -> Iterator[Quantity]:
    for m in _CHINESE_FRACTION.finditer(text):
        over, under = numerals.chinese_value(m["over"].rstrip(".,")), numerals.chinese_value(m["under"])
        if over is not None and under:
            over += numerals.decimals(m["decimal"])
            unit = {100.0: units.PERCENT, 1000.0: units.PERMILLE}.get(under, "")
            yield Quantity(over if unit else over / under, unit, m.start(), m.end())
    for m in _ENGLISH_FRACTION.finditer(text):
        above = numerals.english_value([m["over"].lower()]) or 1.0
        below = 4 if m["under"].lower() == "quarter" else numerals.ordinal_value(m["under"].lower())
        yield Quantity(above / below, "", m.start(), m.end())
    for m in _HALF.finditer(text):
        yield Quantity(0.5, "", m.start(), m.end(), exact=False)


# --------------------------------------------------------------------------------------------------------- Chinese

_SIGN = "|".join(re.escape(sign) for sign in sorted(units.SIGNS, key=len, reverse=True))
_CHINESE_UNIT = "|".join(re.escape(unit) for unit in sorted(units.CHINESE, key=len, reverse=True))
# "220千米" is kilometres, not thousands of metres.
_NUMERAL = f"(?:千(?![米克瓦赫帕字])|兆(?![瓦赫字])|[{numerals.CHINESE.replace('千', '').replace('兆', '')}])"
_PLAIN = r"(?<![A-Za-z0-9.])[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?"
_CHINESE_NUMBER = re.compile(
    rf"(?P<ordinal>第\s*)?(?P<sign>(?:{_SIGN})\s*)?"
    rf"(?P<number>{_PLAIN}\s*{_NUMERAL}+(?:[0-9]+[{numerals.POWERS}])*|(?<![{numerals.CHINESE}点]){_NUMERAL}+"
    rf"|{_PLAIN}(?=\s?(?:{_CHINESE_UNIT}|[\u4e00-\u9fff])))"
    r"(?:点(?P<decimal>[零一二三四五六七八九]+))?[多余几]?\s?"
    rf"(?P<unit>世纪|%|‰|{_CHINESE_UNIT}|个(?:{_CHINESE_UNIT}))?",
)
_VAGUE = re.compile("[数几上成]$")
_IDIOMS = re.compile(
    "十分(?![钟之])|万一|千万(?![元人美吨名户])|三明治|四川|九江|三亚|四处|四周|万物|五金|百姓|百科|千古|一一|三三|两两"
    "|四方|八方|九龙|万象|三星|三角|四肢|百分比|百分点|零(?!下|上|度)|千岛|四分卫|三纪|四纪|三权|五行|两侧|两性|两极"
    "|两岸|四季|一两|两三"
)


def _chinese(text: str) -> Iterator[Quantity]:
    for m in _CHINESE_NUMBER.finditer(text):
        written = m["number"].strip()
        value = numerals.chinese_value(written.replace(" ", ""))
        if value is None or not (written[0].isdecimal() or _is_number(text, m, written)):
            continue
        unit = _chinese_unit(m)
        end = m.end() if m["unit"] else m.end("number")
        exact = _is_exact(written, value, unit, text[end : end + 1])
        yield Quantity(value + numerals.decimals(m["decimal"]), unit, m.start(), end, exact)


def _is_number(text: str, m: re.Match[str], written: str) -> bool:
    """Whether a run of Chinese numerals is one, not part of a word such as 一些, 统一, 十分 or 万一."""
    begin, after = m.start("number"), text[m.end("number") : m.end("number") + 1]
    if m["ordinal"] and after != "纪":
        return True
    if _IDIOMS.match(text, begin):
        return False
    if all(c in numerals.POWERS for c in written):
        return not _VAGUE.search(text, max(begin - 1, 0), begin) and (after in units.COUNTERS or bool(m["unit"]))
    if written == "一":
        return bool(m["unit"]) and m["unit"] not in ("度", "时", "位", "名", "人")
    if len(written) == 1:
        return after in units.COUNTERS or bool(m["unit"])
    # "三四" is three or four, "一九四九" a year.
    return len(written) >= 3 or any(c in numerals.POWERS for c in written)


def _is_exact(written: str, value: float, unit: str, after: str) -> bool:
    """ "一", "两种" and "1号" are as often "a", "both" and a name."""
    if written in ("一", "两"):
        return written == "两" and bool(unit)
    return value != 1 or (written[0].isdecimal() and unit != units.ORDINAL and after != "号")


def _chinese_unit(m: re.Match[str]) -> str:
    written = m["unit"] or ""
    named = {"世纪": units.CENTURY, "%": units.PERCENT, "‰": units.PERMILLE}.get(written)
    if named:
        return named
    if m["ordinal"]:
        return units.ORDINAL
    if m["sign"] and not written:
        return units.SIGNS[m["sign"].strip()]
    return units.CHINESE.get(written) or units.CHINESE.get(written.removeprefix("个"), "")


# --------------------------------------------------------------------------------------------------------- English

_ENGLISH_UNIT = "|".join(
    re.escape(unit) + ("s?" if unit[-1].isalpha() and len(unit) > 2 else "")
    for unit in sorted(units.ENGLISH, key=len, reverse=True)
    if unit[0].isalpha()
)
_AFTER = (
    rf"(?:(?P<mark>\s?[%‰]|\s?°\s?[CF]?)|[\s-]?(?P<unit>(?:{_ENGLISH_UNIT})(?![A-Za-z0-9]))"
    r"|\s(?:\w+\s)?(?P<money>US dollars?|U\.S\. dollars?|dollars?|euros?|yuan)\b)?"
)
_ENGLISH_NUMBER = re.compile(
    rf"(?P<sign>(?:{_SIGN})\s?)?(?<![A-Za-z0-9_.])(?P<number>{_DIGITS}|(?<![0-9])\.[0-9]+)"
    rf"(?:\s?-?(?P<scale>{numerals.SCALES}|mln|bn)s?\b|(?P<short>[mbk])\b)?"
    rf"(?:(?P<ordinal>st|nd|rd|th)\b|(?P<decade>'?s)\b)?{_AFTER}",
    re.IGNORECASE,
)
_ENGLISH_WORDS = re.compile(
    rf"\b(?P<words>(?:{numerals.CARDINALS}|a(?= (?:{numerals.SCALES})\b))"
    rf"(?:[ -](?:and )?(?:{numerals.CARDINALS}|{numerals.SCALES})\b)*)(?![A-Za-z]){_AFTER}",
    re.IGNORECASE,
)
_ENGLISH_ORDINAL = re.compile(
    rf"\b(?:(?P<tens>twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)-)?(?P<word>first|{numerals.ORDINALS})\b"
    r"(?P<century>[ -]centur(?:y|ies))?",
    re.IGNORECASE,
)
_CENTURY = re.compile(r"[ -]?(?:(?:and|to) (?:early |late )?[0-9]{1,2}th )?centur", re.IGNORECASE)


def _english_digits(text: str) -> Iterator[Quantity]:
    for m in _ENGLISH_NUMBER.finditer(text):
        after = text[m.end("number") : m.end("number") + 1]
        known = m["scale"] or m["short"] or m["ordinal"] or m["decade"] or m["unit"]
        if after.isascii() and after.isalpha() and not known:
            continue
        value = float(m["number"].replace(",", ""))
        # "£30m" is thirty million, "30m" thirty metres.
        short = str(m["short"] or "") if m["sign"] else ""
        if scale := str(m["scale"] or short):
            value *= numerals.scale_of(scale.lower())
        unit = "metre" if m["short"] in ("m", "M") and not short else _english_unit(text, m)
        yield Quantity(value, unit, m.start(), m.end())


def _english_unit(text: str, m: re.Match[str]) -> str:
    if m["ordinal"]:
        return units.CENTURY if _CENTURY.match(text, m.end("ordinal")) else units.ORDINAL
    if m["decade"]:
        return units.DECADE
    if m["mark"]:
        return units.english_name(m["mark"].replace(" ", "").lower())
    if m["sign"]:
        return units.SIGNS[m["sign"].strip().upper()]
    named = (m["unit"] or m["money"] or "").lower()
    # "A 5-time champion" counts titles.
    return "" if named == "time" else units.english_name(named)


def _english_words(text: str) -> Iterator[Quantity]:
    for m in _ENGLISH_WORDS.finditer(text):
        words = [word for word in re.split(r"[\s-]+", m["words"].lower()) if word != "a"]
        value = numerals.english_value(words)
        unit = units.english_name(((m["mark"] or "").strip() or m["unit"] or m["money"] or "").lower())
        if value is not None and (unit or words != ["one"]):
            yield Quantity(value, unit, m.start(), m.end() if unit else m.end("words"), exact=value != 1)


def _english_ordinals(text: str) -> Iterator[Quantity]:
    for m in _ENGLISH_ORDINAL.finditer(text):
        value = 1.0 if m["word"].lower() == "first" else float(numerals.ordinal_value(m["word"].lower()))
        if m["tens"]:
            value += numerals.english_value([m["tens"].lower()]) or 0
        unit = units.CENTURY if m["century"] else units.ORDINAL
        # "First" and "second" are also "at first" and "another".
        yield Quantity(value, unit, m.start(), m.end(), exact=value > 2)


# ---------------------------------------------------------------------------------------------------------- ranges

_DASH = re.compile(r"\s?[-–—~]\s?")
_TO = re.compile(r"\s?(?:[-–—~至到]|to)\s?")
_BETWEEN = re.compile(r"\s?(?:[-–—~至到]|to|and|or|与|和|、|,)\s?", re.IGNORECASE)


def _ranges_completed(text: str, found: list[Quantity]) -> list[Quantity]:
    """ "1623–25" ends in 1625; in "3 to 5 days" both ends are days, in "3到5万" both are so many."""
    for at in range(len(found) - 2, -1, -1):
        here, after = found[at], found[at + 1]
        if _DASH.fullmatch(text, here.end, after.start) and 1000 <= here.value <= 2100 and 10 <= after.value < 100:
            found[at + 1] = after = replace(after, value=here.value // 100 * 100 + after.value)
        if not here.unit and _BETWEEN.fullmatch(text, here.end, after.start):
            found[at] = _like(here, after, text)
    return found


def _like(here: Quantity, after: Quantity, text: str) -> Quantity:
    unit = "" if after.unit in units.CALENDAR else after.unit
    written = _WRITTEN.match(text, after.start)
    mantissa = float(written.group().replace(",", "")) if written else after.value
    shared = _TO.fullmatch(text, here.end, after.start) and here.value < mantissa < after.value
    return replace(here, unit=unit, value=here.value * after.value / mantissa if shared else here.value)
