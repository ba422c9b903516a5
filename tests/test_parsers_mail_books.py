"""Books, mail, rich text and feeds: what each becomes, and how each kind of bad file is told."""

from __future__ import annotations

import base64
import io
import zipfile
from email.header import Header
from email.message import EmailMessage
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parsed import blocks, failure, parse

from ingest.parsers import REASONS
from ingest.parsers.epub import EpubParser
from ingest.parsers.zip_container import Limits
from rag_service.errors import ParseFailed
from rag_service.media_types import EML, EPUB, HTML, RTF, XML


def reason(media_type: str, data: bytes | str) -> str:
    return failure(media_type, data).reason


# --- EPUB

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
XHTML = (
    '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.1//EN" "xhtml11.dtd">'
    "<html>{}</html>"
)


def opf(*chapters: str, title: str = "手册", extra: str = "", spine: str | None = None) -> str:
    items = "".join(
        f'<item id="c{n}" href="{name}" media-type="application/xhtml+xml"/>' for n, name in enumerate(chapters)
    )
    order = "".join(f'<itemref idref="c{n}"/>' for n in range(len(chapters))) if spine is None else spine
    return (
        f'<package xmlns="http://www.idpf.org/2007/opf"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        f"<dc:title>{title}</dc:title></metadata><manifest>{items}{extra}</manifest><spine>{order}</spine></package>"
    )


