"""Numbers, units and dates in both languages: different spellings, one reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_service.answering.verification import numerals, units
from rag_service.answering.verification.dates import calendar
from rag_service.answering.verification.quantities import loose_values, normal, quantities, without


def read(text: str) -> list[tuple[float, str]]:
    return [(quantity.value, quantity.unit) for quantity in quantities(normal(text))]


def dates(text: str) -> list[tuple[float, str]]:
    return [(quantity.value, quantity.unit) for quantity in calendar(normal(text))]


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("12个月", 12, "month"), ("十二个月", 12, "month"), ("twelve months", 12, "month"), ("12 months", 12, "month"),
        ("30天", 30, "day"), ("３０天", 30, "day"), ("30 days", 30, "day"), ("thirty days", 30, "day"),
        ("a 5-year plan", 5, "year"), ("五年", 5, "year"), ("3 个小时", 3, "hour"), ("three hours", 3, "hour"),
        ("50%", 50, "percent"), ("百分之五十", 50, "percent"), ("fifty per cent", 50, "percent"),
        ("百分之五点三", 5.3, "percent"), ("3‰", 3, "permille"), ("千分之三", 3, "permille"),
        ("3万元", 30_000, "yuan"), ("3万5千元", 35_000, "yuan"), ("RMB 500", 500, "yuan"), ("500块钱", 500, "yuan"),
        ("1.5亿美元", 150_000_000, "dollar"), ("$150 million", 150_000_000, "dollar"), ("£30m", 30_000_000, "pound"),
        ("US$3.5 billion", 3_500_000_000, "dollar"), ("five US dollars", 5, "dollar"), ("¥300", 300, "yuan or yen"),
        ("1,234.5 km", 1234.5, "kilometre"), ("1234.5公里", 1234.5, "kilometre"), ("220千米", 220, "kilometre"),
        ("10 °C", 10, "celsius"), ("10摄氏度", 10, "celsius"), ("50mg", 50, "milligram"), ("100 m", 100, "metre"),
        ("第六", 6, units.ORDINAL), ("sixth", 6, units.ORDINAL), ("the 19th century", 19, units.CENTURY),
        ("19世纪", 19, units.CENTURY), ("三分之二", 2 / 3, ""), ("two-thirds", 2 / 3, ""), ("6½ inches", 6.5, "inch"),
        ("三億元", 300_000_000, "yuan"), ("二萬公尺", 20_000, "metre"), ("10個工作日", 10, "working day"),
        ("a million people", 1_000_000, "person"), ("two hundred and fifty miles", 250, "mile"),
    ],
)  # fmt: skip
def test_one_quantity_has_one_reading(text: str, value: float, unit: str) -> None:
    assert read(text) == [(pytest.approx(value), unit)]


@pytest.mark.parametrize(
    "text", ["十分重要", "万一", "统一", "一些", "之一", "四川", "数百个", "CO2", "X200", "three's", "百分比", "千岛"]
)
def test_a_word_with_a_numeral_in_it_is_no_number(text: str) -> None:
    assert [value for value, _ in read(text) if value != 3] == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("3 to 5 days", [(3, "day"), (5, "day")]), ("3至5天", [(3, "day"), (5, "day")]),
        ("30 to 50 thousand people", [(30_000, "person"), (50_000, "person")]),
        ("3到5万人", [(30_000, "person"), (50_000, "person")]),
        ("1623–25", [(1623, ""), (1625, "")]),
    ],
)  # fmt: skip
def test_both_ends_of_a_range_are_complete(text: str, values: list[tuple[float, str]]) -> None:
    assert read(text) == values


@pytest.mark.parametrize(
    "text",
    [
        "2024年3月5日",
        "March 5, 2024",
        "5 March 2024",
        "2024-03-05",
        "2024/3/5",
        "二〇二四年三月五日",
        "5th of March 2024",
    ],
)
def test_one_date_has_one_reading(text: str) -> None:
    assert dates(text) == [(2024, units.YEAR), (3, units.MONTH), (5, units.DAY)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024年12月", [(2024, units.YEAR), (12, units.MONTH)]),
        ("December 2024", [(2024, units.YEAR), (12, units.MONTH)]),
        ("5月1日", [(5, units.MONTH), (1, units.DAY)]), ("in May", [(5, units.MONTH)]), ("may fail", []), ("3个月", []),
        ("周三", [(3, units.WEEKDAY)]), ("Wednesdays", [(3, units.WEEKDAY)]), ("每周三次", []),
        ("14:30", [(870, units.CLOCK)]), ("下午2点半", [(870, units.CLOCK)]), ("2 p.m.", [(840, units.CLOCK)]),
        ("20世纪80年代", [(1980, units.DECADE)]), ("1980年代", [(1980, units.DECADE)]), ("13月8日", [(8, units.DAY)]),
    ],
)  # fmt: skip
def test_parts_of_dates_and_times(text: str, expected: list[tuple[float, str]]) -> None:
    assert dates(text) == expected


def test_units_that_cannot_mean_the_same_clash() -> None:
    assert units.clash("day", "hour")
    assert units.clash("dollar", "yuan")
    assert not units.clash("yuan or yen", "yen")
    assert not units.clash("", "day")


def test_a_claimed_number_may_be_meant_by_many_words() -> None:
    assert {2.0, 33.0, 4.0, 7.0} <= loose_values("both halves of Super Bowl XXXIII, 四次, lucky seven")


def test_digits_of_a_larger_number_are_not_their_own_value() -> None:
    assert 3000.0 not in loose_values("3000万元")
    assert 1.0 not in loose_values("1.5 and 1,500")


@given(st.integers(1, 99_999_999))
def test_a_number_reads_the_same_in_digits_with_separators_and_in_chinese(number: int) -> None:
    assert read(f"共有{number}元") == read(f"共有{number:,}元") == [(number, "yuan")]
    assert numerals.chinese_value(_chinese(number)) == number


@given(st.integers(2, 999_999))
def test_a_number_reads_the_same_in_english_words(number: int) -> None:
    assert read(f"{_english(number)} kilometres") == [(number, "kilometre")]


@given(st.text(max_size=60))
def test_spans_lie_in_the_text_and_do_not_overlap(text: str) -> None:
    given_text = normal(text)
    dated = calendar(given_text)
    found = [*{(q.start, q.end) for q in dated}, *((q.start, q.end) for q in quantities(without(given_text, dated)))]
    covered = [at for start, end in found for at in range(start, end)]
    assert len(covered) == len(set(covered))
    assert all(0 <= at < len(given_text) for at in covered)


def _chinese(number: int) -> str:
    """As it is said, with every power and without zeros: 一千二百三 is what 1203 would be, so zeros stay."""
    if number >= 10_000:
        rest = number % 10_000
        return _chinese(number // 10_000) + "万" + (("零" if rest < 1000 else "") + _chinese(rest) if rest else "")
    said, pending = "", False
    for power, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // power % 10
        pending = pending or (bool(said) and digit == 0)
        if digit:
            said += ("零" if pending else "") + "零一二三四五六七八九"[digit] + name
            pending = False
    return said


def _english(number: int) -> str:
    ones = (
        "", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
    )  # fmt: skip
    tens = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
    if number >= 1000:
        return " ".join(filter(None, (_english(number // 1000), "thousand", _english(number % 1000))))
    if number >= 100:
        rest = _english(number % 100)
        return f"{ones[number // 100]} hundred" + (f" and {rest}" if rest else "")
    return ones[number] if number < 20 else tens[number // 10] + (f"-{ones[number % 10]}" if number % 10 else "")
