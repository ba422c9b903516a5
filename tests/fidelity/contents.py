"""What the documents of the fidelity set say: written by hand, block by block, before any of them was made.

A document is its blocks in reading order. `plain` is the text a reader reads aloud: what a parser must bring back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """`numbered` items say their number as `1.`."""

    texts: tuple[str, ...]
    numbered: bool = False


@dataclass(frozen=True)
class Rows:
    """A table; the first row is its header."""

    cells: tuple[tuple[str, ...], ...]


Part = Heading | Paragraph | Items | Rows
Content = tuple[Part, ...]


def plain(content: Sequence[Part]) -> str:
    lines: list[str] = []
    for part in content:
        match part:
            case Heading(text=text) | Paragraph(text=text):
                lines.append(text)
            case Items(texts=texts, numbered=numbered):
                lines += [f"{n}. {text}" if numbered else text for n, text in enumerate(texts, start=1)]
            case Rows(cells=cells):
                lines += [" ".join(row) for row in cells]
    return "\n".join(lines)


def tables(content: Sequence[Part]) -> list[Rows]:
    return [part for part in content if isinstance(part, Rows)]


HANDBOOK_ZH: Content = (
    Heading(1, "差旅与报销管理办法"),
    Paragraph(
        "为规范员工差旅行为、控制差旅成本，根据公司财务制度制定本办法。本办法自2026年3月1日起施行，"
        "原《出差管理规定（试行）》同时废止。"
    ),
    Heading(2, "适用范围"),
    Paragraph(
        "本办法适用于公司全体正式员工、试用期员工以及劳务派遣人员。外聘专家的差旅费用，由邀请部门参照本办法执行，"
        "并在预算中单独列示。"
    ),
    Heading(2, "住宿标准"),
    Paragraph("住宿费实行限额管理，在限额之内凭发票据实报销，超出部分由个人承担。各类城市的限额见下表："),
    Rows(
        (
            ("城市类别", "总监及以上", "经理", "其他员工"),
            ("一类城市（北京、上海、广州、深圳）", "800元", "600元", "450元"),
            ("二类城市（省会及计划单列市）", "650元", "500元", "380元"),
            ("其他城市", "500元", "400元", "300元"),
        )
    ),
    Heading(2, "审批流程"),
    Paragraph("出差申请应当至少提前三个工作日提交，并按下列顺序办理："),
    Items(
        (
            "申请人在系统中填写《出差申请单》，说明事由、地点、日期和预算；",
            "直属主管在一个工作日内审批，金额超过5,000元的还须部门总监审批；",
            "行政部统一预订机票和酒店，员工不得自行购买后再补办手续；",
            "返回后十个工作日内提交报销单，逾期未提交的视为放弃。",
        ),
        numbered=True,
    ),
    Heading(2, "特别规定"),
    Paragraph("有下列情形之一的，可以突破限额，但须事先取得总经理书面同意："),
    Items(("陪同重要客户；", "参加由主办方指定酒店的会议；", "因自然灾害、航班取消等不可抗力滞留当地。")),
    Paragraph("“据实报销”是指以税务机关认可的电子发票为准；发票抬头必须是公司全称，税号为91310000MA1FL0X7QK。"),
)

REPORT_EN: Content = (
    Heading(1, "Pump Station Maintenance Report"),
    Paragraph(
        "This report covers the scheduled maintenance of pump station No. 7 between 3 and 14 March 2026. The work was "
        "carried out by the regional team together with two engineers of the manufacturer, and all three pumps were "
        "returned to service on time."
    ),
    Heading(2, "Findings"),
    Paragraph(
        "Pump A showed a vibration level of 7.1 mm/s at the drive end, which is above the limit of 4.5 mm/s set by "
        "ISO 10816-3. The cause was a worn coupling; after replacement the level fell to 2.3 mm/s. Pump B was within "
        "limits. Pump C had lost about 12% of its nominal flow because of a partly blocked strainer."
    ),
    Rows(
        (
            ("Pump", "Vibration before", "Vibration after", "Flow", "Action"),
            ("A", "7.1 mm/s", "2.3 mm/s", "418 m3/h", "Coupling replaced"),
            ("B", "3.2 mm/s", "3.1 mm/s", "421 m3/h", "None"),
            ("C", "2.9 mm/s", "2.8 mm/s", "369 m3/h", "Strainer cleaned"),
        )
    ),
    Heading(2, "Recommendations"),
    Paragraph("We recommend the following steps before the next inspection:"),
    Items(
        (
            "Keep one spare coupling (part X-200/B) in the local store.",
            "Read the vibration sensors once a week and record the values in the logbook.",
            "Clean the strainers every six months instead of once a year.",
        )
    ),
    Heading(2, "Costs"),
    Paragraph(
        'Parts cost EUR 1,284.50 and labour EUR 3,960.00; the total of EUR 5,244.50 is 8% below the estimate. "No '
        'further work is needed before September," the lead engineer concluded, "provided the strainers are kept '
        'clean."'
    ),
)

CONTRACT_ZH: Content = (
    Heading(1, "设备采购合同"),
    Paragraph("甲方（买方）：江城水务有限公司"),
    Paragraph("乙方（卖方）：北辰机械股份有限公司"),
    Paragraph("甲乙双方经友好协商，就甲方向乙方采购离心泵一事，订立本合同。"),
    Heading(2, "第一条 标的物"),
    Paragraph("1.1 乙方向甲方供应X-200型离心泵六台，单价人民币128,000元，合同总价人民币768,000元（含13%增值税）。"),
    Paragraph("1.2 设备应当符合GB/T 5657-2013的要求，并附出厂检验报告、合格证和中文使用说明书各一份。"),
    Heading(2, "第二条 交货与验收"),
    Paragraph("2.1 乙方应于2026年6月30日前将全部设备运抵甲方指定地点，运输及保险费用由乙方承担。"),
    Paragraph("2.2 甲方应在收货后十五日内完成验收。验收不合格的，乙方应在接到通知后七日内更换。"),
    Heading(2, "第三条 付款方式"),
    Rows(
        (
            ("期次", "付款条件", "比例", "金额"),
            ("首付款", "合同生效后十日内", "30%", "230,400元"),
            ("到货款", "全部设备到货后十日内", "50%", "384,000元"),
            ("质保金", "质保期满后十日内", "20%", "153,600元"),
        )
    ),
    Heading(2, "第四条 违约责任"),
    Paragraph("乙方逾期交货的，每逾期一日应按合同总价的千分之一支付违约金，但违约金总额不超过合同总价的百分之十。"),
)

NOTICE_HANT: Content = (
    Heading(1, "停車場使用須知"),
    Paragraph("本停車場開放時間為每日上午六時至晚上十一時，逾時未離場的車輛將加收過夜費用新臺幣三百元。"),
    Paragraph("車輛進出請依照指示牌減速慢行，時速不得超過十公里；場內嚴禁鳴按喇叭、滯留閒聊或清洗車輛。"),
    Rows(
        (
            ("車種", "每小時", "當日上限"),
            ("小型車", "四十元", "二百四十元"),
            ("機車", "十元", "五十元"),
            ("大型車", "八十元", "五百元"),
        )
    ),
    Paragraph("身心障礙者憑證件可享半價優惠，遺失停車票卡者應補繳當日上限費用，並由管理員查驗行車執照後放行。"),
)

MANUAL_MIXED: Content = (
    Heading(1, "X-200 离心泵快速指南 Quick Guide"),
    Paragraph("X-200 采用 380V/50Hz 三相电源，额定功率 7.5kW，出厂默认的 Modbus 地址为 0x1A，波特率 9600。"),
    Paragraph(
        "Before the first start, open the inlet valve fully and keep the outlet valve at one quarter. "
        "首次启动前必须排气，否则机械密封会在 30 秒内损坏。"
    ),
    Rows(
        (
            ("代码 Code", "含义 Meaning", "处理 Action"),
            ("E01", "过载 Overload", "检查电流，必要时复位 Reset after checking the current"),
            ("E02", "缺相 Phase loss", "检查接线 Check the wiring"),
            ("E07", "干转 Dry running", "停机并补水 Stop and refill"),
        )
    ),
    Paragraph("若故障代码反复出现，请拨打 400-820-1234 或发邮件至 service@example.com，并注明机身序列号。"),
)

MINUTES_EN: Content = (
    Heading(1, "Minutes of the Safety Committee"),
    Paragraph("Present: M. Okafor (chair), L. Brandt, J. Sørensen, Wang Lei. Apologies: none."),
    Heading(2, "1. Fire drill"),
    Paragraph(
        "The drill of 12 January took 4 minutes and 35 seconds, which is 25 seconds longer than last year. The east "
        "staircase was blocked by deliveries; L. Brandt will move the delivery point by the end of February."
    ),
    Heading(2, "2. Near misses"),
    Paragraph("Two near misses were reported since the last meeting:"),
    Items(
        (
            "A forklift reversed without a signal in hall 3 on 20 January.",
            "A ladder without a valid inspection tag was used in the archive.",
        ),
        numbered=True,
    ),
    Heading(2, "3. Next meeting"),
    Paragraph("The committee meets again on Thursday, 9 April 2026, at 10:30 in room B-114."),
)

LONG_ZH: Content = (
    Heading(1, "供应商名录"),
    *(
        part
        for number in range(1, 13)
        for part in (
            Heading(2, f"第{number}组 供应商"),
            Paragraph(
                f"本组共有{number + 20}家供应商，评审得分由采购部、质检部和使用部门共同给出，"
                f"有效期至2027年{number}月底。"
                "得分低于六十分的供应商列入观察名单，连续两年列入观察名单的，取消供货资格，三年内不得重新申请。"
                "供应商对得分有异议的，可以在公示之日起五个工作日内向采购部提出书面申诉，并附相关证明材料。"
            ),
            Rows(
                (
                    ("编号", "供应商", "得分"),
                    *(
                        (f"S{number:02d}-{row:02d}", f"江城第{number * 7 + row}机械厂", str(60 + (number * row) % 40))
                        for row in range(1, 7)
                    ),
                )
            ),
        )
    ),
)

Slides = tuple[tuple[str, tuple[str, ...]], ...]
Sheets = tuple[tuple[str, tuple[tuple[str | int | float, ...], ...]], ...]

SLIDES_ZH: Slides = (
    (
        "开机前检查",
        ("确认进水阀全开，出水阀开四分之一", "检查润滑油位，应在刻度线之间", "点动电机，确认转向与箭头一致"),
    ),
    ("常见故障", ("流量不足：清洗滤网", "轴承发热超过七十五摄氏度：立即停机", "机械密封泄漏每分钟超过十滴：更换密封")),
    ("记录要求", ("每班记录一次电流、压力和振动", "记录保存三年，由班长签字")),
)
SLIDES_EN: Slides = (
    (
        "Results",
        ("Revenue grew 14% to EUR 3.2 million", "Churn fell from 5.1% to 3.8%", "Two new regions opened in May"),
    ),
    ("Risks", ("Delivery times of sensors remain above 20 weeks", "The framework contract ends on 30 November 2026")),
    ("Decisions", ("Hire two service engineers", "Renew the framework contract before October")),
)
STOCK_ZH: Sheets = (
    ("库存", (("物料编码", "名称", "数量", "单价", "仓位"), ("B-1001", "离心泵X-200", 6, 128000, "一号库A区"),
              ("B-1002", "联轴器", 24, 860.5, "一号库B区"), ("C-2001", "机械密封（石墨）", 118, 315, "二号库"))),
    ("领用记录", (("日期", "物料编码", "领用人", "数量"), ("2026-03-02", "B-1002", "张伟", 2),
                  ("2026-03-05", "C-2001", "李娜", 6), ("2026-03-11", "C-2001", "王磊", 4))),
)  # fmt: skip
BUDGET_EN: Sheets = (
    ("Budget", (("Item", "Planned", "Spent", "Owner"), ("Spare parts", 12000, 10844.5, "Maintenance"),
                ("Training", 4500, 4725, "HR"), ("Software licences", 8300, 8300, "IT"))),
    ("Notes", (("Item", "Remark"), ("Training", "One more course than planned"),
               ("Spare parts", "Coupling for pump A is included"))),
)  # fmt: skip
