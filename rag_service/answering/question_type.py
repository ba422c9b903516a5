"""What kind of thing a question asks for, and whether a sentence has one to give. Pure.

Chinese and English. Kinds are told by how they are asked for, things by what they look like: a number by its digits
or numerals, a person by a name, a reason by a word like "because". So the answer is a hint, never a verdict: it counts
little beside what a sentence says (see `evidence`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from rag_service.answering.verification import transliteration
from rag_service.answering.verification.dates import calendar
from rag_service.answering.verification.quantities import loose_values, normal, quantities

QuestionType = Literal["number", "date", "person", "place", "yes_no", "why", "how", "definition", "other"]


class Wanted:
    """The kind of thing that `question` asks for. What the question says itself is no answer to it: "how many of the
    18 chairs" does not ask for 18."""

    def __init__(self, question: str) -> None:
        plain = normal(question)
        self.kind = _kind(plain)
        self._find = _FOUND.get(self.kind)
        self._sign = _SIGNS.get(self.kind)
        self._told = self._find(plain) if self._find else frozenset[str]()

    def given_by(self, sentence: str) -> bool:
        """Whether `sentence` has something of the kind. Always, where the kind has no mark of its own."""
        plain = normal(sentence)
        if self._find is not None:
            return not self._find(plain) <= self._told
        return self._sign is None or self._sign.search(plain) is not None


# ---------------------------------------------------------------------------------------------------- what is asked


def _kind(question: str) -> QuestionType:
    return next((kind for kind, asked in _ASKED.items() if asked.search(question)), "other")


_AUXILIARY = "(?:is|are|was|were|did|does|do|has|have|had|will|would|can|could|should|must|may)"
_MEASURED = "old|long|far|tall|high|large|big|wide|deep|heavy|fast|often|early|late|hot|cold|expensive"
_NUMBERS = "percent(?:age)?|number|amount|proportion|share|portion|price|size|age|score"
_PLACES = (
    "country|city|state|province|county|town|village|region|continent|island|river|place|location|area|nation|street"
)
_PERIODS = "year|month|day|date|decade|century|time"
# The first that fits: 多久 asks for a number and so does "how long", before 如何 and "how" ask for a way. A "when" that
# opens a clause ("… when he died?") asks nothing, nor does a Who with a capital inside a sentence, which is a name.
_ASKING: tuple[tuple[QuestionType, str], ...] = (
    ("date", "什么时[候间]|何时|何年|哪一?[年天月日]|几[月号]|哪个?(?:世纪|年代|月份?)|什么年代"
             rf"|^\W*(?:since |until |by |from |and )?when {_AUXILIARY}\b|\bwhen\W*$"
             rf"|\b(?:what|which) (?:{_PERIODS})\b"),
    ("number", "多少|几(?![乎何])|多[大长高远重快深宽久厚]|百分之几"
               rf"|\bhow (?:many|much|{_MEASURED})\b|\b(?:what|which) (?:{_NUMBERS})\b"),
    ("person", r"谁|哪[一两几]?[位名]|什么人|何人|^\W*who(?:m|se)?\b|(?-i:\bwho(?:m|se)?\b)"),
    ("place", "哪里|哪儿|何处|何地|什么地[方点区]|在哪(?![些个种])"
              "|哪[一个]*(?:国家?|城市?|省|州|县|镇|村|地区?|大陆|洲|岛)"
              rf"|\bwhere\b|\b(?:what|which) (?:\w+ )?(?:{_PLACES})\b"),
    ("why", r"为什么|为何|什么原因|原因是|\bwhy\b|\bwhat (?:is|was) the reason\b"),
    ("how", r"如何|怎[样么]|\bhow\b"),
    ("yes_no", r"是否|能否|可否|有没有|是不是|能不能|可不可以|吗\W*$"
               rf"|^\W*{_AUXILIARY}\b"),
    ("definition", "什么是|是什么意思|指的?是?什么|的定义"
                   r"|\bdefin|\bwhat (?:does|do) .{1,60} mean\b|\bmeaning of\b"
                   r"|^\W*what (?:is|are) (?:an? )?[\w-]+\W*$"),
)  # fmt: skip
_ASKED = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _ASKING}


