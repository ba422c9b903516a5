"""What numbers count, under one name in both languages. Data."""

from __future__ import annotations

import re

YEAR, MONTH, DAY, WEEKDAY = "year#", "month#", "day#", "weekday#"
CLOCK, DECADE, CENTURY = "clock#", "decade#", "century#"
ORDINAL, PERCENT, PERMILLE = "#", "percent", "permille"
CALENDAR = frozenset((YEAR, MONTH, DAY, WEEKDAY, CLOCK, DECADE, CENTURY))

# name: Chinese spellings | English spellings (plurals are found by themselves)
_TABLE = """
second: 秒钟 秒 | second sec s
minute: 分钟 | minute min
hour: 小时 钟头 | hour hr h
day: 天 | day
working day: 个工作日 工作日 | working_day business_day workday
week: 周 星期 礼拜 | week
month: 个月 | month
quarter: 个季度 季度 | quarter
year: 年 | year yr
years old: 周岁 岁 | year_old years_old year_of_age years_of_age
millisecond: 毫秒 | millisecond ms
millimetre: 毫米 公厘 | millimetre millimeter mm
centimetre: 厘米 公分 | centimetre centimeter cm
metre: 米 公尺 | metre meter m
kilometre: 公里 千米 | kilometre kilometer km
mile: 英里 英哩 | mile mi
nautical mile: 海里 海浬 | nautical_mile
foot: 英尺 英呎 | foot feet ft
inch: 英寸 英吋 | inch inches
yard: 码 | yard
square metre: 平方米 平方公尺 | square_metre square_meter m2 sq_m
square millimetre: 平方毫米 | square_millimetre square_millimeter mm2
square kilometre: 平方公里 平方千米 | square_kilometre square_kilometer km2 sq_km
square mile: 平方英里 平方英哩 | square_mile sq_mi
square foot: 平方英尺 | square_foot square_feet sq_ft
hectare: 公顷 | hectare ha
acre: 英亩 | acre
mu: 亩 | mu
cubic metre: 立方米 立方公尺 | cubic_metre cubic_meter m3
litre: 公升 升 | litre liter l
millilitre: 毫升 | millilitre milliliter ml
gallon: 加仑 | gallon
barrel: 桶 | barrel
milligram: 毫克 | milligram mg
gram: 克 公克 | gram g
kilogram: 公斤 千克 | kilogram kg kilo
jin: 斤 | jin
tonne: 吨 公吨 | tonne ton metric_ton
pound weight: 磅 | lb
ounce: 盎司 | ounce oz
celsius: 摄氏度 ℃ °c | degree_celsius degrees_celsius °c °_c celsius
fahrenheit: 华氏度 ℉ °f | degree_fahrenheit degrees_fahrenheit °f °_f fahrenheit
kelvin: 开尔文 | kelvin
degree: 度 | degree °
watt: 瓦 瓦特 | watt
kilowatt: 千瓦 | kilowatt kw
megawatt: 兆瓦 | megawatt mw
kilowatt hour: 千瓦时 度电 | kilowatt_hour kwh
volt: 伏 伏特 | volt v
ampere: 安培 | ampere amp
hertz: 赫兹 | hertz hz
kilohertz: 千赫 | kilohertz khz
megahertz: 兆赫 | megahertz mhz
pascal: 帕 | pascal pa
kilopascal: 千帕 | kilopascal kpa
millimetre of mercury: 毫米汞柱 | mmhg
byte: 字节 | byte
kilobyte: 千字节 | kilobyte kb
megabyte: 兆字节 | megabyte mb
gigabyte: 吉字节 | gigabyte gb
terabyte: 太字节 | terabyte tb
yuan: 元人民币 人民币 元 块钱 | yuan rmb cny renminbi cn¥
yen: 日元 日圆 | yen jpy
dollar: 美元 美金 | dollar us_dollar u.s._dollar usd us$ $
hong kong dollar: 港元 港币 | hong_kong_dollar hkd hk$
taiwan dollar: 新台币 台币 | taiwan_dollar new_taiwan_dollar ntd nt$
euro: 欧元 | euro eur €
pound: 英镑 | pound pound_sterling gbp £
franc: 法郎 | franc
cent: 美分 | cent
percent: 个百分点 | % percent per_cent percentage_point
permille: | ‰ permille per_mille per_thousand
times: 倍 | time times fold
person: 人 名 位 | people person persons
"""


def _read() -> tuple[dict[str, str], dict[str, str]]:
    chinese: dict[str, str] = {}
    english: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        name, _, spellings = line.partition(":")
        zh, _, en = spellings.partition("|")
        chinese |= dict.fromkeys(zh.split(), name)
        english |= {word.replace("_", " "): name for word in en.split()}
    return chinese, english


CHINESE, ENGLISH = _read()
SIGNS = {
    "US$": "dollar", "HK$": "hong kong dollar", "NT$": "taiwan dollar", "$": "dollar", "€": "euro", "£": "pound",
    "¥": "yuan or yen", "USD": "dollar", "RMB": "yuan", "CNY": "yuan", "EUR": "euro", "GBP": "pound",
}  # fmt: skip
"""Currencies that stand before their number."""
COUNTERS = frozenset(
    "个名位人次年天日月周岁家条座部种场国大支只件张本台辆架艘间所层届点分秒倍成元角块米里亩吨升克斤磅码帧行列页章节卷"
    "册首篇封份项款号级类批群组队对双套片颗粒枚根把扇栋幢户股室期代世任派族省市县州区村镇岛门科属目战维轮集季度回遍趟"
    "步句字词笔桶杯瓶箱袋包盒碗则万亿千百舰营师军团路线站校院党"
)
"""What makes a lone Chinese numeral before it a number."""

_CAN_MEAN_THE_SAME = frozenset(
    frozenset(pair)
    for pair in (
        ("yuan or yen", "yuan"), ("yuan or yen", "yen"), ("yuan", "taiwan dollar"), ("yuan", "hong kong dollar"),
        ("pound", "pound weight"), ("degree", "celsius"), ("degree", "fahrenheit"), ("day", "working day"),
        ("years old", "year"), (YEAR, "year"), (MONTH, "month"), (DAY, "day"), (WEEKDAY, "week"),
        (YEAR, ORDINAL), (DAY, ORDINAL), (CENTURY, ORDINAL),
    )
)  # fmt: skip


def clash(one: str, other: str) -> bool:
    """Whether two units cannot mean the same; an unknown one ("") clashes with nothing."""
    return bool(one and other and one != other and frozenset((one, other)) not in _CAN_MEAN_THE_SAME)


def english_name(words: str) -> str:
    """The unit that `words` (lower case) spell, or ""."""
    if words in ENGLISH:
        return ENGLISH[words]
    return ENGLISH.get(re.sub(r"(?<=\w{2})s$", "", words), "")