def book(parts: dict[str, str | bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        for name, content in parts.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_a_book_is_read_in_the_order_of_its_spine() -> None:
    first = "<head><title>手册</title></head><body><h2>第一章</h2><p>内容。</p></body>"
    data = book(
        {
            "OEBPS/two words.xhtml": XHTML.format("<body><h1>Second</h1><p>Two&nbsp;two.</p></body>"),
            "OEBPS/one.xhtml": XHTML.format(first),
            "OEBPS/content.opf": opf("one.xhtml", "two%20words.xhtml"),
        }
    )
    parsed = parse(EPUB, data)
    assert blocks(parsed) == [
        ("heading", "# 手册"),
        ("heading", "## 第一章"),
        ("paragraph", "内容。"),
        ("heading", "# Second"),
        ("paragraph", "Two\xa0two."),
    ]
    assert parsed.pages is None


@pytest.mark.parametrize(
    ("name", "kind", "contents"),
    [
        (
            "toc.ncx",
            'media-type="application/x-dtbncx+xml"',
            '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap><navPoint><navLabel><text>第一章</text></navLabel>'
            '<content src="one.xhtml#top"/></navPoint></navMap></ncx>',
        ),
        (
            "nav.xhtml",
            'media-type="application/xhtml+xml" properties="nav"',
            '<html xmlns="http://www.w3.org/1999/xhtml"><nav><a href="one.xhtml">第一章</a></nav></html>',
        ),
    ],
)
def test_a_chapter_without_a_heading_gets_the_one_of_the_table_of_contents(name: str, kind: str, contents: str) -> None:
    data = book(
        {
            "OEBPS/one.xhtml": XHTML.format("<body><p>内容。</p></body>"),
            f"OEBPS/{name}": contents,
            "OEBPS/content.opf": opf("one.xhtml", extra=f'<item id="t" href="{name}" {kind}/>'),
        }
    )
    assert blocks(parse(EPUB, data)) == [("heading", "# 手册"), ("heading", "# 第一章"), ("paragraph", "内容。")]


@pytest.mark.parametrize("tag", ["p", "h1", "div"])
def test_a_title_that_the_first_chapter_begins_with_is_said_once(tag: str) -> None:
    ncx = '<ncx><navPoint><navLabel><text>手册</text></navLabel><content src="one.xhtml"/></navPoint></ncx>'
    data = book(
        {
            "OEBPS/cover.xhtml": XHTML.format('<head><title>Cover</title></head><body><img src="x.png"/></body>'),
            "OEBPS/one.xhtml": XHTML.format(f"<body><{tag}>手册</{tag}><p>内容。</p></body>"),
            "OEBPS/toc.ncx": ncx,
            "OEBPS/content.opf": opf(
                "cover.xhtml",
                "one.xhtml",
                extra='<item id="t" href="toc.ncx" media-type="application/x-dtbncx+xml"/>',
            ),
        }
    )
    assert blocks(parse(EPUB, data)) == [("heading", "# 手册"), ("paragraph", "内容。")]


CHAPTER = XHTML.format("<body><p>text</p></body>")
LOCK = '<encryption><EncryptedData><EncryptionMethod Algorithm="{}"/></EncryptedData></encryption>'


def test_a_locked_book_is_told_from_one_with_obfuscated_fonts() -> None:
    parts: dict[str, str | bytes] = {"OEBPS/one.xhtml": CHAPTER, "OEBPS/content.opf": opf("one.xhtml")}
    locked = {"META-INF/encryption.xml": LOCK.format("http://www.w3.org/2001/04/xmlenc#aes128-cbc")}
    fonts = {"META-INF/encryption.xml": LOCK.format("http://www.idpf.org/2008/embedding")}
    assert reason(EPUB, book({**parts, **locked})) == "encrypted"
    assert "text" in parse(EPUB, book({**parts, **fonts})).text


ENTITIES = '<!DOCTYPE html [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
HIDDEN = f"{ENTITIES}<html><p>&e;</p></html>"
GARBLED = "知识库里的每一份文件".encode().decode("gbk", "replace")
BROKEN_BOOKS: dict[str, tuple[dict[str, str | bytes], str]] = {
    "no package": ({}, "broken"),
    "a chapter missing": ({"OEBPS/content.opf": opf("one.xhtml")}, "broken"),
    "no spine": ({"OEBPS/content.opf": opf("one.xhtml", spine=""), "OEBPS/one.xhtml": CHAPTER}, "broken"),
    "a spine that names nothing": (
        {"OEBPS/content.opf": opf("one.xhtml", spine='<itemref idref="x"/>'), "OEBPS/one.xhtml": CHAPTER},
        "broken",
    ),
    "a chapter outside": ({"OEBPS/content.opf": opf("../../../../etc/passwd")}, "broken"),
    "a package that is no XML": ({"OEBPS/content.opf": "<package><metadata>"}, "broken"),
    "an empty book": ({"OEBPS/content.opf": opf("one.xhtml"), "OEBPS/one.xhtml": XHTML.format("")}, "no-text"),
    "entities in a chapter": (
        {"OEBPS/content.opf": opf("one.xhtml"), "OEBPS/one.xhtml": HIDDEN},
        "xml-dtd",
    ),
    "entities in UTF-16": (
        {"OEBPS/content.opf": opf("one.xhtml"), "OEBPS/one.xhtml": HIDDEN.encode("utf-16")},
        "xml-dtd",
    ),
    "entities in the package": (
        {"OEBPS/content.opf": ENTITIES + opf("one.xhtml"), "OEBPS/one.xhtml": CHAPTER},
        "xml-dtd",
    ),
    "mojibake": (
        {
            "OEBPS/content.opf": opf("one.xhtml"),
            "OEBPS/one.xhtml": XHTML.format(f"<p>{GARBLED}</p>"),
        },
        "encoding",
    ),
}


@pytest.mark.parametrize(("parts", "expected"), BROKEN_BOOKS.values(), ids=BROKEN_BOOKS.keys())
def test_a_bad_book_is_told(parts: dict[str, str | bytes], expected: str) -> None:
    assert reason(EPUB, book(parts)) == expected


def test_a_book_that_inflates_to_too_much_is_told() -> None:
    data = book({"OEBPS/content.opf": opf("one.xhtml"), "OEBPS/one.xhtml": XHTML.format("<p>x</p>" * 100_000)})
    with pytest.raises(ParseFailed) as caught:
        EpubParser(Limits(xml_bytes=100_000)).parse(data)
    assert caught.value.reason == "decompression-limit"


# --- mail


def test_a_mail_is_its_headers_and_its_body() -> None:
    message = EmailMessage()
    message["Subject"] = "季度报告：已完成"
    message["From"] = "张三 <zhang@example.com>"
    message["To"] = "li@example.com"
    message["Date"] = "Mon, 04 Mar 2024 10:00:00 +0800"
    message.set_content("你好，\n\n报告在附件里。\n")
    message.add_alternative("<p>你好，</p><p>HTML</p>", subtype="html")
    message.add_attachment(b"%PDF-1.7", maintype="application", subtype="pdf", filename="报告 2024.pdf")
    assert blocks(parse(EML, message.as_bytes())) == [
        ("heading", "# 季度报告：已完成"),
        ("paragraph", "From: 张三 <zhang@example.com>\nTo: li@example.com\nDate: Mon, 04 Mar 2024 10:00:00 +0800"),
        ("paragraph", "你好，"),
        ("paragraph", "报告在附件里。"),
        ("list", "附件（未收录）/ Attachments (not indexed):\n- 报告 2024.pdf (application/pdf, 8 bytes)"),
    ]


@pytest.mark.parametrize("charset", ["gbk", "gb2312", "big5", "utf-8"])
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable", "8bit"])
def test_a_body_is_read_in_its_charset_and_transfer_encoding(charset: str, encoding: str) -> None:
    text = "中文信件，今天下雨了。" if charset != "big5" else "中文信件，今天下雨了，請帶傘。"
    raw = text.encode(charset)
    body = {
        "base64": base64.encodebytes(raw),
        "quoted-printable": "".join(f"={byte:02X}" for byte in raw).encode(),
        "8bit": raw,
    }[encoding]
    head = f"Subject: {Header(text, charset).encode()}\r\nContent-Type: text/plain; charset={charset}\r\n"
    data = head.encode() + f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body
    assert blocks(parse(EML, data)) == [("heading", f"# {text}"), ("paragraph", text)]


def test_headers_in_bare_bytes_and_words_cut_within_a_character_are_read() -> None:
    assert "# 会议纪要" in parse(EML, "Subject: 会议纪要\n\nx".encode("gbk")).text
    raw = "会议纪要".encode("gbk")
    words = " ".join(f"=?gbk?B?{base64.b64encode(piece).decode()}?=" for piece in (raw[:3], raw[3:]))
    assert "# 会议纪要" in parse(EML, f"Subject: {words}\n\nx").text


def test_html_is_read_where_there_is_no_plain_text_or_only_a_stub() -> None:
    page = "<table><tr><th>项目</th><th>金额</th></tr><tr><td>房租</td><td>100</td></tr></table>"
    alone = MIMEText(page, "html", "utf-8")
    alone["Subject"] = "x"
    assert ("table", "| 项目 | 金额 |\n| --- | --- |\n| 房租 | 100 |") in blocks(parse(EML, alone.as_bytes()))
    both = MIMEMultipart("alternative")
    both["Subject"] = "x"
    both.attach(MIMEText("Use an HTML reader."))
    both.attach(MIMEText(page * 20, "html", "utf-8"))
    assert "房租" in parse(EML, both.as_bytes()).text


def test_a_short_mail_behind_a_stub_is_read() -> None:
    both = MIMEMultipart("alternative")
    both["Subject"] = "x"
    both.attach(MIMEText("To view this message, use an HTML mail reader."))
    both.attach(
        MIMEText("<p>会议改到周五下午三点，地点在 302 会议室，请带上合同原件与上季度的材料。</p>", "html", "utf-8")
    )
    assert "302 会议室" in parse(EML, both.as_bytes()).text


def test_plain_text_that_says_all_is_preferred_to_much_markup() -> None:
    both = MIMEMultipart("alternative")
    both["Subject"] = "x"
    both.attach(MIMEText("合同已签。\n请付款。", "plain", "utf-8"))
    style = f"<style>{'p { color: red } ' * 100}</style>"
    both.attach(MIMEText(f"{style}<p>合同已签。</p><p>请付款。</p>", "html", "utf-8"))
    assert blocks(parse(EML, both.as_bytes()))[1:] == [("paragraph", "合同已签。\n请付款。")]


def test_files_between_pieces_of_html_are_named_where_the_plain_text_is_read() -> None:
    both, pieces = MIMEMultipart("alternative"), MIMEMultipart("mixed")
    both["Subject"] = "x"
    both.attach(MIMEText("请看附件。", "plain", "utf-8"))
    contract = MIMEApplication(b"%PDF", "pdf")
    contract.add_header("Content-Disposition", "inline", filename="contract.pdf")
    for piece in (MIMEText("<p>请看附件。</p>", "html", "utf-8"), contract):
        pieces.attach(piece)
    both.attach(pieces)
    assert "- contract.pdf (application/pdf, 4 bytes)" in parse(EML, both.as_bytes()).text


def test_a_forwarded_mail_stands_in_its_place() -> None:
    inner = EmailMessage()
    inner["Subject"] = "原件"
    inner.set_content("原文。")
    outer = EmailMessage()
    outer["Subject"] = "转发"
    outer.set_content("见下。")
    outer.add_attachment(inner)
    outer.get_payload()[1].replace_header("Content-Disposition", "inline")
    assert blocks(parse(EML, outer.as_bytes())) == [
        ("heading", "# 转发"),
        ("paragraph", "见下。"),
        ("heading", "## 原件"),
        ("paragraph", "原文。"),
    ]


def test_flowed_lines_are_joined() -> None:
    data = "Subject: x\nContent-Type: text/plain; format=flowed\n\nThis line \ngoes on.\nThis one ends.\n"
    assert "This line goes on.\nThis one ends." in parse(EML, data).text


def test_a_mailbox_line_before_the_headers_is_none_of_them() -> None:
    assert blocks(parse(EML, "From a@b Mon Mar  4 10:00:00 2024\nSubject: x\n\ny"))[0] == ("heading", "# x")


MULTIPART = "Subject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
BAD_MAILS = {
    "no headers": ("just a text\n\nwithout any", "broken"),
    "cut short": (f"{MULTIPART}--b\n\nhalf a message", "broken"),
    "bad base64": ("Subject: x\nContent-Transfer-Encoding: base64\n\nYWJj!!!!ZGVm*\n", "broken"),
    "sealed": ("Subject: x\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\n\nAAAA", "encrypted"),
    "PGP": ("Subject: x\nContent-Type: multipart/encrypted; boundary=b\n\n--b\n\nx\n--b--\n", "encrypted"),
    "no text in any charset": (b"Subject: x\nContent-Type: text/plain\n\n" + bytes(range(0x80, 0xFF)) * 9, "encoding"),
    "a hundred messages deep": ("Subject: x\nContent-Type: message/rfc822\n\n" * 100, "broken"),
    "empty": (" \n\n", "empty"),
}


@pytest.mark.parametrize(("data", "expected"), BAD_MAILS.values(), ids=BAD_MAILS.keys())
def test_a_bad_mail_is_told(data: str | bytes, expected: str) -> None:
    assert reason(EML, data) == expected


def test_a_part_without_its_boundary_is_kept_as_text() -> None:
    data = "Subject: x\nContent-Type: multipart/mixed; boundary=missing\n\nThe text that is there.\n"
    assert "The text that is there." in parse(EML, data).text


# --- RTF


def rtf(body: str, head: str = "") -> bytes:
    fonts = r"{\fonttbl{\f0\fcharset0 Times New Roman;}{\f1\fnil\fcharset134 SimSun;}{\f2\fcharset136 PMingLiU;}}"
    styles = r"{\stylesheet{\s0 Normal;}{\s1\sbasedon0 heading 1;}{\s2 \'b1\'ea\'cc\'e2 2;}}"
    return (r"{\rtf1\ansi\ansicpg936\deff0" + fonts + styles + head + body + "}").encode("latin-1")


def hexed(text: str, encoding: str) -> str:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(encoding))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (r"Plain \b bold\b0  text.\par", "Plain bold text."),
        (rf"{{\f1 {hexed('知识库', 'gbk')}}}\par", "知识库"),
        (rf"{hexed('知识库', 'gbk')}\par", "知识库"),
        (rf"{{\f2 {hexed('臺灣', 'big5')}}}\par", "臺灣"),
        (r"\'d6\'aa A\'93B\'94\par", "知 A“B”"),
        ("\\f1 \\'81A\\par", b"\x81A".decode("gbk")),
        (r"\u30693?\u-30005?\par", "知請"),
        (r"\uc2\u30693\'d6\'aa\uc1\u35782?\par", "知识"),
        (r"\u-10179?\u-8704?\par", "😀"),
        (r"\uc0\u30693\u35782\par", "知识"),
        (r"a\tab b\line c\emdash d\~e\-f\{g\}\par", "a\tb\nc—d\xa0ef{g}"),
        (r"shown {\v hidden}{\deleted gone}\v no\v0 too\par", "shown too"),
        (r'{\field{\*\fldinst HYPERLINK "x"}{\fldrslt a link}} and {\*\unknown lost}more\par', "a link and more"),
        (r"{\upr{ascii}{\*\ud{\u30693?}}}\par", "知"),
        (r"{\info{\upr{\title old}{\*\ud{\title \u30693?}}}}text\par", "text"),
        (r"{\header running}{\pict\bin4 }}}}\'00 00}text\par", "text"),
        (r"{\shp{\*\shpinst{\sp{\sn x}{\sv y}}{\shptxt boxed}}{\shprslt twice}}\par", "boxed"),
        ("no end of paragraph", "no end of paragraph"),
        ("中文".encode("gbk").decode("latin-1") + r"\par", "中文"),
    ],
)
def test_rich_text_is_its_text(body: str, text: str) -> None:
    assert parse(RTF, rtf(body)).text == text


