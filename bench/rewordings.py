"""Ways to say a sentence again without changing what it says, and ways to make it untrue.

Made for `bench.citations`: written apart from the verifier, with its own tables and expressions, so that the verifier
is not measured against itself. Every function takes a random source and returns None where it has nothing to do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

Reworder = Callable[[Random, str], str | None]

_HAN = "\u4e00-\u9fff"
_ZH_DIGITS = "〇一二三四五六七八九"
_EN_UNITS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_EN_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_CONDITIONAL = re.compile(r"如果|假如|除非|除了|若|只有|\b(?:if|unless|except|only|whether)\b", re.IGNORECASE)


# ---------------------------------------------------------------------------------------------------- still true


def without_a_clause(rng: Random, sentence: str) -> str | None:
    """One clause or parenthesis left out. A sentence with a condition is left alone: without it, it says more."""
    if _CONDITIONAL.search(sentence):
        return None
    bare = re.sub(r"\s*[（(][^()（）]{2,60}[）)]", "", sentence)
    if bare != sentence and rng.random() < 0.5:
        return bare
    return _without_chinese_clause(rng, bare) if re.search(f"[{_HAN}]", bare) else _without_english_clause(rng, bare)


def _without_chinese_clause(rng: Random, sentence: str) -> str | None:
    clauses = sentence.rstrip("。").split("，")
    if len(clauses) < 3:
        return None
    # The first clause carries the subject, so it stays.
    del clauses[rng.randrange(1, len(clauses))]
    return "，".join(clauses) + "。"


def _without_english_clause(rng: Random, sentence: str) -> str | None:
    tail = re.search(
        r"(?<=\w), (?:while|which|with|including|where|who|making|leading|although|though|and|as|after|before)\b"
        r"[^,]+\.$",
        sentence,
    )
    if tail and len(sentence[: tail.start()].split()) >= 6:
        return sentence[: tail.start()] + "."
    lead = re.match(r"(?:In|On|At|During|By|After|Since|As|For|From|With) [^,]{3,60}, (?=\w)", sentence)
    if lead and len(sentence[lead.end() :].split()) >= 6:
        return sentence[lead.end()].upper() + sentence[lead.end() + 1 :]
    return None


_ZH_SYNONYMS = (
    ("因此", "所以"), ("由于", "因为"), ("但是", "不过"), ("以及", "和"), ("目前", "现在"), ("大约", "约"),
    ("位于", "坐落于"), ("包括", "包含"), ("成立于", "创立于"), ("开始", "着手"), ("非常", "十分"), ("并且", "而且"),
    ("主要", "主要地"), ("通过", "藉由"), ("使用", "采用"), ("获得", "取得"), ("建立", "设立"), ("认为", "觉得"),
    ("表示", "指出"), ("称为", "叫做"), ("拥有", "具有"), ("许多", "很多"), ("之后", "以后"), ("曾经", "曾"),
    ("必须", "需要"), ("完成", "做完"), ("超过", "逾"), ("进行", "开展"), ("其中", "当中"), ("担任", "出任"),
    ("提高", "提升"), ("显示", "表明"), ("著名", "知名"), ("首先", "第一步"), ("如今", "今天"), ("影响", "冲击"),
    ("因為", "由於"), ("以後", "之後"), ("並且", "而且"), ("稱為", "叫做"), ("擔任", "出任"), ("獲得", "取得"),
    ("許多", "很多"), ("認為", "覺得"), ("建立", "設立"), ("擁有", "具有"), ("開始", "著手"), ("認為", "主張"),
)  # fmt: skip
_EN_SYNONYMS = (
    ("began", "started"), ("used", "employed"), ("large", "big"), ("many", "numerous"), ("several", "a number of"),
    ("also", "as well"), ("because", "since"), ("however", "yet"), ("such as", "for example"), ("around", "roughly"),
    ("approximately", "about"), ("received", "got"), ("built", "constructed"), ("created", "made"),
    ("known as", "called"), ("made up of", "composed of"), ("located", "situated"), ("often", "frequently"),
    ("usually", "generally"), ("important", "significant"), ("led", "headed"), ("ended", "finished"),
    ("obtained", "acquired"), ("show", "indicate"), ("showed", "indicated"), ("helped", "assisted"),
    ("main", "principal"), ("city", "town"), ("won", "took"), ("purchased", "bought"), ("requires", "needs"),
    ("allowed", "let"), ("found", "discovered"), ("chosen", "selected"), ("established", "founded"),
    ("announced", "declared"), ("completed", "concluded"), ("became", "turned into"),
    ("significantly", "considerably"), ("enhanced", "improved"), ("company", "firm"), ("including", "among them"),
)  # fmt: skip


def with_synonyms(rng: Random, sentence: str) -> str | None:
    """Up to three words changed for others that mean the same."""
    pairs = list(_ZH_SYNONYMS if re.search(f"[{_HAN}]", sentence) else _EN_SYNONYMS)
    rng.shuffle(pairs)
    said, changed = sentence, 0
    for old, new in pairs:
        pattern = old if re.search(f"[{_HAN}]", old) else rf"\b{old}\b"
        again = re.sub(pattern, new, said, count=1)
        changed += again != said
        said = again
        if changed == 3:
            break
    return said if changed else None


def reformatted(rng: Random, sentence: str) -> str | None:
    """Numbers, dates and units written another way."""
    han = bool(re.search(f"[{_HAN}]", sentence))
    said = _chinese_format(rng, sentence) if han else _english_format(rng, sentence)
    return said if said != sentence else None


def _chinese_format(rng: Random, text: str) -> str:
    text = re.sub(r"(\d+(?:\.\d+)?)\s*[%％]", lambda m: f"百分之{_zh_decimal(m[1])}", text)
    text = re.sub(r"(\d{4})年(\d{1,2})月(\d{1,2})日", lambda m: _zh_date(rng, m), text)
    text = re.sub(r"(?<![\d.,])(\d{1,3})(,\d{3})+(?!\d)", lambda m: m[0].replace(",", ""), text)
    text = re.sub(r"(\d+)\.(\d)亿", lambda m: f"{int(m[1] + m[2]) * 1000}万", text)
    text = re.sub(
        r"(?<![\d.,年月第A-Za-z-])([1-9]\d?)\s*(?=[个次名年天家人位条座部种岁场])",
        lambda m: zh_numeral(int(m[1])),
        text,
    )
    for old, new in (("公里", "千米"), ("公斤", "千克"), ("公尺", "米")):
        text = text.replace(old, new)
    return text


def _zh_date(rng: Random, m: re.Match[str]) -> str:
    if rng.random() < 0.5:
        return f"{m[1]}-{int(m[2]):02d}-{int(m[3]):02d}"
    year = "".join(_ZH_DIGITS[int(c)] for c in m[1])
    return f"{year}年{zh_numeral(int(m[2]))}月{zh_numeral(int(m[3]))}日"


def zh_numeral(number: int) -> str:
    if number < 10:
        return "零一二三四五六七八九"[number]
    tens, ones = divmod(number, 10)
    return ("" if tens == 1 else _ZH_DIGITS[tens]) + "十" + (_ZH_DIGITS[ones] if ones else "")


def _zh_decimal(number: str) -> str:
    whole, _, part = number.partition(".")
    if len(whole) > 2:
        return number
    return zh_numeral(int(whole)) + ("点" + "".join("零一二三四五六七八九"[int(c)] for c in part) if part else "")


def _english_format(rng: Random, text: str) -> str:
    months = "|".join(_MONTHS)
    text = re.sub(r"(\d+(?:\.\d+)?)\s?%", r"\1 percent", text)
    text = re.sub(rf"({months}) (\d{{1,2}}), (\d{{4}})", lambda m: _en_date(rng, m), text)
    text = re.sub(r"\$ ?(\d+(?:\.\d+)?) (million|billion)", r"\1 \2 US dollars", text)
    text = re.sub(r"(?<![\d.,$])(\d{1,3})(,\d{3})+(?!\d)", lambda m: m[0].replace(",", ""), text)
    text = re.sub(
        r"(?<![\d.,$/–-])\b([1-9]\d?)\b(?=\s[a-z]{3,})(?! (?:percent|hundred|thousand|million|billion))",
        _en_words,
        text,
    )
    words = "|".join(_EN_UNITS[2:])
    return re.sub(rf"(?<=[a-z] )\b({words})\b(?=\s[a-z])", lambda m: str(_EN_UNITS.index(m[1])), text, count=1)


def _en_date(rng: Random, m: re.Match[str]) -> str:
    if rng.random() < 0.5:
        return f"{int(m[2])} {m[1]} {m[3]}"
    return f"{m[3]}-{_MONTHS.index(m[1]) + 1:02d}-{int(m[2]):02d}"


def _en_words(m: re.Match[str]) -> str:
    number = int(m[1])
    if number < 20:
        return _EN_UNITS[number]
    return _EN_TENS[number // 10] + (f"-{_EN_UNITS[number % 10]}" if number % 10 else "")


# ------------------------------------------------------------------------------------- a question and its answer


def statement(question: str, answer: str) -> str | None:
    """What a question says once its answer stands where the question word stood."""
    answer = answer.strip().rstrip("。.")
    if not 0 < len(answer) <= 60:
        return None
    return (
        _chinese_statement(question, answer)
        if re.search(f"[{_HAN}]", question)
        else _english_statement(question, answer)
    )


_ZH_WH = re.compile(
    r"(?:西元)?(?:哪一年|哪年|什么时候|什麼時候|何时|何時|哪一天|哪天|哪一?[个個家座条條支所部](?:公司|国家|國家|城市|地方|学校|學校|大学|大學"
    r"|球队|球隊|省|州|人|语言|組織|组织|机构|機構|党|民族|朝代|乐队)|哪里|哪裡|哪兒|何处|何處|谁|誰|哪位|何人|多少(?=\w))"
)


def _chinese_statement(question: str, answer: str) -> str | None:
    found = list(_ZH_WH.finditer(question))
    if len(found) != 1 or re.search(r"为什么|為什麼|怎么|怎麼|如何|吗|嗎", question):
        return None
    before, after = question[: found[0].start()], question[found[0].end() :].rstrip("？?")
    if found[0].group().startswith("多少"):
        unit = re.match(rf"[^0-9\s]*?([{_HAN}]{{1,2}})$", answer)
        trailing = unit[1] if unit else answer[-1]
        if after.startswith(trailing):
            after = after[len(trailing) :]
        elif re.search(f"[{_HAN}]$", answer) and after.startswith(answer[-1]):
            after = after[1:]
    elif answer[-1] == after[:1]:
        after = after[1:]
    return f"{before}{answer}{after}。"


def _english_statement(question: str, answer: str) -> str | None:
    subject = re.fullmatch(
        r"(?:Who|What|Which(?: \w+){1,3}?) ((?!did|does|do|are you)(?:\w+ed|is|was|were|has|had|can|led|won|became|made"
        r"|wrote|gave|took|began|built|ran|held|sold|beat|got|sent|said) .+?)\?",
        question,
    )
    if subject:
        return f"{answer[0].upper()}{answer[1:]} {subject[1]}."
    count = re.fullmatch(r"How many ([\w ]{3,30}?) did (.+?) (\w+)\?", question)
    if count and re.match(r"[\d,.]+$|[a-z]+$", answer):
        return f"{count[2][0].upper()}{count[2][1:]} did {count[3]} {answer} {count[1]}."
    passive = re.fullmatch(
        r"(When|Where) (was|were) ((?:the |a )?(?:[A-Z][\w'-]*\s?)+) (\w+(?:ed|n|t|held|built))\??", question
    )
    if passive:
        preposition = "" if re.match(r"(?:in|on|at|by)\b", answer, re.IGNORECASE) else "in "
        return f"{passive[3][0].upper()}{passive[3][1:]} {passive[2]} {passive[4]} {preposition}{answer}."
    return None


# ---------------------------------------------------------------------------------------------------------- untrue

_ZH_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*|(?<![一二三四五六七八九十])[二三四五六七八九十]+(?=[个個次名年天家人位条條座部种種岁歲场場国國大月万萬亿億千百])"
)
_EN_NUMBER = re.compile(
    r"(?<![\w.,])\d+(?:[.,]\d+)*(?=\b)|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty)\b",
    re.IGNORECASE,
)


def changed_number(rng: Random, sentence: str, passage: str) -> str | None:
    """One number changed; one time in three, where it can be, for another number of the same passage."""
    pattern = _ZH_NUMBER if re.search(f"[{_HAN}]", sentence) else _EN_NUMBER
    found = list(pattern.finditer(sentence))
    if not found:
        return None
    at = rng.choice(found)
    new = _other_in_passage(rng, at.group(), sentence, passage, pattern) if rng.random() < 1 / 3 else None
    new = new or _perturbed(rng, at.group())
    return sentence[: at.start()] + new + sentence[at.end() :] if new else None


def _other_in_passage(rng: Random, old: str, sentence: str, passage: str, pattern: re.Pattern[str]) -> str | None:
    alike = {n for n in pattern.findall(passage) if len(n) == len(old) and n[0].isdigit() == old[0].isdigit()}
    alike -= set(pattern.findall(sentence))
    return rng.choice(sorted(alike)) if alike else None


def _perturbed(rng: Random, old: str) -> str | None:
    if not old[0].isdigit():
        return _other_word(rng, old)
    if "." not in old and "," not in old and 1000 <= int(old) <= 2100:
        return str(int(old) + rng.choice([-10, -7, -4, -3, -2, -1, 1, 2, 3, 4, 7, 10]))
    places = [at for at, c in enumerate(old) if c.isdigit()]
    at = rng.choice(places)
    digits = [d for d in "123456789" if d != old[at]]
    new = old[:at] + rng.choice(digits) + old[at + 1 :]
    return new if float(new.replace(",", "") if new.count(".") < 2 else "0") != 0 else None


def _other_word(rng: Random, old: str) -> str | None:
    if old.lower() in _EN_UNITS:
        new = rng.choice([w for w in _EN_UNITS[2:13] if w != old.lower()])
        return new.capitalize() if old[0].isupper() else new
    if re.fullmatch("[二三四五六七八九]", old):
        return rng.choice([c for c in "二三四五六七八九" if c != old])
    if re.fullmatch("[一二三四五六七八九]?十[一二三四五六七八九]?", old):
        return rng.choice([n for n in (zh_numeral(k) for k in range(11, 60, 3)) if n != old])
    return None


_EN_UNIT_GROUPS = (
    ("seconds", "minutes", "hours", "days", "weeks", "months", "years"),
    ("second", "minute", "hour", "day", "week", "month", "year"),
    ("metres", "kilometres", "miles", "feet", "inches", "yards"),
    ("meters", "kilometers", "miles", "feet", "inches", "yards"), ("km", "mi", "ft", "cm", "mm"), ("kg", "mg", "g"),
    ("kilograms", "pounds", "tons", "ounces"), ("million", "billion"), ("percent", "per thousand"), ("%", "‰"),
    ("US$", "€", "£"), ("$", "€", "£", "¥"), ("dollars", "euros", "pounds", "yuan"), ("ml", "l"), ("°C", "°F"),
    ("square miles", "acres", "square kilometres"), ("acres", "hectares"), ("mg", "kg"), ("mmHg", "kPa"),
    ("litres", "gallons"), ("kW", "MW"),
)  # fmt: skip
_ZH_UNIT_GROUPS = (
    ("秒", "分钟", "小时", "天", "周", "个月", "年"), ("秒", "分鐘", "小時", "天", "週", "個月", "年"),
    ("米", "公里", "英里", "英尺", "厘米"), ("公尺", "公里", "英里", "英尺", "公分"), ("千克", "克", "吨", "磅"),
    ("公斤", "克", "吨", "磅"), ("公斤", "克", "噸", "磅"), ("万", "亿"), ("萬", "億"), ("%", "‰"), ("％", "‰"),
    ("元", "美元", "欧元", "日元", "英镑"), ("美元", "欧元", "人民币"), ("平方公里", "公顷", "亩", "平方米"),
    ("平方公里", "公頃", "英畝"), ("摄氏度", "华氏度"), ("千瓦", "兆瓦"), ("毫升", "升"), ("港元", "美元"),
    ("海里", "公里"),
)  # fmt: skip


def swapped_unit(rng: Random, sentence: str, passage: str) -> str | None:
    """A unit after (or a currency sign before) a number changed for another of its kind."""
    han = bool(re.search(f"[{_HAN}]", sentence))
    places: list[tuple[int, int, tuple[str, ...]]] = []
    groups: tuple[tuple[str, ...], ...] = _ZH_UNIT_GROUPS if han else _EN_UNIT_GROUPS
    for group in groups:
        names = "|".join(re.escape(name) for name in sorted(group, key=len, reverse=True))
        number = (
            r"(?:\d|[二三四五六七八九十百千万亿]|(?<=\d)万"
            r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|million|billion))"
        )
        # "3年" after a year's four digits is a date, and "$" stands before its number.
        after = r"(?![A-Za-z])" if not han else r"(?![代级間间岁歲年边])"
        for m in re.finditer(rf"{number}\s?({names}){after}|({names})(?=\s?\d)", sentence):
            piece = 1 if m[1] else 2
            if piece == 2 and not re.match(r"[$€£¥U]", m[2]):
                continue
            if m[piece] in ("周", "週") and sentence[m.start(piece) - 1] == "四":  # "四周" is all around.
                continue
            if m[piece] == "年" and re.search(r"\d{4}\s?$", sentence[: m.start(1)]):
                continue
            places.append((m.start(piece), m.end(piece), group))
    if not places:
        return None
    start, end, group = rng.choice(places)
    new = rng.choice([unit for unit in group if unit != sentence[start:end]])
    return sentence[:start] + new + sentence[end:]


_ZH_NEGATED = (
    ("可以", "不可以"), ("不得", "可以"), ("没有", "有"), ("並非", "正是"), ("并非", "正是"), ("不是", "是"),
    ("不能", "能"), ("不会", "会"), ("不再", "再"), ("无法", "能够"), ("無法", "能夠"), ("未能", "成功"),
    ("尚未", "已经"), ("从未", "曾经"), ("沒有", "有"), ("不會", "會"), ("能够", "不能够"), ("能夠", "不能夠"),
    ("已经", "尚未"), ("已經", "尚未"), ("曾经", "从未"), ("必须", "不必"), ("必須", "不必"), ("应当", "不应当"),
    ("属于", "不属于"), ("屬於", "不屬於"), ("具有", "不具有"), ("包括", "不包括"), ("位于", "并不位于"),
    ("位於", "並不位於"), ("成为", "没有成为"), ("成為", "沒有成為"), ("获得了", "没有获得"), ("獲得了", "沒有獲得"),
    ("完成了", "没有完成"), ("是", "不是"), ("会", "不会"), ("會", "不會"), ("被", "没有被"), ("有", "没有"),
)  # fmt: skip
_ZH_OPPOSED = (
    ("增加", "减少"), ("增長", "下降"), ("增长", "下降"), ("上升", "下降"), ("提高", "降低"), ("最大", "最小"),
    ("最高", "最低"), ("最早", "最晚"), ("以上", "以下"), ("之前", "之后"), ("之前", "之後"), ("以前", "以后"),
    ("超过", "不足"), ("超過", "不足"), ("至少", "至多"), ("允许", "禁止"), ("允許", "禁止"), ("支持", "反对"),
    ("支持", "反對"), ("成功", "失败"), ("赞成", "反对"), ("多于", "少于"), ("高于", "低于"), ("高於", "低於"),
    ("扩大", "缩小"), ("开始", "结束"), ("開始", "結束"), ("加入", "退出"), ("買", "賣"), ("买", "卖"),
)  # fmt: skip
_EN_OPPOSED = (
    ("increased", "decreased"), ("increase", "decrease"), ("increasing", "decreasing"), ("increases", "decreases"),
    ("higher", "lower"), ("before", "after"), ("more than", "less than"), ("more", "fewer"), ("at least", "at most"),
    ("largest", "smallest"), ("highest", "lowest"), ("allowed", "forbade"), ("won", "lost"), ("first", "last"),
    ("above", "below"), ("success", "failure"), ("successful", "unsuccessful"), ("possible", "impossible"),
    ("accepted", "rejected"), ("began", "ended"), ("major", "minor"), ("improved", "worsened"), ("larger", "smaller"),
    ("early", "late"), ("older", "younger"), ("rose", "fell"), ("gained", "lost"), ("support", "oppose"),
    ("supported", "opposed"), ("enhanced", "weakened"), ("all", "none of"), ("always", "never"),
    ("enabled", "prevented"),
)  # fmt: skip
_EN_AUXILIARY = re.compile(
    r"\b(is|was|are|were|has|have|had|can|could|will|would|should|must|may|did|does|do)\b(?! not\b)(?!n't)"
)


def negated(rng: Random, sentence: str, passage: str) -> str | None:
    """A "not" put in or taken out; one time in three, where it can be, a word changed for its opposite."""
    han = bool(re.search(f"[{_HAN}]", sentence))
    if rng.random() < 1 / 3 and (turned := _opposed(rng, sentence, _ZH_OPPOSED if han else _EN_OPPOSED)):
        return turned
    return _negated_chinese(rng, sentence) if han else _negated_english(rng, sentence)


def _opposed(rng: Random, sentence: str, table: tuple[tuple[str, str], ...]) -> str | None:
    pairs = [*table, *((new, old) for old, new in table)]
    rng.shuffle(pairs)
    for old, new in pairs:
        pattern = old if re.search(f"[{_HAN}]", old) else rf"\b{old}\b"
        if re.search(pattern, sentence):
            return re.sub(pattern, new, sentence, count=1)
    return None


def _negated_chinese(rng: Random, sentence: str) -> str | None:
    for old, new in _ZH_NEGATED:
        guard = (
            r"(?<![不没沒也还還但只于於若都就总總凡正无無未可便更或即而国國以现現拥擁含约約已持享占佔具附私公共固特稀富设設载所])(?!否|因|指|故|以|关|關|所|些|效|时|時|限|人)"
            if len(old) == 1
            else r"(?<![不没沒未])"
        )
        before, _, ahead = guard.partition(")")
        if re.search(f"{before}){old}{ahead}", sentence):
            return re.sub(f"{before}){old}{ahead}", new, sentence, count=1)
    return None


def _negated_english(rng: Random, sentence: str) -> str | None:
    if removed := re.search(r"\b(?:not|never) (?!only)", sentence):
        return sentence[: removed.start()] + sentence[removed.end() :]
    found = list(_EN_AUXILIARY.finditer(sentence))
    if not found:
        return None
    at = rng.choice(found[:2])
    return f"{sentence[: at.end()]} {'not' if rng.random() < 0.8 else 'never'}{sentence[at.end() :]}"


_EN_NAME = re.compile(
    r"(?<=[a-z,;] )(?:[A-Z][a-zà-ÿ]+)(?: (?:of |de |van |von )?[A-Z][a-zà-ÿ]+){0,3}"
    r"|^[A-Z][a-zà-ÿ]+(?: [A-Z][a-zà-ÿ]+){1,2}"
)
_NO_NAME = re.compile(
    r"^(?:The|A|In|On|I|He|She|It|They|This|These|Those|That|We|At|As|For|By|From|After|Before|When|While|During|Although"
    rf"|However|But|And|Its|His|Her|Their|{'|'.join(_MONTHS)}|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)\b"
)


def english_names(text: str) -> list[str]:
    return [name for name in _EN_NAME.findall(text) if not _NO_NAME.match(name) and len(name) > 3]


def renamed(sentence: str, old: str, new: str) -> str:
    return sentence.replace(old, new, 1)
