"""Numbers as Office documents count with them: ECMA-376 part 1, 17.18.59 (ST_NumberFormat) and 20.1.10.61."""

from __future__ import annotations

from collections.abc import Callable

_ROMAN = ((1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"), (40, "XL"),
          (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"))  # fmt: skip
_CHINESE, _LEGAL_SIMPLIFIED, _LEGAL_TRADITIONAL = "零一二三四五六七八九", "零壹贰叁肆伍陆柒捌玖", "零壹貳參肆伍陸柒捌玖"
_PLACES, _LEGAL_PLACES = ("", "十", "百", "千"), ("", "拾", "佰", "仟")
_STEMS, _BRANCHES = "甲乙丙丁戊己庚辛壬癸", "子丑寅卯辰巳午未申酉戌亥"
_ONES = ("Zero", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")


def counted(number: int, style: str) -> str:
    """`number` in a style of OOXML (`decimal`, `upperRoman`, `chineseCounting` …); an unknown style counts 1, 2, 3."""
    write = _STYLES.get(style)
    return write(number) if write is not None and number >= 0 else str(number)


def _roman(number: int) -> str:
    if not 0 < number < 4000:
        return str(number)
    out = ""
    for value, letters in _ROMAN:
        out += letters * (number // value)
        number %= value
    return out


def _letters(number: int) -> str:
    """A … Z, then AA, BB: the letter again for each time round."""
    rounds, letter = divmod(max(number, 1) - 1, 26)
    return chr(ord("A") + letter) * min(rounds + 1, 30)


def _chinese(number: int, digits: str = _CHINESE, places: tuple[str, ...] = _PLACES, teen: bool = True) -> str:
    """十, 十一, 二十, 一百零一, 一千零一十; from ten thousand on the digits one by one."""
    if number >= 10_000 or number == 0:
        return _digital(number, digits)
    out, gap = "", False
    for place in range(3, -1, -1):
        digit = number // 10**place % 10
        if digit:
            out += (digits[0] if gap and out else "") + digits[digit] + places[place]
        gap = not digit
    return out.removeprefix(digits[1]) if teen and 10 <= number < 20 else out


def _counting(number: int) -> str:
    return _chinese(number) if number < 100 else _digital(number, "〇" + _CHINESE[1:])


def _digital(number: int, digits: str) -> str:
    return "".join(digits[int(digit)] for digit in str(number))


def _in_turn(signs: str, rounds: bool = False) -> Callable[[int], str]:
    """One sign a number, over again where `rounds`, else plain digits past the last."""

    def write(number: int) -> str:
        if number < 1 or (number > len(signs) and not rounds):
            return str(number)
        return signs[(number - 1) % len(signs)]

    return write


def _from(first: str, last: int) -> Callable[[int], str]:
    return _in_turn("".join(chr(ord(first) + offset) for offset in range(last)))


def _ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _full_width(number: int) -> str:
    return _digital(number, "０１２３４５６７８９")


def _circled(number: int) -> str:
    return (
        chr(0x2460 + number - 1)
        if 1 <= number <= 20
        else chr(0x3251 + number - 21)
        if 20 < number < 36
        else str(number)
    )


_STYLES: dict[str, Callable[[int], str]] = {
    "none": lambda number: "",
    "upperRoman": _roman,
    "lowerRoman": lambda number: _roman(number).lower(),
    "upperLetter": _letters,
    "lowerLetter": lambda number: _letters(number).lower(),
    "ordinal": _ordinal,
    "cardinalText": lambda number: _ONES[number] if number < len(_ONES) else str(number),
    "decimalZero": lambda number: f"{number:02}",
    "decimalFullWidth": _full_width,
    "decimalFullWidth2": _full_width,
    "decimalEnclosedCircle": _circled,
    "decimalEnclosedCircleChinese": _circled,
    "decimalEnclosedParen": _from("⑴", 20),
    "decimalEnclosedFullstop": _from("⒈", 20),
    "ideographEnclosedCircle": _from("㊀", 10),
    "ideographTraditional": _in_turn(_STEMS, rounds=True),
    "ideographZodiac": _in_turn(_BRANCHES, rounds=True),
    "ideographDigital": lambda number: _digital(number, "〇" + _CHINESE[1:]),
    "japaneseDigitalTenThousand": lambda number: _digital(number, "〇" + _CHINESE[1:]),
    "chineseCounting": _counting,
    "taiwaneseCounting": _counting,
    "chineseCountingThousand": _chinese,
    "taiwaneseCountingThousand": _chinese,
    "japaneseCounting": _chinese,
    "japaneseLegal": lambda number: _chinese(number, _LEGAL_TRADITIONAL, _LEGAL_PLACES, teen=False),
    "chineseLegalSimplified": lambda number: _chinese(number, _LEGAL_SIMPLIFIED, _LEGAL_PLACES, teen=False),
    "ideographLegalTraditional": lambda number: _chinese(number, _LEGAL_TRADITIONAL, _LEGAL_PLACES, teen=False),
}
