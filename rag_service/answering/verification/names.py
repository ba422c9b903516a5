"""Names a sentence says that its passage does not. Pure; in either language, and across the two.

English names are told by their capitals and product names by their digits; Chinese has neither, so there a name shows
by what stands around it (title marks, a dot), by its characters (transcription, a surname) or by its end (公司, 省).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rag_service.answering.verification import transliteration
from rag_service.answering.verification.alignment import Gap
from rag_service.answering.verification.tokens import Reading, Token
from rag_service.types import Language

HEARD_FROM, PART_HEARD_FROM = 0.62, 0.75
"""Likeness of sounds from which two names are one: of whole names, and of a part of at least three sounds."""

_SURNAMES = frozenset(
    "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕施张孔曹严华金魏陶姜戚谢邹喻柏窦章苏潘葛范彭郎鲁韦马苗凤花方俞任袁柳鲍史唐"
    "费廉岑薛雷贺倪汤滕殷罗毕郝邬安常乐傅齐康伍余元卜顾孟黄穆萧尹姚邵汪祁毛狄米贝臧伏戴谈宋庞熊纪舒屈项祝董梁杜阮蓝闵席季贾"
    "江童颜郭梅林钟徐邱骆高夏蔡田胡凌霍虞万柯管卢莫丁邓洪包左石崔吉龚程邢裴陆翁荀惠甄曲封储靳段焦巴弓牧谷车侯宁仇祖武符刘景詹"
    "龙叶幸司黎薄印怀蒲邰从索赖卓蔺屠蒙池乔胥苍双闻莘党翟谭阎"
)
_ENDINGS = re.compile(
    "(?:公司|集团|大学|学院|学校|中学|医院|银行|协会|委员会|法院|检察院|俱乐部|研究所|研究院|出版社|报社|先生|女士|教授|博士|法官|律师"
    "|总统|国王|皇帝|[省市县区州国岛镇村洲河江湖山路街站港湾队党族军朝寺庙宫馆院社部厅局署])$"
)
_TITLES = re.compile(
    "公司|集团|大学|学院|医院|银行|先生|女士|教授|博士|法官|律师|总统|国王|皇帝|[省市县州国岛镇](?!家|场|长|民|府)|部(?!分|门|署)"
)
_GENERIC = re.compile(
    "(?:该|本|这家|其|我|他|她|它)?"
    "(?:公司|集团|大学|学校|医院|国家|政府|城市|地区|们|企业|组织|球队|军队|国王|总统|先生|女士)?"
)
_PARTICLES = "的了在是和与及于由被为"
_DOTS = "·•・"
_TITLE_OPEN, _TITLE_CLOSE = frozenset('《「『“"〈'), frozenset('》」』”"〉')
_NAME_TOKENS, _SHORT_NAME, _LONGEST_NAME = 4, 4, 10
_MOST_NAMES, _MOST_HEARD = 8, 400
"""So many transcribed names of a claim are listened for among so many of a passage: hostile text is not heard out."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a whole passage says, its headings and file name included."""

    text: str
    """Normal form, lower case, without white space."""
    about: str
    """The headings and the file name alone, likewise."""
    words: frozenset[str]
    """Keys of its words."""
    latin: frozenset[str]
    """Its Latin words as written, lower case."""
    beginnings: frozenset[str]
    """The first four letters of those: "Norwegian" meets "Norway"."""
    initials: frozenset[str]
    capitals: frozenset[str]
    """Keys of words it capitalises within a sentence: names, not merely first words."""


def known(said: Sequence[Reading], context: Sequence[Reading]) -> Known:
    readings = [*said, *context]
    words = [token for reading in readings for token in reading.tokens if token.kind == "word"]
    latin = frozenset(token.text.lower() for token in words)
    return Known(
        text=_run_together(readings), about=_run_together(context), words=frozenset(token.key for token in words),
        latin=latin, beginnings=frozenset(word[:4] for word in latin),
        initials=frozenset(initials for reading in readings for initials in _initials(reading.tokens)),
        capitals=frozenset(t.key for r in readings for t in r.tokens if t.capital and not _opens(r.text, t)),
    )  # fmt: skip


def _run_together(readings: Sequence[Reading]) -> str:
    return "".join("".join(reading.text.split()).lower() for reading in readings)


