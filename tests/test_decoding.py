"""Which encoding a text is in, told from its bytes."""

from __future__ import annotations

import base64
import codecs
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.parsers import mojibake
from ingest.parsers.decoding import FLOOR, decode, read
from rag_service.errors import ParseFailed

SIMPLIFIED = (
    "知识库里的每一份文件都会被切成小段，回答问题时先找出相关的段落，再写出带有引用的句子。"
    "如果找不到证据，系统会拒绝回答，并说明原因。上传的文件可以是文本、网页、表格或者扫描件。"
)
TRADITIONAL = (
    "知識庫裡的每一份文件都會被切成小段，回答問題時先找出相關的段落，再寫出帶有引用的句子。"
    "如果找不到證據，系統會拒絕回答，並說明原因。上傳的文件可以是文字、網頁、表格或者掃描件。"
)
SHORT_SIMPLIFIED = ["你好", "中国银行", "今天下雨了。", "北京市海淀区", "第一章 总则", "联系人：张三"]
SHORT_TRADITIONAL = ["你好嗎", "臺灣大學", "今天下雨了。", "臺北市大安區", "第一章 總則", "聯絡人：張三"]


@pytest.mark.parametrize("text", [SIMPLIFIED, SIMPLIFIED * 40, *SHORT_SIMPLIFIED])
def test_simplified_chinese_in_gb18030_is_read(text: str) -> None:
    assert decode(text.encode("gb18030")) == text


@pytest.mark.parametrize("text", [TRADITIONAL, TRADITIONAL * 40, *SHORT_TRADITIONAL])
def test_traditional_chinese_in_big5_is_read(text: str) -> None:
    assert decode(text.encode("big5")) == text


def test_traditional_chinese_in_gb18030_is_not_taken_for_big5() -> None:
    assert decode(TRADITIONAL.encode("gb18030")) == TRADITIONAL


def test_every_window_of_running_text_is_told_apart() -> None:
    for text, encoding in ((SIMPLIFIED, "gb18030"), (TRADITIONAL, "big5")):
        windows = [text[start : start + 12] for start in range(len(text) - 12)]
        assert [decode(window.encode(encoding)) for window in windows] == windows


def test_characters_of_four_bytes_are_read() -> None:
    text = SIMPLIFIED + "生僻字：𠮷、㐂、𬱖。"
    assert decode(text.encode("gb18030")) == text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize(
    "text", [SIMPLIFIED, TRADITIONAL, "Plain English, nothing else.\n", "混合 mixed 文字 text。\n"]
)
def test_unicode_is_read_with_and_without_a_mark(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_big_endian_utf16_with_a_mark_is_read() -> None:
    assert decode(codecs.BOM_UTF16_BE + SIMPLIFIED.encode("utf-16-be")) == SIMPLIFIED


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Don’t worry – it’s “fine”.", "cp1252"),
        ("Le garçon était très heureux d'être arrivé à l'hôtel.", "latin-1"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "shift_jis"),
        ("吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。", "euc_jp"),
        ("대한민국의 수도는 서울이다. 서울은 한강을 끼고 있으며 인구가 많다.", "euc_kr"),
    ],
)
def test_other_languages_are_not_turned_into_chinese(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_one_chinese_name_in_english_text_is_read() -> None:
    text = "Contact 张三 for details about the quarterly report, please."
    assert decode(text.encode("gbk")) == text


def test_a_declared_charset_means_its_superset() -> None:
    text = "朱镕基"  # 镕 is not in GB 2312
    assert decode(text.encode("gbk"), "gb2312") == text


def test_an_untrue_declaration_does_not_decide() -> None:
    assert decode(SIMPLIFIED.encode("utf-8"), "gb2312") == SIMPLIFIED
    assert decode(SIMPLIFIED.encode("gb18030"), "iso-8859-1") == SIMPLIFIED
    assert decode(SIMPLIFIED.encode("gb18030"), "no-such-charset") == SIMPLIFIED


@pytest.mark.parametrize(
    "data",
    [
        "正常\ufffd\ufffd文字".encode(),
        "锟斤拷锟斤拷".encode(),
        bytes(range(256)),
        SIMPLIFIED.encode()[:-1],
        b"text\x00with\x01controls and more text",
        codecs.BOM_UTF8 + b"\xff\xff\xff",
    ],
)
def test_damaged_text_is_refused(data: bytes) -> None:
    with pytest.raises(ParseFailed) as caught:
        decode(data)
    assert caught.value.reason == "encoding"


@pytest.mark.parametrize("data", [b"", b" \r\n\t", b"\x00\x00"])
def test_nothing_is_empty(data: bytes) -> None:
    with pytest.raises(ParseFailed) as caught:
        decode(data)
    assert caught.value.reason == "empty"


@pytest.mark.parametrize("label", ["undefined", "hex", "zip", "rot13"])
def test_a_declared_codec_that_is_no_charset_does_not_decide(label: str) -> None:
    assert decode("<p>保修期为两年。</p>".encode(), label) == "<p>保修期为两年。</p>"


RUSSIAN = "Привет, как дела? Это простой русский текст для проверки кодировки."


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *((RUSSIAN, encoding) for encoding in ("cp1251", "koi8-r", "cp866", "iso8859-5", "utf-16-le", "utf-16-be")),
        ("名前,年齢,住所\r\n佐藤太郎,30,東京\r\n三木英子,25,大阪\r\n髙橋淳,35,名古屋\r\n", "cp932"),
        ("こんにちは世界", "cp932"),
        ("これはテストです。", "iso2022_jp"),
        ("안녕하세요", "cp949"),
        ("联通", "gbk"),
        ("100 °C", "cp1252"),
        ("€ 100 for a naïve café", "cp1252"),
        ("Łódź jest piękna, proszę żółw", "cp1250"),
        ("Καλημέρα κόσμε", "cp1253"),
        ("①②③ 步骤 ㎡", "gb18030"),
    ],
)
def test_neighbours_and_alphabets_are_told_apart(text: str, encoding: str) -> None:
    reading = read(text.encode(encoding))
    assert reading.text == text
    assert FLOOR <= reading.confidence <= 1