def test_rtf_cells_stand_under_their_own_names_where_others_are_merged() -> None:
    upper = r"\trowd\clvmgf\cellx1000\cellx3010\clvmgf\cellx4000\intbl Item\cell Amount\cell Note\cell\row"
    lower = r"\trowd\clvmrg\cellx1000\cellx2000\cellx3000\clvmrg\cellx4000\intbl\cell 2023\cell 2024\cell\cell\row"
    body = r"\trowd\cellx1000\cellx2000\cellx3000\cellx4000\intbl Rent\cell 10\cell 11\cell gross\cell\row"
    assert blocks(parse(RTF, rtf(upper + lower + body))) == [
        ("table", "| Item | Amount 2023 | Amount 2024 | Note |\n| --- | --- | --- | --- |\n| Rent | 10 | 11 | gross |")
    ]


def test_rtf_rows_of_ever_new_columns_do_not_fill_the_memory() -> None:
    rows = (
        r"\trowd" + "".join(rf"\cellx{place}" for place in (n * 100, 10**6)) + r"\intbl a\cell b\cell\row"
        for n in range(5_000)
    )
    assert len(parse(RTF, rtf("".join(rows))).text) < 100_000


def test_rich_text_keeps_its_structure() -> None:
    body = (
        r"\pard\s1 Rules\par\pard\s2 Leave\par\pard\outlinelevel2 Details\par"
        r"\pard Text{\footnote \chftn A note.\par More.}.\par"
        r"{\listtext\pard\plain 1.\tab}\ls1 First\par{\listtext\'b7\tab}\ls1 Second\par\pard"
        r"\trowd\intbl Kind\cell Days\cell\row\trowd\intbl Annual\par leave\cell 10|11\cell\row\pard After\par"
    )
    parsed = parse(RTF, rtf(body))
    assert blocks(parsed) == [
        ("heading", "# Rules"),
        ("heading", "## Leave"),
        ("heading", "### Details"),
        ("paragraph", "Text[^1]."),
        ("list", "1. First\n- Second"),
        ("table", "| Kind | Days |\n| --- | --- |\n| Annual leave | 10\\|11 |"),
        ("paragraph", "After"),
        ("paragraph", "[^1]: A note."),
        ("paragraph", "More."),
    ]