def _initials(tokens: Sequence[Token]) -> Iterator[str]:
    """What could be abbreviated from runs of capitalised words, function words between them left out."""
    run = ""
    for token in tokens:
        if token.kind == "word" and token.text[0].isupper():
            run = (run + token.text[0].lower())[-6:]
            yield from (run[-size:] for size in range(2, len(run) + 1))
        elif not token.function:
            run = ""


def _opens(text: str, token: Token) -> bool:
    """Whether a token begins a sentence, where every word is capitalised."""
    return text[max(token.start - 2, 0) : token.start].strip(' *"“') in ("", "\n", ".")


# ------------------------------------------------------------------------------------- names that stand nowhere


def foreign_codes(claim: Reading, there: Known) -> Iterator[str]:
    """Codes with a number (MPEG-2, X200, COVID-19) that stand nowhere in the passage."""
    text = there.text.replace("-", "")
    for code in _CODE.findall(claim.text):
        if code.replace("-", "").lower() not in text:
            yield code


_CODE = re.compile(r"(?<![A-Za-z0-9])(?!USD|RMB|CNY|EUR|GBP)[A-Za-z]*[A-Z][A-Za-z]*-?[0-9]+(?![0-9]|[.,][0-9])")


def foreign_words(claim: Reading, there: Known) -> Iterator[str]:
    """Capitalised words and acronyms of the claim that stand nowhere in the passage."""
    for token in _named(claim.tokens):
        if not _is_known(token, there):
            yield token.text


def _named(tokens: Sequence[Token]) -> Iterator[Token]:
    for at, token in enumerate(tokens):
        if not token.capital or token.function or len(token.text) < 2:
            continue
        # The first word of a sentence is capitalised anyway; followed by another capital, it is part of a name.
        followed = at + 1 < len(tokens) and tokens[at + 1].capital
        if at > 0 or followed or any(c.isupper() or c.isdigit() for c in token.text[1:]):
            yield token


def _is_known(token: Token, there: Known) -> bool:
    lower = token.text.lower()
    if token.key in there.words or lower in there.latin or lower in there.initials:
        return True
    if any(c.isdigit() for c in lower):
        return lower in there.text
    return len(lower) >= 5 and lower[:4] in there.beginnings


def foreign_characters(claim: Reading, there: Known) -> Iterator[str]:
    """Chinese names whose ends are certain (title marks, a dot, a company's form) that stand nowhere in the passage."""
    for m in _CERTAIN.finditer(claim.text):
        name = "".join(m.group().split()).lower().strip("《》")
        # What runs into a dotted name from before it is not part of it.
        parts = [name.partition(m["dot"])[0][-2:], name.partition(m["dot"])[2][:2]] if m["dot"] else [name]
        if not any(part in there.text for part in parts):
            yield name


_CERTAIN = re.compile(
    f"《[^《》]{{2,30}}》|[\u4e00-\u9fff]{{2,5}}(?P<dot>[{_DOTS}])[\u4e00-\u9fff]{{2,5}}"
    "|[\u4e00-\u9fff]{2}(?:股份|控股|集团)?有限公司"
)


# --------------------------------------------------------------------------------- names in the place of others


def renamed(claim: Reading, passage: Reading, places: Iterable[Gap], there: Known) -> Iterator[str]:
    """Names in the place of other names, in two aligned sentences of one language."""
    for gap in places:
        mine, theirs = claim.tokens[gap.a : gap.b], passage.tokens[gap.c : gap.d]
        if gap.a == 0 and len(mine) == 1 and _is_first_word_swapped(mine[0], theirs, there):
            yield mine[0].text
        elif _are_words_swapped(mine, theirs, gap.a, passage.text):
            yield " ".join(token.text for token in mine if token.capital)
        elif name := _swapped_characters(claim, passage, gap, there):
            yield name


def _is_first_word_swapped(mine: Token, theirs: Sequence[Token], there: Known) -> bool:
    """A first word in the place of one that is a name in the passage; it is capitalised anyway, so it must be unknown
    there."""
    if not theirs or not mine.capital or mine.function or mine.key in there.words:
        return False
    return theirs[-1].capital and theirs[-1].key in there.capitals