@pytest.mark.parametrize(
    ("text", "encoding", "label"),
    [
        ("привет", "koi8-r", "KOI8-R"),
        ("żółw", "iso8859-2", "iso-8859-2"),
        ("日本国憲法", "euc_jp", "euc-jp"),
        (SIMPLIFIED, "gb18030", "windows-1251"),
        ("今天下雨了。臺北市大安區", "big5", "gb2312"),
    ],
)
def test_a_declaration_decides_where_the_text_bears_it_out(text: str, encoding: str, label: str) -> None:
    assert decode(text.encode(encoding), label) == text


def test_confidence_is_stated() -> None:
    assert read(b"plain").confidence == 1
    assert read(codecs.BOM_UTF8 + SIMPLIFIED.encode()).confidence == 1
    assert read(SIMPLIFIED.encode()).encoding == "utf-8"
    assert read(SIMPLIFIED.encode("gbk")).encoding == "gb18030"
    assert 0.8 < read(SIMPLIFIED.encode("gbk")).confidence < 1
    assert read("你".encode("gbk")).confidence < read(SIMPLIFIED.encode("gbk")).confidence


def test_a_reading_below_the_floor_is_refused_with_its_confidence() -> None:
    with pytest.raises(ParseFailed) as caught:
        read(bytes(range(0x81, 0xFF)) * 3)
    assert caught.value.reason == "encoding"
    assert isinstance(caught.value.data["confidence"], float)
    assert caught.value.data["confidence"] < FLOOR


CURLY = "It’s a “good” day – isn’t it? The café is open."
MOJIBAKE = {
    f"{name} as {wrong}": text.encode(right).decode(wrong, "replace")
    for name, text in (
        ("simplified", SIMPLIFIED),
        ("traditional", TRADITIONAL),
        ("English", CURLY),
        ("Russian", RUSSIAN),
    )
    for right, wrong in (("utf-8", "latin-1"), ("utf-8", "cp1252"), ("utf-8", "gbk"), ("utf-8", "gb18030"))
} | {
    "UTF-8 as Big5": SIMPLIFIED.encode().decode("big5", "replace"),
    "UTF-8 as Shift-JIS": SIMPLIFIED.encode().decode("cp932", "replace"),
    "UTF-8 as cp1251": SIMPLIFIED.encode().decode("cp1251", "replace"),
    "GBK as Latin-1": SIMPLIFIED.encode("gbk").decode("latin-1"),
    "Big5 as Latin-1": TRADITIONAL.encode("big5").decode("latin-1"),
    "cp1251 as Latin-1": RUSSIAN.encode("cp1251").decode("latin-1"),
    "hello": "ä½\xa0å¥½",
    "hello as GBK": "浣犲ソ",
    "lost": "锟斤拷锟斤拷锟斤拷",
    "memory": "烫烫烫烫屯屯屯",
    "question marks": "???? ?????? ??",
    "one line of many": SIMPLIFIED * 5 + "\n" + SIMPLIFIED.encode().decode("gbk", "replace") + "\n" + SIMPLIFIED * 5,
}