BAD_RTF = {
    "cut short": (rtf("text")[:-1], "broken"),
    "no RTF": (b"text", "broken"),
    "a binary part beyond the end": (rtf(r"{\pict\bin2147483647 x}"), "broken"),
    "nested without end": (b"{\\rtf1" + b"{" * 100_000 + b"x" + b"}" * 100_001, "broken"),
    "pictures alone": (rtf(r"{\pict 00ff}"), "empty"),
    "damaged bytes": (rtf(r"{\f1 \'80\'ff\'81\'20\'ff\'ff text}\par"), "encoding"),
    "empty": (b"\x00 \n", "empty"),
    "a lone backslash": (b"{\\rtf1 x\\", "broken"),
}


@pytest.mark.parametrize(("data", "expected"), BAD_RTF.values(), ids=BAD_RTF.keys())
def test_bad_rich_text_is_told(data: bytes, expected: str) -> None:
    assert reason(RTF, data) == expected


# --- feeds and other XML


def test_a_feed_is_its_articles() -> None:
    feed = (
        '<?xml version="1.0" encoding="gb2312"?><rss xmlns:content="http://purl.org/rss/1.0/modules/content/"><channel>'
        "<title>新闻</title><item><pubDate>2024-03-04</pubDate><title>第一条</title><description>&lt;p&gt;内容"
        "&lt;br&gt;第二行&lt;/p&gt;</description><content:encoded><![CDATA[<ul><li>一</li></ul>]]></content:encoded></item>"
        "</channel></rss>"
    )
    assert blocks(parse(XML, feed.encode("gb2312"))) == [
        ("heading", "# 新闻"),
        ("heading", "## 第一条"),
        ("paragraph", "pubDate: 2024-03-04"),
        ("paragraph", "内容\n第二行"),
        ("list", "- 一"),
    ]


