"""Does a sentence affirm what another denies, or say the opposite of it? Pure; in either language, and across the two.

Within a language the two are aligned token by token first, and a "not" counts only where what it denies is in both.
Across languages no token can be aligned, so only the whole can be compared: whether one denies and the other does not,
and whether one says only "increase" where the other says only "decrease".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from rag_service.answering.verification.alignment import Pair, gaps
from rag_service.answering.verification.tokens import Reading, Token

_CHINESE_CUE = re.compile(
    "不得不|不能不|无不|(?P<cue>禁止|避开|避免|严禁|拒绝|缺乏|并非|从未|没有|无法|未能|尚未|不|没|未|无|非|勿)"
)
_NO_CUE = re.compile(
    "不仅|不但|不过|不同|不断|不少|不久|不只|不论|不管|不妨|不禁|不锈|无论|非常|非洲|未来|无线|是否|能否|除非|南非|中非|东非|西非|北非"
    "|非裔|非政府|非营利|非官方|非正式|无人|无限|不等|不一|不止|不已|不足|不满|不列|不可避免|不规则|不动产|差不多|无数|未婚|非法"
    "|不幸|不良|不错|莫名|无意|无机|非凡|要不|不朽|不变|无氧|不明|不丹|越来越不|不单|不光"
)
_ENGLISH_CUES = frozenset(
    ("not", "no", "never", "none", "nobody", "nothing", "neither", "nor", "without", "cannot", "unable", "hardly",
     "fail", "failed", "fails", "lack", "lacks", "lacked")
)  # fmt: skip
_NOT_ONLY = frozenset(("only", "just", "merely"))
_DENIED = 4
"""How many content tokens after a cue it denies (Han characters count one each); the first two tell which they are."""
_CLAUSES_BEGIN = frozenset(("because", "since", "although", "but", "while", "which", "who", "when", "if", "unless"))
_BREAK = re.compile(r"[,;:.!?、。()]")

_OPPOSITES = """
increase increased increasing increases rise rose risen rising grew grow grown growth 增加 增长 上升 提高 上涨 提升
decrease decreased decreasing decreases fall fell fallen falling decline declined reduce reduced 减少 下降 降低 下跌

gain gained
loss

more 多于 超过 逾 高于
less fewer 少于 不足 低于 不到

least 至少 最少 起码
most 至多 最多

allow allowed allows permit permitted 允许 准许 可以
forbid forbade forbidden prohibit prohibited ban banned 禁止 不得 严禁 不可以

highest 最高
lowest 最低

largest biggest greatest 最大
smallest 最小

success successful succeeded successfully 成功
failure unsuccessful failed unsuccessfully 失败 未能

accept accepted 接受
reject rejected refuse refused 拒绝

support supported supports 支持 赞成
oppose opposed opposes 反对

included includes include including 包括
excluded excludes exclude excluding 排除
"""
_OPPOSITES_WITHIN_A_LANGUAGE = """
above 以上
below 以下

before 之前 以前
after 之后 以后

higher high larger greater bigger 更高 较高 更大 较大
lower low smaller lesser 更低 较低 更小 较小

first earliest 最早
last latest 最晚

early earlier
late later

maximum
minimum

won win wins 获胜 胜利
lost lose loses defeat 失败 输

began begin begins start started 开始
ended end ends finished stop stopped 结束

major
minor

improve improved improves improving enhanced enhance enhances enhancing strengthened 改善 增强
worsen worsened weaken weakened weakens worsening 恶化 削弱

older oldest elder
younger youngest

all always
none never

possible
impossible

enable enabled enables
prevent prevented prevents

expand expanded 扩大
shrink shrank narrowed 缩小

join joined 加入
leave left withdrew 退出

buy bought
sell sold

open opened
close closed

north northern
south southern

east eastern
west western