# --------------------------------------------------------------------------------------------------- what is given


def _numbers(text: str) -> frozenset[str]:
    values = [*(quantity.value for quantity in quantities(text)), *loose_values(text)]
    return frozenset(f"{value:g}" for value in values)


_YEAR = re.compile(r"(?<![0-9.,])[12][0-9]{3}(?![0-9]|[.,][0-9])")
_PERIOD = re.compile(
    r"[0-9一二三四五六七八九十]+\s?(?:世纪|年代)|公元前?|[0-9]+(?:st|nd|rd|th) centur|[0-9]{3}0s\b"
    r"|[0-9]+ (?:BC|AD|BCE|CE)\b"
    r"|\b(?:spring|summer|autumn|winter|night|midnight|morning|noon|daily|weekly|monthly)\b|[春夏秋冬][季天]|每[天日周月年]",
    re.IGNORECASE,
)


def _dates(text: str) -> frozenset[str]:
    said = [match.group().lower() for pattern in (_YEAR, _PERIOD) for match in pattern.finditer(text)]
    return frozenset([*(f"{quantity.value:g}{quantity.unit}" for quantity in calendar(text)), *said])


# A capital that opens a sentence is no sign of a name; two in a row are.
_CAPITALS = re.compile(
    r"(?<![.!?:] )(?<!^)(?<![\w\"“])[A-Z][\w'’-]*[a-z][\w'’-]*|\b[A-Z]\. ?[A-Z][a-z]+|\b[A-Z][a-z]+(?: [A-Z][\w'’-]+)+"
)
_SURNAMES = (
    "王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘"
    "杜戴夏钟汪田任姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙万段雷钱汤尹黎易常武乔贺赖龚文"
)
_HAN = "[\u4e00-\u9fff]"
# Between what may come before and after a person: 由王芳批准, （张三）, 是李会晟。
_CHINESE_NAME = re.compile(
    f"(?:(?<=[，。、：:；（(“《的由是和与及为给找])|^)[{_SURNAMES}]{_HAN}{{1,2}}(?=[，。、：；）)”（(和与及在是于的任率说]|$)"
    f"|(?<=[由找给])[{_SURNAMES}]{_HAN}{{1,2}}(?=[批负审签主提处担领])"
)
_TITLED = re.compile(
    f"{_HAN}{{1,3}}(?=先生|女士|教授|博士|医生|老师|主任|经理|总统|主席|部长|局长|院长|校长|将军|国王|皇帝)"
)
_PLACE_NAME = re.compile(
    f"{_HAN}{{1,6}}(?:国|省|市|县|区|州|镇|村|山|河|湖|岛|洲|路|街|城|港|湾|海|楼|层|室|园|谷|原|堡|斯|亚|岸|部|处|厅)"
)


def _matches(*patterns: re.Pattern[str]) -> Callable[[str], frozenset[str]]:
    def find(text: str) -> frozenset[str]:
        names = [word for match in _CAPITALS.finditer(text) for word in match.group().split()]
        found = [match.group() for pattern in patterns for match in pattern.finditer(text)]
        return frozenset([*names, *transliteration.names(text), *found])

    return find


_FOUND: dict[QuestionType, Callable[[str], frozenset[str]]] = {
    "number": _numbers,
    "date": _dates,
    "person": _matches(_CHINESE_NAME, _TITLED),
    "place": _matches(_PLACE_NAME),
}
_SAYING: tuple[tuple[QuestionType, str], ...] = (
    ("why", "因|由于|为了|以便|以免|导致|使得|从而|所以"
            r"|\b(?:because|due to|since|as a result|therefore|so that|in order to|reasons?|caus\w+|owing to)\b"),
    ("how", r"通过|利用|使用|经由|方[法式]|步骤|首先|然后|之后|可[以在]|需|请|按|以.{1,12}的?方式"
            r"|\b(?:by|through|using|via|first|then|must|should|please|steps?|press|click|open|with)\b"),
    ("definition", "是指|指的?是|称为|称作|叫做|定义|意为|意思是|是[一用指由]|即"
                   r"|\b(?:(?:is|are|was) an?|means?|refers? to|defined|called|known as)\b"),
)  # fmt: skip
_SIGNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _SAYING}