def _are_words_swapped(mine: Sequence[Token], theirs: Sequence[Token], first: int, text: str) -> bool:
    """A capitalised word that is said of something else in the passage, where the passage has another one here."""
    if len(mine) > _NAME_TOKENS or len(theirs) > _NAME_TOKENS + 2:
        return False
    ours = [t for at, t in enumerate(mine, start=first) if _is_name_word(t) and (at > 0 or not t.text[1:].islower())]
    others = {t.key for t in theirs if _is_name_word(t) and not _opens(text, t)}
    acronyms = set(_initials(theirs))
    return bool(ours and others) and not any(t.key in others or t.text.lower() in acronyms for t in ours)


def _is_name_word(token: Token) -> bool:
    return token.capital and not token.function and len(token.text) > 1


def _swapped_characters(claim: Reading, passage: Reading, gap: Gap, there: Known) -> str | None:
    mine, theirs = claim.tokens[gap.a : gap.b], passage.tokens[gap.c : gap.d]
    said, held = _written(mine), _written(theirs)
    if not 2 <= len(said) <= _LONGEST_NAME or any(token.kind != "han" for token in mine):
        return None
    start, end = mine[0].start, mine[-1].start + 1
    absent = said.lower() not in there.text
    if absent and _is_marked(claim.text, start, end):
        return said
    if not held:
        return None
    after = passage.text[theirs[-1].start + 1 :][:4]
    likely = (_looks_like_name(said, claim.text[end : end + 4]), _looks_like_name(held, after))
    both = all(likely) and said.lower() not in there.about
    short = absent and any(likely) and max(len(said), len(held)) <= _SHORT_NAME
    return said if both or short else None


def _written(tokens: Sequence[Token]) -> str:
    return "".join(token.text for token in tokens).strip(_PARTICLES)


def _is_marked(text: str, start: int, end: int) -> bool:
    before, after = text[max(start - 1, 0) : start], text[end : end + 1]
    dotted = bool(before and before in _DOTS) or bool(after and after in _DOTS)
    return dotted or (before in _TITLE_OPEN and after in _TITLE_CLOSE)


def _looks_like_name(run: str, after: str) -> bool:
    if any(c in "的是在了" for c in run) or _GENERIC.fullmatch(run):
        return False
    if len(run) >= transliteration.SHORTEST and all(transliteration.is_transcription(c) for c in run):
        return True
    if 2 <= len(run) <= 3 and run[0] in _SURNAMES:
        return True
    return bool(_ENDINGS.search(run) or _TITLES.match(after))


# ----------------------------------------------------------------------------------------------- across languages


def unheard(claim: Reading, language: Language, everything: Sequence[Reading], there: Known) -> Iterator[str]:
    """Names of a Chinese claim that an English passage neither spells nor sounds like.

    An English claim may name what its Chinese passage translates ("Super Bowl", 超级碗), so that there a missing name
    says nothing.
    """
    if language == "en":
        return
    yield from foreign_words(claim, there)
    latin = list(islice(_heard(everything), _MOST_HEARD))
    for name in islice(_dotted(claim), _MOST_NAMES):
        if not _is_heard(name, latin):
            yield name


def _dotted(reading: Reading) -> Iterator[str]:
    """Transcribed names with a dot, the only ones whose ends are certain."""
    for name in transliteration.names(reading.text):
        if any(dot in name for dot in _DOTS) and len(transliteration.chinese_sound(name)) >= 4:
            yield name


def _is_heard(name: str, latin: Sequence[str]) -> bool:
    whole = transliteration.chinese_sound(name)
    parts = [sound for part in re.split(f"[{_DOTS}]", name) if len(sound := transliteration.chinese_sound(part)) >= 3]
    return any(
        transliteration.alike(whole, sound) >= HEARD_FROM
        or any(transliteration.alike(part, sound) >= PART_HEARD_FROM for part in parts)
        for sound in latin
    )


def _heard(readings: Iterable[Reading]) -> Iterator[str]:
    """How runs of one to three capitalised words sound; initials are skipped."""
    for reading in readings:
        run: list[str] = []
        for token in reading.tokens:
            if token.kind == "word" and token.text[0].isupper() and len(token.text) > 1:
                run = [*run, token.text][-3:]
                sounds = (transliteration.latin_sound("".join(run[-size:])) for size in range(1, len(run) + 1))
                yield from (sound for sound in sounds if len(sound) >= 2)
            elif not (token.function or len(token.text) == 1):
                run = []