@pytest.mark.parametrize("text", MOJIBAKE.values(), ids=MOJIBAKE.keys())
def test_mojibake_is_refused(text: str) -> None:
    with pytest.raises(ParseFailed) as caught:
        decode(text.encode("utf-8"))
    assert caught.value.reason == "encoding"
    assert {"encoding", "confidence"} <= caught.value.data.keys()


@pytest.mark.parametrize(
    "text",
    [
        SIMPLIFIED,
        TRADITIONAL,
        CURLY,
        RUSSIAN,
        "他说“锟斤拷”是乱码的一种，很常见。",
        "汤太烫了，真的烫烫的！",
        "Ça coûte 5 € – «déjà vu» à Besançon, É”: où?",
        "×“共创明‘Teen’计划”300名学员及友师参观驻香港部队展览中心。",
        "品牌 奖牌 吉祥物 火炬",
        "吾輩は猫である。名前はまだ無い。エーアイ 人工知能",
        "Ελληνικά svenska српски norsk bokmål slovenčina русский български 中文 繁體中文",
        "What??? Really?! 为什么？？？",
        "àâäéèêëïîôùûüÿçœæ",
        "小小小小小的一件小事，些些",
        "鑫淼犇骉麤龘靐齉爩 生僻字展览",
    ],
)
def test_honest_text_is_no_mojibake(text: str) -> None:
    assert mojibake.damage(text) <= mojibake.DAMAGED
    assert decode(text.encode()) == text


LONG = 2_000_000
ALIKE = {
    "letters": b"k" * LONG,
    "spaces": b" " * LONG + b"x",
    "digits": b"7" * LONG,
    "base64": base64.b64encode(bytes(range(256)) * (LONG // 350)),
    "Chinese": SIMPLIFIED.encode() * (LONG // len(SIMPLIFIED.encode())),
    "Chinese in GBK": SIMPLIFIED.encode("gbk") * (LONG // len(SIMPLIFIED.encode("gbk"))),
    "letters and one more": b"k" * LONG + "é".encode(),
    "Chinese and one Russian letter": SIMPLIFIED.encode() * (LONG // len(SIMPLIFIED.encode())) + "ж".encode(),
    "accents": "é".encode() * (LONG // 2),
}


def cpu_seconds(data: bytes) -> float:
    begun = time.thread_time()
    decode(data)
    return time.thread_time() - begun


@pytest.mark.parametrize("data", ALIKE.values(), ids=ALIKE.keys())
def test_no_text_takes_longer_than_its_size_allows(data: bytes) -> None:
    fair = cpu_seconds(b"Plain words of an ordinary text.\n" * (LONG // 33))
    assert cpu_seconds(data) < 20 * fair


@pytest.mark.parametrize(("text", "encoding"), [(SIMPLIFIED, "gb18030"), (TRADITIONAL, "big5"), (RUSSIAN, "cp1251")])
def test_a_text_may_begin_with_much_that_is_ascii(text: str, encoding: str) -> None:
    text = "A preface in English.\n" * 5_000 + text
    assert decode(text.encode(encoding)) == text


def test_mojibake_behind_much_that_is_ascii_is_no_less_damaged() -> None:
    garbled = "浣犲ソ浣犲ソ" * 200
    assert mojibake.damage("A preface in English.\n" * 4_000 + garbled) > mojibake.DAMAGED


@given(
    st.binary(max_size=300),
    st.sampled_from([None, "utf-8", "gb2312", "big5", "koi8-r", "shift_jis", "x-unknown", "hex"]),
)
def test_any_bytes_are_read_with_confidence_or_refused(data: bytes, label: str | None) -> None:
    try:
        reading = read(data, label)
    except ParseFailed as error:
        outcome = error.reason
    else:
        outcome = "read" if FLOOR <= reading.confidence <= 1 else "unsure"
    assert outcome in ("read", "encoding", "empty")


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Co", "Cs")), min_size=20))
def test_damage_is_a_share(text: str) -> None:
    assert 0 <= mojibake.damage(text) <= 1
