"""Traditional and simplified Chinese: asked in one script, answered and verified out of documents in the other."""

from __future__ import annotations

import opencc
import pytest
from calls import ask, ingest
from fastapi.testclient import TestClient

from rag_service.answering.verification.verifier import Verifier
from rag_service.inference.use_multilingual import UseMultilingual
from rag_service.text import language_of
from rag_service.types import Passage

TRADITIONAL = """軟體授權管理辦法

軟體授權費用由總公司資訊處統一負擔。各分公司不得自行採購軟體。

離職員工應於三日內繳回筆記型電腦與門禁卡。遺失門禁卡者須支付工本費兩百元。

衞生間於每週五下午清潔。"""
ASKED = {
    "软体授权费用由谁负担？": "軟體授權費用由總公司資訊處統一負擔",
    "离职员工应在几日内缴回门禁卡？": "離職員工應於三日內繳回筆記型電腦與門禁卡",
    "遗失门禁卡须支付多少工本费？": "遺失門禁卡者須支付工本費兩百元",
}
SIMPLIFIED = opencc.OpenCC("t2s").convert(TRADITIONAL)


@pytest.mark.parametrize("written", ["traditional", "simplified"])
def test_a_question_in_one_script_is_answered_by_an_exact_quote_in_the_other(api: TestClient, written: str) -> None:
    kb = str(api.post("/v1/knowledge-bases", json={"name": written}).json()["id"])
    ingest(api, kb, {"rules.txt": TRADITIONAL if written == "traditional" else SIMPLIFIED})
    for simplified_question, said in ASKED.items():
        question, quote = simplified_question, said
        if written == "simplified":
            question = opencc.OpenCC("s2t").convert(question)
            quote = opencc.OpenCC("t2s").convert(said)
        answer = ask(api, kb, question)
        assert answer["outcome"] == "answered", question
        quotes = [citation["quote"] for citation in answer["citations"]]
        assert any(quote in one for one in quotes), quotes
        assert answer["citations"][0]["verdict"] == "supported"


CLAIMS = {
    "软体授权费用由总公司资讯处统一负担。": "supported",
    "离职员工应于三日内缴回笔记型电脑与门禁卡。": "supported",
    "离职员工应于九日内缴回笔记型电脑与门禁卡。": "unsupported",
    "遗失门禁卡者须支付工本费三百元。": "unsupported",
    "各分公司可以自行采购软体。": "unsupported",
}


@pytest.mark.parametrize(("claim", "verdict"), CLAIMS.items())
def test_a_claim_is_judged_alike_in_either_script(embedder: UseMultilingual, claim: str, verdict: str) -> None:
    for text in (TRADITIONAL, SIMPLIFIED):
        assert verdict_of(embedder, claim, text) == verdict


def verdict_of(embedder: UseMultilingual, claim: str, text: str) -> str | None:
    passage = Passage(
        chunk_id=1, knowledge_base_id="kb", document_id="d", document_version=1, filename="rules.txt",
        media_type="text/plain", page=None, headings=(), language="zh", char_start=0, char_end=len(text), text=text,
    )  # fmt: skip
    verifier = Verifier(embedder)
    support = verifier.check(claim, verifier.read([passage], language_of(claim)), [0])
    return support.verdict if support else None
