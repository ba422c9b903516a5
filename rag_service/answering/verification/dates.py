"""Dates and times in Chinese and English text, as quantities of the calendar. Pure.

`2024年3月5日`, `March 5, 2024`, `5 March 2024` and `2024-03-05` are the same three quantities: a year, a month and a
day. So a sentence that leaves out the day agrees with one that names it, and one that adds a day does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from rag_service.answering.verification import numerals, units
from rag_service.answering.verification.quantities import Quantity

_MONTHS = {
    "january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12, "sept": 9,
}  # fmt: skip
_MONTHS |= {name[:3]: number for name, number in _MONTHS.items()}
_WEEKDAYS = {
    "monday": 1, "tuesday": 2, "wednesday": 3, "thursday": 4, "friday": 5, "saturday": 6, "sunday": 7,
    "一": 1, "二": 2, "三": 3, "四": 4, "五": 5, "六": 6, "日": 7, "天": 7,
}  # fmt: skip

_D = "[一二三四五六七八九十廿]"
_ONE_TO_31 = rf"[0-9]{{1,2}}|{_D}{{1,3}}"
_YEAR = r"(?P<year>(?<![0-9])[12][0-9]{3}|[〇零一二三四五六七八九]{4})"
_DAY = rf"(?:(?P<day>{_ONE_TO_31})\s?[日号])"
_FULL_NAMES = "January|February|March|April|May|June|July|August|September|October|November|December"
_NAMED = rf"(?P<month>{_FULL_NAMES}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\.?)"
_NAMED_YEAR = r"(?P<year>[12][0-9]{3})"
_NAMED_DAY = r"(?P<day>[0-3]?[0-9])(?:st|nd|rd|th)?"
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_YEAR}\s?[-/.]\s?(?P<month>0?[1-9]|1[0-2])\s?[-/.]\s?(?P<day>[0-2]?[0-9]|3[01])(?![0-9])",
        rf"{_YEAR}\s?年\s?(?:(?P<month>{_ONE_TO_31})\s?月份?)?\s?{_DAY}?",
        rf"(?<![0-9一二三四五六七八九十个])(?P<month>{_ONE_TO_31})\s?月份?\s?{_DAY}?(?![球亮饼])",
        rf"(?<![0-9.,一二三四五六七八九十第])(?P<day>{_ONE_TO_31})\s?日(?![本元圆])",
        rf"\b{_NAMED}\s{_NAMED_DAY}(?:\s?[-–]\s?[0-9]+)?(?:\s?,?\s{_NAMED_YEAR})?\b",
        rf"\b{_NAMED_DAY}\s(?:of\s)?{_NAMED}\b(?:,?\s{_NAMED_YEAR}\b)?",
        rf"\b{_NAMED}(?:\s?,?\s(?:of\s)?{_NAMED_YEAR})\b",
    )
)
# "March" and "may" are also words.
_LONE_MONTH = re.compile(
    r"\b(?:January|February|April|June|July|August|September|October|November|December)\b"
    r"|(?<=\b[IiBbOo][nyf] )(?:March|May)\b"
)
_WEEKDAY = re.compile(
    r"\b(Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)s?\b|(?:星期|周|礼拜)([一二三四五六日天])(?![个名年岁次])"
)
_PART = "凌晨|早上|上午|中午|下午|傍晚|晚上|晚间"
_EVENING = frozenset(("下午", "傍晚", "晚上", "晚间"))
_HOUR = "[0-9]{1,2}|[一二两三四五六七八九十]{1,3}"
_CLOCK = re.compile(
    rf"(?P<part>{_PART})?(?:(?P<h>[01]?[0-9]|2[0-4])[:：](?P<m>[0-5][0-9])(?![0-9:])"
    rf"|(?P<zh>{_HOUR})(?:[点时](?P<zm>{_ONE_TO_31}|[0-9二三四五]十?{_D}?)分(?!钟)|点(?P<half>半)|点[整钟])"
    r"|(?P<bare>[0-9]{1,2})(?=\s?[ap]\.?m\b))\s?(?P<noon>[ap]\.?m\b\.?)?"
    rf"|(?P<part2>{_PART})\s?(?P<hour2>{_HOUR})[点时]",
    re.IGNORECASE,
)
_DECADE = re.compile(
    rf"(?:(?P<century>[0-9]{{1,2}}|{_D}{{1,3}})\s?世纪\s?)?(?P<decade>[1-9]0|[一二三四五六七八九]十)\s?年代"
)
_FULL_DECADE = re.compile(r"(?<![0-9])([1-9][0-9]{1,2}0)\s?年代")


def calendar(text: str) -> list[Quantity]:
    """Years, months, days, weekdays, times of day and decades, in text order; the parts of one date share its span.
    `text` is normal."""
    found: list[Quantity] = []
    taken = bytearray(len(text))
    for read in (_decades, _clock, _dates, _weekdays, _lone_months):
        for group in read(text):
            start, end = group[0].start, group[0].end
            if not any(taken[start:end]):
                found += group
                taken[start:end] = b"\1" * (end - start)
    return sorted(found, key=lambda quantity: quantity.start)


def _dates(text: str) -> Iterator[list[Quantity]]:
    for pattern in _PATTERNS:
        for m in pattern.finditer(text):
            written = m.groupdict()
            year, day = (numerals.chinese_value(written.get(part) or "") for part in ("year", "day"))
            month = _month(written.get("month") or "")
            parts = ((year, units.YEAR), (month, units.MONTH), (day, units.DAY))
            if (month or 1) <= 12 and (day or 1) <= 31:
                yield [Quantity(value, unit, m.start(), m.end()) for value, unit in parts if value is not None]


def _month(written: str) -> float | None:
    name = written.lower().rstrip(".")
    return float(_MONTHS[name]) if name in _MONTHS else numerals.chinese_value(written)


def _lone_months(text: str) -> Iterator[list[Quantity]]:
    for m in _LONE_MONTH.finditer(text):
        yield [Quantity(float(_MONTHS[m.group().lower()]), units.MONTH, m.start(), m.end())]


def _weekdays(text: str) -> Iterator[list[Quantity]]:
    for m in _WEEKDAY.finditer(text):
        yield [Quantity(float(_WEEKDAYS[(m[1] or m[2]).lower()]), units.WEEKDAY, m.start(), m.end())]


def _clock(text: str) -> Iterator[list[Quantity]]:
    """As minutes since midnight."""
    for m in _CLOCK.finditer(text):
        hour = numerals.chinese_value(m["h"] or m["zh"] or m["bare"] or m["hour2"])
        minute = 30.0 if m["half"] else numerals.chinese_value(m["m"] or m["zm"] or "0")
        if hour is not None and minute is not None and hour <= 24:
            late = (m["part"] or m["part2"]) in _EVENING or (m["noon"] or "").lower().startswith("p")
            yield [Quantity((hour + 12 if late and hour < 12 else hour) * 60 + minute, units.CLOCK, m.start(), m.end())]


def _decades(text: str) -> Iterator[list[Quantity]]:
    for m in _FULL_DECADE.finditer(text):
        yield [Quantity(float(m[1]), units.DECADE, m.start(), m.end())]
    for m in _DECADE.finditer(text):
        decade, century = numerals.chinese_value(m["decade"]), numerals.chinese_value(m["century"] or "20")
        if decade is not None and century is not None:
            yield [Quantity((century - 1) * 100 + decade, units.DECADE, m.start(), m.end())]
