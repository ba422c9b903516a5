"""Numbers as a spreadsheet shows them: ECMA-376 part 1, 18.8.30 and 18.8.31 (number formats).

What depends on the reader's locale (the short date) is written so that it can be read one way only: 2024-03-01.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format
from openpyxl.utils.datetime import from_excel

Moment = dt.datetime | dt.date | dt.time | dt.timedelta

# In Chinese Excel and WPS these numbers stand for formats that a workbook does not write out.
_DAY, _MONTH, _SHORT_DAY = 'yyyy"年"m"月"d"日"', 'yyyy"年"m"月"', 'm"月"d"日"'
_CLOCK, _CLOCK_SECONDS = '上午/下午h"时"mm"分"', '上午/下午h"时"mm"分"ss"秒"'
CHINESE_FORMATS: dict[int, str] = {
    27: _MONTH, 28: _SHORT_DAY, 29: _SHORT_DAY, 30: "mm-dd-yy", 31: _DAY, 32: 'h"时"mm"分"', 33: 'h"时"mm"分"ss"秒"',
    34: _CLOCK, 35: _CLOCK_SECONDS, 36: _MONTH, 50: _MONTH, 51: _SHORT_DAY, 52: _MONTH, 53: _SHORT_DAY,
    54: _SHORT_DAY, 55: _CLOCK, 56: _CLOCK_SECONDS, 57: _MONTH, 58: _SHORT_DAY,
}  # fmt: skip

_LOCALE_DATES = (BUILTIN_FORMATS[14], "[$-F800]")
_LARGEST = 1e308
"""Beyond it (and for infinities) a value is no number of a spreadsheet."""
_WIDE = Context(prec=800)
_TOKEN = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|[_*].|\[\$(?P<currency>[^\]-]*)[^\]]*\]|\[(?P<elapsed>[hms]+)\]|\[[^\]]*\]'
    r"|(?P<general>General)|(?P<exponent>E[+-])|(?P<digit>[0#?])|(?P<mark>[.,%/@])|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_CONDITION = re.compile(r"\[(<=|>=|<>|<|>|=)\s*(-?[\d.]+)\]")
_SECTION = re.compile(r'(?:"[^"]*"|\\.|\[[^\]]*\]|[^;])*', re.DOTALL)
_MOMENT = re.compile(
    r'"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|[_*].|\[(?P<elapsed>[hms]+)\]|\[[^\]]*\]|(?P<half>AM/PM|A/P|上午/下午)'
    r"|(?P<field>y+|m+|d+|a{3,4}|h+|s+|e+)|\.(?P<fraction>0+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
           "November", "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CHINESE_DAYS = "一二三四五六日"


def shown(value: object, number_format: str, epoch: dt.datetime) -> str:
    """The text of a cell that holds `value`; never empty for a value that is not."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, dt.datetime | dt.date | dt.time | dt.timedelta):
        return _moment(value, number_format)
    if not isinstance(value, int | float) or not abs(value) < _LARGEST:
        return str(value)
    if number_format in ("General", ""):
        return _general(value)
    if _is_date(number_format):
        moment = _from_serial(value, number_format, epoch)
        return _general(value) if moment is None else _moment(moment, number_format)
    return _number(value, number_format).strip() or _general(value)


def _is_date(number_format: str) -> bool:
    return bool(is_date_format(number_format)) or "aaa" in number_format.lower()


def _from_serial(value: float, number_format: str, epoch: dt.datetime) -> Moment | None:
    """None for a serial number that is no date: the number is shown then."""
    try:
        moment: Moment | None = from_excel(value, epoch, timedelta=is_timedelta_format(number_format))
    except (OverflowError, ValueError):
        return None
    return moment


def _general(value: float) -> str:
    """Fifteen significant digits, which is all a spreadsheet keeps; whole numbers in full."""
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return str(int(value))
    return f"{value:.15g}".replace("e", "E")


def _number(value: float, number_format: str) -> str:
    sections = _sections(number_format)
    section, signed = _chosen(value, sections)
    if section.is_general:
        # The sign is the number's own; what stands around it is the format's.
        return section.around(_general(value if signed else abs(value)))
    if not section.digits:
        return section.around("")
    text = section.fill(abs(Decimal(repr(value))))
    return f"-{text.strip()}" if signed and value < 0 and re.search("[1-9]", text) else text


def _chosen(value: float, sections: Sequence[_Section]) -> tuple[_Section, bool]:
    """The section for a value, and whether a negative number keeps its sign in it."""
    numeric = sections[:3]
    if any(section.condition is not None for section in numeric):
        fitting = (section for section in numeric if section.condition is None or section.condition.holds(value))
        return next(fitting, numeric[-1]), True
    if value < 0 and len(numeric) > 1:
        return numeric[1], False
    if value == 0 and len(numeric) > 2:
        return numeric[2], False
    return numeric[0], True


