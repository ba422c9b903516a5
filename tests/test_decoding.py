"""Which encoding a text is in, told from its bytes."""

from __future__ import annotations

import codecs

import pytest

from ingest.parsers.decoding import decode
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