male men man boys 男性
female women woman girls 女性
"""
Side = tuple[int, int]
"""Which pair of opposites, and which of the two."""


def _read_sides() -> dict[str, Side]:
    pairs = (_OPPOSITES.strip() + "\n\n" + _OPPOSITES_WITHIN_A_LANGUAGE.strip()).split("\n\n")
    return {
        word: (at, side)
        for at, pair in enumerate(pairs)
        for side, line in zip((1, -1), pair.splitlines(), strict=True)
        for word in line.split()
    }


_SIDES = _read_sides()
_TRANSLATING = _OPPOSITES.strip().count("\n\n") + 1
_CHINESE_OPPOSITE = re.compile("|".join(sorted((w for w in _SIDES if not w.isascii()), key=len, reverse=True)))


def turned(claim: Reading, passage: Reading, pairs: Sequence[Pair]) -> str | None:
    """What is denied on one side only of two aligned sentences of one language, or said the other way round."""
    there, back = dict(pairs), {j: i for i, j in pairs}
    if word := _denied_here_only(claim, passage, there):
        return f"denied, and not so in the passage: {word}"
    if word := _denied_here_only(passage, claim, back):
        return f"denied in the passage: {word}"
    if not _cues(passage) and (unheard := _cues(claim)):
        return f"denied, and nothing is in the passage: {claim.tokens[unheard[0][0]].text}"
    return _opposed_in_place(claim, passage, pairs) or _opposed(_sides(claim, there), _sides(passage, back))


def turned_across(claim: Reading, passages: Sequence[Reading]) -> str | None:
    """The same for two languages, as far as the whole can tell."""
    text = "\n".join(reading.text for reading in passages)
    if _plainly_denies(claim.text) and not _may_deny(text):
        return "denied, and nothing is in the passage"
    # A passage may deny in a clause that a shorter claim leaves out.
    if _plainly_denies(text) and not _may_deny(claim.text) and _words(claim.text) >= _AS_LONG * _words(text):
        return "denied in the passage"
    # "After" also ranks and "begin" also founds: only some opposites survive translation.
    mine, theirs = (
        {side: word for reading in readings for side, word in _sides(reading, {}).items() if side[0] < _TRANSLATING}
        for readings in ([claim], passages)
    )
    return _opposed(mine, theirs)


# ---------------------------------------------------------------------------------------------- within a language


def _denied_here_only(one: Reading, other: Reading, across: dict[int, int]) -> str | None:
    """The first word that a cue without partner denies in `one`, where its partner in `other` is not denied."""
    denied_there = {at for first, last in _cues(other) for at in (*_denied(other, last), *_before(other, first))}
    for first, last in _cues(one):
        held = [at for at in _denied(one, last)[:2] if at in across]
        if first not in across and held and not any(across[at] in denied_there for at in held):
            return one.tokens[held[0]].text
    return None


def _denied(reading: Reading, last: int) -> list[int]:
    """Indexes of the content tokens that a word ending at token `last` denies, up to the end of the clause."""
    found: list[int] = []
    end = reading.tokens[last].start + len(reading.tokens[last].text)
    for at in range(last + 1, len(reading.tokens)):
        token = reading.tokens[at]
        ended = _BREAK.search(reading.text, end, token.start) or token.text.lower() in _CLAUSES_BEGIN
        if ended or len(found) == _DENIED:
            break
        end = token.start + len(token.text)
        if not token.function:
            found.append(at)
    return found


def _before(reading: Reading, first: int) -> list[int]:
    """Indexes of the content tokens before an English cue: what is denied in "acetone must not be used"."""
    found: list[int] = []
    for at in range(first - 1, -1, -1) if reading.tokens[first].kind == "word" else ():
        token, after = reading.tokens[at], reading.tokens[at + 1]
        if len(found) == _DENIED or _BREAK.search(reading.text, token.start + len(token.text), after.start):
            break
        if not token.function:
            found.append(at)
    return found


def _cues(reading: Reading) -> list[tuple[int, int]]:
    """First and last token of every word that denies."""
    return [*_english_cues(reading.tokens), *_chinese_cues(reading)]


def _english_cues(tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
    for at, token in enumerate(tokens):
        after = tokens[at + 1].text.lower() if at + 1 < len(tokens) else ""
        if token.kind == "word" and token.text.lower() in _ENGLISH_CUES and after not in _NOT_ONLY:
            yield at, at


def _chinese_cues(reading: Reading) -> Iterator[tuple[int, int]]:
    starts = {token.start: at for at, token in enumerate(reading.tokens)}
    inside_words = {at for m in _NO_CUE.finditer(reading.text) for at in range(m.start(), m.end())}
    for m in _CHINESE_CUE.finditer(reading.text):
        first, last = starts.get(m.start("cue")), starts.get(m.end("cue") - 1)
        if first is not None and last is not None and m.start() not in inside_words:
            yield first, last


def _opposed_in_place(claim: Reading, passage: Reading, pairs: Sequence[Pair]) -> str | None:
    """Opposites in one place of the two sentences, whatever else stands elsewhere."""
    for gap in gaps(pairs, len(claim.tokens), len(passage.tokens)):
        mine = _sides(Reading(claim.text, claim.tokens[gap.a : gap.b], {}), {})
        theirs = _sides(Reading(passage.text, passage.tokens[gap.c : gap.d], {}), {})
        if found := _opposed(mine, theirs):
            return found
    return None


def _opposed(mine: dict[Side, str], theirs: dict[Side, str]) -> str | None:
    for (pair, side), word in mine.items():
        if (pair, -side) in theirs and (pair, side) not in theirs and (pair, -side) not in mine:
            return f"{word}, where the passage says {theirs[pair, -side]}"
    return None


def _sides(reading: Reading, matched: dict[int, int]) -> dict[Side, str]:
    """Opposites among the tokens that have no partner on the other side."""
    if not reading.tokens:
        return {}
    words = ((at, t.text.lower()) for at, t in enumerate(reading.tokens) if t.kind != "han")
    found = {_SIDES[word]: word for at, word in words if at not in matched and word in _SIDES}
    starts = {token.start: at for at, token in enumerate(reading.tokens)}
    # A word of which only a part is in place still counts: 增加 for 减少 after 增.
    first, last = reading.tokens[0].start - 1, reading.tokens[-1].start + len(reading.tokens[-1].text) + 1
    for m in _CHINESE_OPPOSITE.finditer(reading.text, max(first, 0), last):
        covered = [starts[at] for at in range(m.start(), m.end()) if at in starts]
        if covered and not all(at in matched for at in covered):
            found[_SIDES[m.group()]] = m.group()
    return found


# ----------------------------------------------------------------------------------------------- across languages

_PLAIN_ENGLISH = re.compile(r"\b(?:not(?! only| just| merely)|never|cannot|nor|no longer)\b", re.IGNORECASE)
_PLAIN_CHINESE = re.compile(
    "(?<![毫差要])不(?=能|会|是|再|得|可以|应|必|属|包|具|存|允|准|需|想|愿|知|认|相|支|接|承|喜|在|由|受|成|参|涉|位|如)"
    "|没有|并未|从未|尚未|未能|未曾|无法|并不|并非"
)
_ANY_ENGLISH = re.compile(
    r"\b(?:not|no|none|never|nothing|nobody|n?either|nor|without|cannot|unable|hardly|few|little|too|fail\w*|lack\w*"
    r"|refus\w*|reject\w*|den(?:y|ied|ies|ial)|prevent\w*|avoid\w*|forb\w+|prohibit\w*|bann?e?d?|rarely|seldom|barely"
    r"|despite|absen\w*|impossible|un(?!der|i|til|less)\w{4,}|in(?:dep|suf|cor|cap|eff|vis|def|com)\w+"
    r"|im(?:poss|mob|mat|mut|prob|perf|mun)\w+|non\w*|illeg\w+|irr\w+|\w{3,}less"
    r"|dis(?:q|ab|ag|al|ap|ar|be|co[nu]|il|ob|or|pa|re|sa|ti[ln]|us)\w+)\b",
    re.IGNORECASE,
)
_ANY_CHINESE = re.compile("[不没无勿否禁拒避]|未(?!来)|非(?![洲常])|防止|缺乏|失败|难以|很少|罕见|除外|取消")
_AS_LONG = 0.7
_WORDS_A_CHARACTER = 0.6
"""English words that say what one Han character does."""
_HAN = re.compile("[\u4e00-\u9fff]")
_LATIN_WORD = re.compile("[A-Za-z]+")


def _plainly_denies(text: str) -> bool:
    return bool(_PLAIN_ENGLISH.search(text) or _PLAIN_CHINESE.search(text))


def _may_deny(text: str) -> bool:
    """Whether anything in `text` could be what a denial was translated from."""
    return bool(_ANY_ENGLISH.search(text) or _ANY_CHINESE.search(text))


def _words(text: str) -> float:
    """Length in English words."""
    return _count(_HAN.finditer(text)) * _WORDS_A_CHARACTER + _count(_LATIN_WORD.finditer(text))


def _count(matches: Iterable[object]) -> int:
    return sum(1 for _ in matches)