@dataclass(frozen=True, slots=True)
class _Condition:
    operator: str
    operand: float

    def holds(self, value: float) -> bool:
        sign = (value > self.operand) - (value < self.operand)
        return sign in {"<": (-1,), "<=": (-1, 0), "=": (0,), ">=": (0, 1), ">": (1,), "<>": (-1, 1)}[self.operator]


_Kind = Literal["literal", "digit", "mark", "exponent", "general"]


@dataclass(frozen=True, slots=True)
class _Section:
    """One of the parts of a format that `;` separates."""

    tokens: tuple[tuple[_Kind, str], ...]
    condition: _Condition | None

    @property
    def is_general(self) -> bool:
        return any(kind == "general" or token == ("mark", "@") for token in self.tokens for kind in token[:1])

    @property
    def digits(self) -> str:
        return "".join(text for kind, text in self.tokens if kind == "digit")

    def around(self, number: str) -> str:
        """The section's literals with `number` at the place of `General`."""
        return "".join(number if kind == "general" or text == "@" else text for kind, text in self.tokens)

    def fill(self, value: Decimal) -> str:
        """A number that is not negative, written in the section's digits."""
        marks = [text for kind, text in self.tokens if kind == "mark"]
        value = _WIDE.multiply(value, Decimal(100) ** marks.count("%"))
        if "/" in marks:
            return self._fraction(value)
        if any(kind == "exponent" for kind, _ in self.tokens):
            return self._scientific(value)
        return self._decimal(value)

    def _decimal(self, value: Decimal) -> str:
        point = next((n for n, token in enumerate(self.tokens) if token == ("mark", ".")), len(self.tokens))
        whole, after = self.tokens[:point], self.tokens[point + 1 :]
        places = [text for kind, text in after if kind == "digit"]
        scaled = _WIDE.divide(value, Decimal(1000) ** _trailing_commas(self.tokens))
        rounded = scaled.quantize(Decimal(1).scaleb(-len(places)), ROUND_HALF_UP, _WIDE)
        integer, _, fraction = f"{rounded:f}".partition(".")
        kept = len("".join(places).rstrip("#?"))
        fraction = fraction[:kept] + fraction[kept:].rstrip("0")
        tail = "".join(text for kind, text in after if kind == "literal" or text == "%")
        return _fill_whole(whole, integer) + (f".{fraction}" if fraction else "") + tail

    def _scientific(self, value: Decimal) -> str:
        point = next((n for n, token in enumerate(self.tokens) if token == ("mark", ".")), None)
        power = next(n for n, (kind, _) in enumerate(self.tokens) if kind == "exponent")
        places = 0 if point is None else sum(kind == "digit" for kind, _ in self.tokens[point:power])
        mantissa, exponent = f"{value:.{places}E}".split("E")
        digits = sum(kind == "digit" for kind, _ in self.tokens[power:])
        return f"{mantissa}E{exponent[0]}{exponent[1:].zfill(digits)}"

    def _fraction(self, value: Decimal) -> str:
        slash = self.tokens.index(("mark", "/"))
        below = "".join(text for kind, text in self.tokens[slash:] if kind == "digit" or text.isdigit())
        fixed = int(below) if below.isdigit() and int(below) else None
        whole, rest = divmod(Fraction(value), 1)
        part = Fraction(round(rest * fixed), fixed) if fixed else rest.limit_denominator(10 ** max(len(below), 1) - 1)
        whole, part = whole + part // 1, part % 1
        if not part:
            return str(whole)
        return f"{whole} {part}" if whole else str(part)


def _trailing_commas(tokens: Sequence[tuple[_Kind, str]]) -> int:
    """Commas after the last digit: each divides by a thousand."""
    count = 0
    for kind, text in reversed(tokens):
        if kind == "digit":
            break
        count += text == ","
    return count


def _fill_whole(whole: Sequence[tuple[_Kind, str]], integer: str) -> str:
    """The integer digits in their places: the first place takes those that are too many, each other place one."""
    places = [text for kind, text in whole if kind == "digit"]
    least = len("".join(places).lstrip("#?"))
    integer = (integer.lstrip("0") or "").zfill(least) if least else integer.lstrip("0")
    if ("mark", ",") in whole[: _last_digit(whole)] and integer:
        integer = re.sub(r"(?<=\d)(?=(?:\d{3})+$)", ",", integer)
    out, missing = [], len(places) - len(integer)
    for kind, text in whole:
        if kind == "digit" and places:
            places = places[1:]
            take = max(len(integer) - len(places), 0) if missing <= 0 else 0
            missing -= 1
            out.append(integer[:take])
            integer = integer[take:]
        elif kind == "literal" or text == "%":
            out.append(text)
    return "".join(out)


def _last_digit(whole: Sequence[tuple[_Kind, str]]) -> int:
    return max((number for number, (kind, _) in enumerate(whole) if kind == "digit"), default=0)