def test_an_atom_feed_keeps_authors_and_content() -> None:
    feed = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>News</title><entry><title>One</title><author><name>Li</name>'
        '</author><content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>Body&nbsp;text</p></div></content>'
        "</entry></feed>"
    )
    assert blocks(parse(XML, feed)) == [
        ("heading", "# News"),
        ("heading", "## One"),
        ("paragraph", "name: Li"),
        ("paragraph", "Body\xa0text"),
    ]


def test_other_xml_is_its_values_and_its_prose() -> None:
    xml = '<staff><person id="7"><name>张三</name><phone>123</phone></person><note>See <b>the</b> list.</note></staff>'
    assert blocks(parse(XML, xml)) == [("paragraph", "id: 7\nname: 张三\nphone: 123"), ("paragraph", "See the list.")]


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "ha"}">' for n in range(10))
BAD_XML = {
    "an external entity": "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><x>&e;</x>",
    "a billion laughs": f"<?xml version='1.0'?><!-- c --><!DOCTYPE x [{BOMB}]><x>&e9;</x>",
    "a parameter entity": "<!DOCTYPE x [<!ENTITY % p SYSTEM 'http://127.0.0.1/x'> %p;]><x>y</x>",
}


@pytest.mark.parametrize("markup", BAD_XML.values(), ids=BAD_XML.keys())
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("media_type", [XML, HTML])
def test_declared_entities_are_refused(media_type: str, encoding: str, markup: str) -> None:
    assert reason(media_type, markup.encode(encoding)) == "xml-dtd"


