"""A hand-made labelled set over the sample documents: what a model could write, and what must be said of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag_service.answering.verification.verifier import Read, Verifier
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.text import language_of
from rag_service.types import Passage, Verdict

PLACING = (
    "Put the analyser on a level bench that can carry at least 30 kg. Leave at least 15 cm of free space behind the "
    "X-200 so that the cooling fan can draw in air. Keep it out of direct sunlight and at least 2 m away from ovens, "
    "centrifuges and fume-cupboard outlets. The room should be between 10 and 35 °C with a relative humidity of 20 to "
    "80 per cent, without condensation."
)
CLEANING = (
    "Clean the flow path once a week with cleaning solution CB-2050: place the sample tube in 100 mL of solution and "
    "start Maintenance > Clean cell, which takes 12 minutes. Afterwards run two rinses with deionised water. Wipe the "
    "housing with a cloth dampened with water or 70 per cent isopropanol. Do not use acetone, because it clouds the "
    "window of the measuring cell."
)
WARRANTY = (
    "The standard warranty of the X-200 and X-100 analysers is 24 months from the date of delivery. Customers who "
    "register an analyser online within 30 days of delivery receive six extra months of warranty free of charge, which "
    "makes 30 months in total. The S-40 autosampler and consumables cannot be extended in this way. The price of "
    "CarePlus in the United Kingdom is GBP 390 per year for an X-200 and GBP 260 per year for an X-100."
)
PROBATION = (
    "一般岗位的试用期为3个月，研发岗位和部门经理以上岗位的试用期为6个月。试用期工资不低于约定工资的90%。直属主管应当在试用期届满前"
    "10个工作日完成转正评估，评估分为“按期转正”“提前转正”和“不予录用”三种结论。提前转正的，试用期最短不少于1个月。"
)
HOLIDAYS = (
    "在公司服务满五年、不满十年的员工，每年享有12天带薪年休假。当年没有休完的年休假最多可以结转5天，结转的天数须在次年3月31日前用完。"
    "连续休假超过5天的，应当至少提前10个工作日申请。配偶生育的男员工可以享受15天陪产假，须在孩子出生后三个月内一次或分两次休完。"
)
COMPANY = (
    "公司成立于2009年4月，主要产品是实验室水质分析仪。截至2025年12月31日，集团共有员工412人，其中苏州318人，布里斯托94人。"
    "本手册由人力资源部负责解释，每年12月修订一次。员工对条款有疑问的，可以写信至人力资源部，"
    "人力资源经理许静怡会在3个工作日内答复。"
)
ACCOUNTS = (
    "每人使用一个个人账号，禁止共用账号。登录密码的长度不得少于14个字符，并且不得与外部网站的密码相同。"
    "访问邮箱、VPN 和源代码服务器必须使用多因素认证。连续五次登录失败的账号会被锁定30分钟。"
)
TRADITIONAL = (
    "因應設備更新，本公司將於2026年4月18日停機維護。停機期間無法使用線上報修系統。報修請於上班時間致電客戶服務部，"
    "電話專線由三位同仁輪值。"
)

S, U = ("supported",), ("unsupported",)
W = ("supported", "weak")
"""At least not thrown out: said loosely."""

CASES: list[tuple[str, str, tuple[Verdict, ...]]] = [
    # English on English
    (PLACING, "The bench must be able to carry at least 30 kg.", W),
    (PLACING, "Leave at least 15 cm of free space behind the X-200.", S),
    (PLACING, "Leave at least fifteen cm of free space behind the X-200 for the cooling fan.", S),
    (PLACING, "Leave at least 25 cm of free space behind the X-200.", U),
    (PLACING, "Leave at least 15 mm of free space behind the X-200.", U),
    (PLACING, "Leave at least 15 cm of free space behind the X-300.", U),
    (PLACING, "Leave at most 15 cm of free space behind the X-200.", U),
    (PLACING, "Keep it out of direct sunlight and at least 2 m away from ovens.", S),
    (PLACING, "Do not keep it out of direct sunlight and at least 2 m away from ovens.", U),
    (PLACING, "The room should be between 10 and 35 °C.", S),
    (PLACING, "The room should be between 10 and 45 °C.", U),
    (PLACING, "The room should be between 10 and 35 °F.", U),
    (PLACING, "The relative humidity should be 20% to 80%.", W),
    (PLACING, "The standard warranty of the analyser is 24 months from the date of delivery.", U),
    (CLEANING, "Clean the flow path once a week with cleaning solution CB-2050.", S),
    (CLEANING, "Clean the flow path once a month with cleaning solution CB-2051.", U),
    (CLEANING, "Cleaning the cell takes 12 minutes and is followed by two rinses with deionised water.", W),
    (CLEANING, "Cleaning the cell takes 20 minutes and is followed by two rinses with deionised water.", U),
    (CLEANING, "Do not use acetone, because it clouds the window of the measuring cell.", S),
    (CLEANING, "Acetone must not be used because it clouds the measuring cell's window.", W),
    (CLEANING, "Use acetone, because it clouds the window of the measuring cell.", U),
    (CLEANING, "Wipe the housing with a cloth dampened with water or 70 percent isopropanol.", S),
    (CLEANING, "Wipe the housing with a cloth dampened with water or seventy per cent isopropanol.", S),
    (CLEANING, "Wipe the housing with a cloth dampened with water or 70 ‰ isopropanol.", U),
    (WARRANTY, "The standard warranty of the X-200 is 24 months from the date of delivery.", S),
    (WARRANTY, "The standard warranty of the X-200 is 24 weeks from the date of delivery.", U),
    (WARRANTY, "The standard warranty of the X-200 is 36 months from the date of delivery.", U),
    (WARRANTY, "Customers who register online within 30 days of delivery receive six extra months of warranty.", S),
    (WARRANTY, "Customers who register online within 30 days of delivery receive 6 extra months of warranty.", S),
    (WARRANTY, "Customers who register online within 30 days of delivery receive nine extra months of warranty.", U),
    (WARRANTY, "The S-40 autosampler can be extended in this way.", U),
    (WARRANTY, "CarePlus costs GBP 390 per year for an X-200 in the United Kingdom.", W),
    (WARRANTY, "CarePlus costs EUR 390 per year for an X-200 in the United Kingdom.", U),
    (WARRANTY, "CarePlus in Germany is GBP 390 per year for an X-200.", U),
    (WARRANTY, "GoldCare in the United Kingdom is GBP 390 per year for an X-200.", U),
    # Chinese on Chinese
    (PROBATION, "一般岗位的试用期为3个月。", S),
    (PROBATION, "一般岗位的试用期为三个月。", S),
    (PROBATION, "一般岗位的试用期为4个月。", U),
    (PROBATION, "一般岗位的试用期为3年。", U),
    (PROBATION, "研发岗位的试用期是6个月。", W),
    (PROBATION, "试用期工资不低于约定工资的百分之九十。", S),
    (PROBATION, "试用期工资不低于约定工资的80%。", U),
    (PROBATION, "试用期工资不低于约定工资的90‰。", U),
    (PROBATION, "直属主管应当在试用期届满前10个工作日完成转正评估。", S),
    (PROBATION, "直属主管不应当在试用期届满前10个工作日完成转正评估。", U),
    (PROBATION, "直属主管应当在试用期届满后10个工作日完成转正评估，评估分为三种结论。", W),
    (PROBATION, "公司每月15日发放上个月的工资。", U),
    (HOLIDAYS, "服务满五年、不满十年的员工每年有12天带薪年休假。", S),
    (HOLIDAYS, "服务满5年、不满10年的员工每年享有十二天带薪年休假。", S),
    (HOLIDAYS, "服务满五年、不满十年的员工每年有15天带薪年休假。", U),
    (HOLIDAYS, "没有休完的年休假最多可以结转5天，须在次年3月31日前用完。", S),
    (HOLIDAYS, "没有休完的年休假最多可以结转5天，须在次年4月30日前用完。", U),
    (HOLIDAYS, "没有休完的年休假不可以结转5天。", U),
    (HOLIDAYS, "没有休完的年休假至少可以结转5天。", U),
    (HOLIDAYS, "配偶生育的男员工可以享受15天陪产假。", S),
    (HOLIDAYS, "配偶生育的男员工可以享受15周陪产假。", U),
    (COMPANY, "公司成立于2009年4月。", S),
    (COMPANY, "公司成立于二〇〇九年四月。", S),
    (COMPANY, "公司成立于2009年5月。", U),
    (COMPANY, "公司成立于2019年4月。", U),
    (COMPANY, "截至2025-12-31，集团共有员工412人。", S),
    (COMPANY, "截至2025年12月31日，集团共有员工318人。", U),
    (COMPANY, "苏州有员工318人，布里斯托有94人。", S),
    (COMPANY, "人力资源经理许静怡会在3个工作日内答复。", S),
    (COMPANY, "人力资源经理沈知远会在3个工作日内答复。", U),
    (COMPANY, "本手册由财务部负责解释，每年12月修订一次。", U),
    (ACCOUNTS, "禁止共用账号。", S),
    (ACCOUNTS, "可以共用账号。", U),
    (ACCOUNTS, "登录密码的长度不得少于14个字符。", S),
    (ACCOUNTS, "登录密码的长度不得少于8个字符。", U),
    (ACCOUNTS, "连续5次登录失败的账号会被锁定30分钟。", S),
    (ACCOUNTS, "连续5次登录失败的账号会被锁定30小时。", U),
    (ACCOUNTS, "访问邮箱必须使用多因素认证。", W),
    (TRADITIONAL, "本公司将于2026年4月18日停机维护。", S),
    (TRADITIONAL, "本公司将于2026年4月19日停机维护。", U),
    # Chinese on English
    (PLACING, "X-200 后面至少要留出15厘米的空间，以便冷却风扇吸入空气。", W),
    (PLACING, "X-200 后面至少要留出25厘米的空间，以便冷却风扇吸入空气。", U),
    (PLACING, "X-200 后面至少要留出15英寸的空间，以便冷却风扇吸入空气。", U),
    (PLACING, "房间温度应在10至35摄氏度之间，相对湿度为百分之二十至百分之八十。", W),
    (PLACING, "房间温度应在10至35华氏度之间，相对湿度为20%至80%。", U),
    (CLEANING, "不要使用丙酮，因为它会使测量池的窗口变得模糊。", W),
    (WARRANTY, "X-200 和 X-100 分析仪的标准保修期为自交货之日起24个月。", W),
    (WARRANTY, "X-200 和 X-100 分析仪的标准保修期为自交货之日起36个月。", U),
    (WARRANTY, "X-200 和 X-100 分析仪的标准保修期为自交货之日起24天。", U),
    (WARRANTY, "在交货后30天内在线注册的客户可免费获得额外六个月的保修。", W),
    (WARRANTY, "公司在每月15日发放上个月的工资。", U),
    # English on Chinese
    (PROBATION, "The probation period is 3 months for general positions and 6 months for research positions.", W),
    (PROBATION, "The probation period is 5 months for general positions and 6 months for research positions.", U),
    (PROBATION, "The probation period is 3 weeks for general positions and 6 weeks for research positions.", U),
    (PROBATION, "Pay during probation is at least 90% of the agreed salary.", W),
    (HOLIDAYS, "Employees with five to ten years of service have 12 days of paid annual leave every year.", W),
    (HOLIDAYS, "Employees with five to ten years of service have 18 days of paid annual leave every year.", U),
    (COMPANY, "The company was founded in April 2009 and makes laboratory water-quality analysers.", W),
    (COMPANY, "The company was founded in May 2009 and makes laboratory water-quality analysers.", U),
    (COMPANY, "On December 31, 2025 the group had 412 employees, 318 in Suzhou and 94 in Bristol.", W),
    (COMPANY, "On December 31, 2024 the group had 412 employees, 318 in Suzhou and 94 in Bristol.", U),
    (ACCOUNTS, "An account is locked for 30 minutes after five failed log-ins.", W),
    (ACCOUNTS, "An account is locked for 30 hours after five failed log-ins.", U),
    (ACCOUNTS, "The analyser must be cleaned once a week with a special solution.", U),
]


@pytest.fixture(scope="module")
def verifier(embedder: UseMultilingual) -> Verifier:
    return Verifier(embedder)


@pytest.mark.parametrize(("text", "sentence", "allowed"), CASES, ids=lambda value: str(value)[:60])
def test_a_sentence_gets_the_verdict_a_reader_would_give(
    verifier: Verifier, text: str, sentence: str, allowed: tuple[Verdict, ...]
) -> None:
    support = verifier.check(sentence, _read(verifier, text, sentence), [0])
    assert support is not None
    assert support.verdict in allowed, support
    assert support.verdict == "unsupported" or not support.faults


def _read(verifier: Verifier, text: str, sentence: str) -> Read:
    passage = Passage(
        chunk_id=1, knowledge_base_id="kb", document_id="d", document_version=1, filename="handbook.md",
        media_type="text/markdown", page=None, headings=(), language=language_of(text), char_start=0,
        char_end=len(text), text=text,
    )  # fmt: skip
    return verifier.read([passage], language_of(sentence))


@pytest.mark.parametrize("text", [PLACING, CLEANING, WARRANTY, PROBATION, HOLIDAYS, COMPANY, ACCOUNTS])
def test_the_passages_are_those_of_the_sample_documents(text: str) -> None:
    documents = Path(__file__).parent.parent / "samples" / "documents"
    names = ("product-manual-x200.md", "information-security-policy.md", "员工手册.md", "warranty-terms.txt")
    written = "".join((documents / name).read_text("utf-8") for name in names)
    assert text[:30] in written