@lru_cache(maxsize=512)
def _sections(number_format: str) -> tuple[_Section, ...]:
    texts, position = [], 0
    while position <= len(number_format):
        match = _SECTION.match(number_format, position)
        texts.append(match.group() if match else "")
        position += len(texts[-1]) + 1
    return tuple(_section(text) for text in texts) if number_format else (_section("General"),)


def _section(text: str) -> _Section:
    condition = _CONDITION.search(text)
    tokens: list[tuple[_Kind, str]] = []
    for match in _TOKEN.finditer(text):
        kind, told = match.lastgroup, match.group(match.lastgroup or 0)
        if kind in ("general", "digit", "mark", "exponent"):
            tokens.append((kind, told))  # type: ignore[arg-type]  # mypy does not narrow by membership
        elif kind in ("quoted", "escaped", "currency", "other"):
            tokens.append(("literal", told))
        elif match.group()[0] == "_":
            tokens.append(("literal", " "))
    return _Section(tuple(tokens), _Condition(condition[1], float(condition[2])) if condition else None)


def _moment(value: Moment, number_format: str) -> str:
    if any(told in number_format for told in _LOCALE_DATES) or not _is_date(number_format):
        return _iso(value)
    section = _SECTION.match(number_format)
    matches = list(_MOMENT.finditer(section.group() if section else number_format))
    twelve = any(match.lastgroup == "half" for match in matches)
    fields = [(match.lastgroup, match.group(match.lastgroup or 0)) for match in matches]
    out = [
        _field(value, _minutes(fields, number), twelve)
        for number in range(len(fields))
        if fields[number][0] is not None
    ]
    return "".join(out).strip() or _iso(value)


def _iso(value: Moment) -> str:
    if isinstance(value, dt.datetime):
        return value.date().isoformat() if value.time() == dt.time() else value.isoformat(" ", "seconds")
    if isinstance(value, dt.timedelta):
        return _elapsed(value, "hh") + f":{int(value.total_seconds()) % 3600 // 60:02}:{value.seconds % 60:02}"
    return value.isoformat() if isinstance(value, dt.date) else value.isoformat("seconds")


def _minutes(fields: Sequence[tuple[str | None, str]], number: int) -> tuple[str | None, str]:
    """The field, an `m` next to hours or seconds turned into minutes ("i")."""
    kind, text = fields[number]
    if kind != "field" or text[0] not in "mM" or len(text) > 2:
        return kind, text
    times = [(n, t[0].lower()) for n, (k, t) in enumerate(fields) if k in ("field", "elapsed")]
    before = next((letter for n, letter in reversed(times) if n < number), "")
    after = next((letter for n, letter in times if n > number), "")
    return (kind, "i" * len(text)) if before == "h" or after == "s" else (kind, text)


def _field(value: Moment, field: tuple[str | None, str], twelve: bool) -> str:
    kind, text = field
    if kind in ("quoted", "escaped", "other"):
        return text
    if kind == "elapsed":
        return _elapsed(value, text)
    if kind == "half":
        names = text.split("/")
        return names[_hour(value) >= 12]
    if kind == "fraction":
        return f".{_microsecond(value):06}"[: len(text) + 1]
    letter, width = text[0].lower(), len(text)
    if letter in "his":
        return str(_clock(value, letter, twelve)).zfill(min(width, 2))
    return _day(value, letter, width) if isinstance(value, dt.date) else ""


def _elapsed(value: Moment, text: str) -> str:
    if isinstance(value, dt.timedelta):
        seconds = int(value.total_seconds())
    else:
        seconds = _hour(value) * 3600 + _clock(value, "i", False) * 60 + _clock(value, "s", False)
    return str(seconds // {"h": 3600, "m": 60, "s": 1}[text[0].lower()]).zfill(len(text))


def _hour(value: Moment) -> int:
    if isinstance(value, dt.timedelta):
        return value.seconds // 3600
    return value.hour if isinstance(value, dt.datetime | dt.time) else 0


def _microsecond(value: Moment) -> int:
    if isinstance(value, dt.timedelta):
        return value.microseconds
    return value.microsecond if isinstance(value, dt.datetime | dt.time) else 0


def _clock(value: Moment, letter: str, twelve: bool) -> int:
    if letter == "h":
        return (_hour(value) % 12 or 12) if twelve else _hour(value)
    if isinstance(value, dt.timedelta):
        return value.seconds // 60 % 60 if letter == "i" else value.seconds % 60
    if not isinstance(value, dt.datetime | dt.time):
        return 0
    return value.minute if letter == "i" else value.second


def _day(value: dt.date, letter: str, width: int) -> str:
    if letter in "ye":
        return f"{value.year % 100:02}" if letter == "y" and width <= 2 else str(value.year)
    if letter == "a":
        return ("星期" if width == 4 else "") + _CHINESE_DAYS[value.weekday()]
    names, number = (_MONTHS, value.month) if letter == "m" else (_DAYS, value.day)
    name = names[value.month - 1 if letter == "m" else value.weekday()]
    return {1: str(number), 2: f"{number:02}", 3: name[:3], 5: name[:1]}.get(width, name)
