"""Words that are never what a text is about, for `topics`: function words, words of conversation, attributes.

An attribute (price, 原因) is what is asked about something: a question that names nothing else names nothing.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


CHINESE_FUNCTION_WORDS = _words("""
    这个 那个 这些 那些 这里 那里 这儿 那儿 这样 那样 这么 那么 这种 那种 这是 那是 这 那 它们 他们 她们 它 他 她
    其中 其他 其它 其 该 此 本 上述 前者 后者 自己 别的 另外 我们 你们 咱们 咱 我 你 您 的 了 吗 呢 吧 啊 呀 哦 噢
    嗯 哈 嘛 么 啦 哇 哎 唉 哟 诶 是 在 有 没有 没 不 也 都 就 还 很 太 与 及 以及 或 或者 而且 但是 但 不过 因为
    所以 如果 还是 已经 可是 然后 位于 属于 包括 叫做 叫 称为 作为 成为 进行 关于 对于 根据 为了 由于 通过 之一 一个
    一种 一些 一座 一家 什么 怎么 怎样 怎么样 如何 为什么 为何 哪里 哪儿 哪个 哪些 哪位 哪年 哪天 哪 谁 多少 多久
    多长 多大 多高 多远 多贵 多 几个 几点 几 啥时候 啥 咋样 咋 何时 何地 何 是不是 有没有 是否 能不能 能否 可否 可以
    要不要 想要 需要 应该 可能 必须
""")
CHINESE_CONVERSATION = _words("""
    知道 了解 瞭解 清楚 听说过 听说 听过 介绍 告诉 请问 你好 您好 好的 谢谢 不用 帮我 帮忙 查一下 查查 看看 说说 讲讲
    一下 确实 当然 觉得 认为 感觉 喜欢 推荐 建议 希望 打算 准备 去过 来过 玩过 看过 值得 不错 特别 非常 真的 比较 挺
    肯定 一定 大概 大约 左右 现在 目前 以前 之前 以后 之后 最近 今天 的话 对对 没问题 太好了 来着 好像 差不多 适合
    能玩 详细 具体 通常 咨询 便宜 小时
""")
CHINESE_ATTRIBUTES = _words("""
    地址 位置 地点 地方 电话 号码 联系方式 时间 时候 时长 日期 年份 价格 价钱 价位 费用 票价 门票 钱 收费 免费 开放
    营业 开门 关门 景点 景区 游玩 周边 附近 旁边 边上 周围 里面 外面 大小 面积 高度 长度 重量 年龄 身高 体重 作者
    导演 主演 演员 类型 种类 评分 评价 名字 名称 别名 简介 原因 理由 方法 步骤 流程 区别 例子 优点 缺点 特点 作用
    意思 内容 信息 情况 问题 结果 好处 坏处 定义 历史 背景 生日 出生 国籍 职业 代表作 版本 颜色 数量 人数 规模
""")
ENGLISH_FUNCTION_WORDS = _words("""
    a an the this that these those it its itself they them their theirs he him his she her hers we us our you your
    yours i me my mine one ones some any each every all both other others another such same is are was were be been
    being am do does did done doing have has had having can could will would shall should may might must isn't
    aren't wasn't weren't don't doesn't didn't won't wouldn't can't cannot couldn't i'm i've i'd it's that's there's
    they're you're who whom whose what which when where why how and or but nor so if then than as at by for from in
    into of off on onto out over to up with without about above across after against along among around before
    behind below beneath beside between beyond during except inside like near since through throughout till toward
    under until upon via within per not no yes also too very just only even still yet already again ever never now
    here there more most less least much many few lot lots really quite rather however because while whether though
    although instead else
""")
ENGLISH_CONVERSATION = _words("""
    ok okay well please thanks thank sorry tell know mean think say said says see let get got give make made go
    going come want need wonder wondering interesting great nice good sure speaking talking regarding concerning
    actually anything something nothing everything someone anyone hi hello hey provide mentioned find found include
    includes specific provided documents document information happen happens happened start started begin began end
    ended use used using
""")
ENGLISH_ATTRIBUTES = _words("""
    time date year day price cost fee fees address phone number name names author director size length height weight
    age population meaning definition purpose reason reasons example examples difference differences benefit
    benefits advantage advantages disadvantage disadvantages type types kind kinds way ways method methods step
    steps process place location origin effect effects impact cause causes role feature features requirement
    requirements result results solution solutions value work works old big long far often first last best main
    common different important possible part parts people thing things detail details
""")