def test_a_doctype_that_only_names_a_dtd_is_harmless() -> None:
    assert parse(XML, '<!DOCTYPE rss SYSTEM "http://127.0.0.1:9/x.dtd"><rss><title>A</title></rss>').text == "# A"
    assert parse(HTML, '<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0//EN" "x.dtd"><p>B').text == "B"


@pytest.mark.parametrize(
    "markup", ["<a><b></a>", "<a>", "<a>&undefined;</a>", "no markup", "<a>" * 5_000 + "x" + "</a>" * 5_000]
)
def test_xml_that_is_not_well_formed_is_broken(markup: str) -> None:
    assert reason(XML, markup) == "broken"


# --- any bytes

SEEDS = {
    RTF: rtf(r"\pard\s1 Rules{\footnote x}\par{\f1 \'d6\'aa}\trowd\intbl a\cell\row"),
    EML: MULTIPART.encode()
    + b"--b\nContent-Transfer-Encoding: base64\n\nYWJj\n--b\nContent-Type: message/rfc822\n\nTo: y\n\nz\n--b--",
    XML: b"<rss><channel><title>x</title><item><description>&lt;p&gt;y</description></item></channel></rss>",
    EPUB: book({"OEBPS/content.opf": opf("one.xhtml"), "OEBPS/one.xhtml": CHAPTER}),
}


@pytest.mark.parametrize("media_type", SEEDS)
@given(data=st.data())
def test_a_mutated_file_is_read_or_told(media_type: str, data: st.DataObject) -> None:
    seed = SEEDS[media_type]
    at = data.draw(st.integers(0, len(seed)))
    cut = data.draw(st.integers(0, 30))
    mutated = seed[:at] + data.draw(st.binary(max_size=20)) + seed[at + cut :]
    try:
        outcome = parse(media_type, mutated).parser
    except ParseFailed as error:
        outcome = error.reason if error.reason in REASONS else "undocumented"
    assert outcome != "undocumented"
