"""A question set in both languages, large enough that a broken retriever shows, and the documents it asks about.

Documents differ in a name and a figure and in nothing else, as those of real knowledge bases do, so that neither leg
finds the right one by itself every time. The long ones say what they are about at their beginning and are asked for
what stands at their end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

_FAMILIES = ("王", "李", "张", "刘", "陈")
_GIVEN = ("明华", "华明", "建国", "国建", "志强", "强志", "晓春", "春晓")
_NAMES = ("Kestrel", "Merlin", "Osprey", "Harrier", "Goshawk", "Falcon", "Buzzard")
_DEVICES = ("router", "switch", "projector", "printer", "scanner")
_FILLERS = (
    "Before it is switched on for the first time, the packing has to be removed and kept, because a device that is"
    " sent back has to be sent back in it.",
    "It stands on a level surface, away from heat and from water, with a hand's breadth of air on every side.",
    "The cable that comes with it is the only one to be used, and it is plugged in before anything else is.",
    "Dust is wiped off with a dry cloth once a week, never with anything that runs or sprays.",
    "Whoever moves it unplugs it first, waits until all lights are out, and carries it with both hands.",
    "At night it may be left on, as long as somebody is in the building who knows where the fuses are.",
    "Its lights say what it does: green means that all is well, yellow that it waits, red that it needs help.",
    "Every second year it is opened by somebody who has been shown how, and what is worn is replaced.",
    "A noise that was not there before is written down with the hour and told to whoever is on duty that week.",
    "Small parts are kept in the drawer below, sorted by colour, and counted again when the shift is over.",
    "Nobody leans on it, puts cups on it or hangs coats over it, and children are kept at some distance.",
    "Its doors close by themselves; they are not pushed, and what is caught between them is pulled out slowly.",
)


_RULES = (
    ("Bicycles are parked behind the building.", "自行车停在哪里？"),
    ("The canteen serves lunch from noon to two.", "食堂几点供应午餐？"),
    ("Visitors wear a red badge at all times.", "访客要戴什么颜色的胸牌？"),
    ("Lost keys are reported to the porter.", "钥匙丢了向谁报告？"),
    ("Smoking is allowed on the roof only.", "哪里可以抽烟？"),
    ("The library lends books for three weeks.", "图书馆的书可以借多久？"),
    ("Broken windows are repaired by the landlord.", "窗户坏了由谁修理？"),
    ("Dogs have to stay outside of the laboratory.", "狗可以进实验室吗？"),
    ("The lift must not be used in case of fire.", "着火时能坐电梯吗？"),
    ("Printers are refilled with paper every Monday.", "打印机什么时候加纸？"),
    ("Interns are paid at the end of each month.", "实习生什么时候发工资？"),
    ("The swimming pool closes at nine in the evening.", "游泳池晚上几点关门？"),
    ("Parcels are collected at the front desk.", "包裹在哪里领取？"),
    ("Old batteries go into the green box.", "旧电池扔进什么颜色的箱子？"),
    ("Meeting rooms are booked by telephone.", "会议室怎么预订？"),
    ("The gardener waters the flowers twice a day.", "园丁一天浇几次花？"),
    ("Drivers fill up the tank before they return a car.", "司机还车之前要做什么？"),
    ("Children may come along on Fridays.", "星期几可以带孩子来？"),
    ("Coffee is free, tea costs one euro.", "咖啡要钱吗？"),
    ("The doctor comes to the office in spring.", "医生什么季节来办公室？"),
    ("Passwords are changed every ninety days.", "密码多久换一次？"),
    ("Snow is cleared by the night watch.", "谁负责扫雪？"),
    ("The piano in the hall is tuned in autumn.", "大厅里的钢琴什么时候调音？"),
    ("Photographs of the machines are forbidden.", "可以给机器拍照吗？"),
    ("Umbrellas are lent out at the entrance.", "雨伞在哪里借？"),
    ("The choir rehearses in the basement.", "合唱团在哪里排练？"),
    ("Farewell gifts may cost up to fifty euros.", "送别礼物最多可以花多少钱？"),
    ("Milk is delivered before sunrise.", "牛奶什么时候送到？"),
    ("The museum is visited on the first day of training.", "培训第一天参观什么地方？"),
    ("Helmets are worn in the warehouse.", "在仓库里要戴什么？"),
)
_YEARS = ("2019", "2020", "2021", "2022", "2023")


@dataclass(frozen=True)
class EvalSet:
    """`documents` by file name; `questions` as the lines of a set."""

    documents: dict[str, str] = field(default_factory=dict)
    questions: list[dict[str, Any]] = field(default_factory=list)

    def add(self, name: str, text: str, question: str, answer: str, **members: Any) -> None:
        self.documents[f"{name}.txt"] = text
        row = {"id": name, "text": question, "relevant": [f"{name}.txt"], "answers": [answer], **members}
        self.questions.append(row)


def short_set() -> EvalSet:
    """40 Chinese and 35 English documents of two sentences, one question each."""
    made = EvalSet()
    for number, (family, given) in enumerate(product(_FAMILIES, _GIVEN)):
        extension = f"{4100 + 7 * number}"
        text = f"{family}{given}在行政部工作，分机号码是{extension}。急事请直接拨打，其他事请发邮件。"
        made.add(f"zh-{number}", text, f"{family}{given}的分机号码是多少？", extension, lang="zh")
    for number, (name, device) in enumerate(product(_NAMES, _DEVICES)):
        months = f"{number + 6} months"
        text = f"The {name} {device} has a warranty of {months} from delivery. Repairs go through the service desk."
        made.add(f"en-{number}", text, f"How long is the warranty of the {name} {device}?", months, lang="en")
    return made


def cross_set() -> EvalSet:
    """30 English rules, each asked for in Chinese. The year of a question is that of six rules, none of them the right
    one: the only word that matches leads astray, as matching words across languages mostly do."""
    made = EvalSet()
    for number, (rule, question) in enumerate(_RULES):
        text = f"{rule} This rule dates from {_YEARS[number % len(_YEARS)]}."
        asked = f"按照{_YEARS[(number + 1) % len(_YEARS)]}年的规定，{question}"
        made.add(f"rule-{number}", text, asked, rule, lang="zh")
    return made


def long_set() -> EvalSet:
    """35 documents that just fit into one chunk, each asked for its last sentence."""
    made = EvalSet()
    for number, (name, device) in enumerate(product(_NAMES, _DEVICES)):
        last = f"Its warranty ends {number + 6} months after delivery."
        # Turned, so that no two documents have the same second half.
        fillers = [_FILLERS[(number + step) % len(_FILLERS)] for step in range(len(_FILLERS))]
        text = " ".join([f"These are the instructions for the {name} {device}.", *fillers, last])
        question = f"When does the warranty of the {name} {device} end?"
        made.add(f"long-{number}", text, question, f"{number + 6} months", lang="en", refs=[last])
    return made
