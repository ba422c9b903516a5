from __future__ import annotations

import asyncio
import threading

import pytest

from rag_service.answering.question import Question
from rag_service.bootstrap import Service
from rag_service.errors import InvalidInput, NotFound
from rag_service.types import Answer, Citation, PassageFilter, Retrieval, Usage

pytest.importorskip("langchain_core", reason="LangChain's core comes with the extra [langchain]")

from conftest import TENANT, Shelf
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import Runnable, RunnableLambda, RunnableParallel, RunnablePassthrough

from rag_service.langchain import Asked, Reply, YoujuRetriever, answering_chain

LIGHTHOUSE = "# Lighthouse\n\nThe lighthouse keeper lights the lamp at half past seven every evening."
LEAVE = "# 员工手册\n\n员工每年享有十五天带薪年假，年假不能转到下一年。"


@pytest.fixture
def filled(shelf: Shelf) -> Shelf:
    shelf.put({"lighthouse.md": LIGHTHOUSE, "leave.md": LEAVE})
    return shelf


@pytest.fixture
def retriever(service: Service, filled: Shelf) -> YoujuRetriever:
    def retrieve(query: str) -> Retrieval:
        return service.retriever.retrieve(TENANT, [filled.kb], query, 8, PassageFilter())

    return YoujuRetriever(retrieve=retrieve)


@pytest.fixture
def chain(service: Service, filled: Shelf) -> Runnable[Asked, Reply]:
    def ask(question: str, conversation_id: str | None) -> Answer:
        return service.asker.ask(Question(TENANT, question, (filled.kb,), conversation_id))

    return answering_chain(ask)


def echo(question: str, conversation_id: str | None) -> Answer:
    """Answers with the question itself and cites one passage."""
    citation = Citation(1, "d", 2, "f.md", 7, None, ("A", "B"), 3, 9, "quoted", 0, 4, "supported", 0.5)
    return Answer(
        id="a", conversation_id=conversation_id or "new", query=question, outcome="answered", refusal=None,
        text=question, language="en", citations=(citation,), generator="echo", revision={}, usage=Usage(0, 0),
        timings_ms={}, prompt_sha256=None, created_at=0.0,
    )  # fmt: skip


def test_a_document_is_a_passage_and_says_where_it_stands(
    retriever: YoujuRetriever, filled: Shelf, service: Service
) -> None:
    best = retriever.invoke("When does the keeper light the lamp?")[0]
    where = best.metadata
    assert (where["filename"], where["document_id"]) == ("lighthouse.md", filled.document("lighthouse.md"))
    assert where["headings"] == ["Lighthouse"]
    assert where["char_end"] - where["char_start"] == len(best.page_content)
    assert best.page_content in LIGHTHOUSE
    assert best.id == where["chunk_id"]
    assert 0 < where["score"] <= 1


def test_documents_come_best_first_synchronously_and_not(retriever: YoujuRetriever) -> None:
    found = retriever.invoke("员工每年有多少天带薪年假？")
    scores = [document.metadata["score"] for document in found]
    assert found[0].metadata["filename"] == "leave.md"
    assert scores == sorted(scores, reverse=True)
    assert asyncio.run(retriever.ainvoke("员工每年有多少天带薪年假？")) == found
    assert retriever.batch(["员工每年有多少天带薪年假？"] * 2) == [found, found]


def test_a_prompt_before_the_chain_asks_its_last_message(chain: Runnable[Asked, Reply]) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "You speak like a pirate."), ("human", "When {what}?")])
    reply = (prompt | chain).invoke({"what": "does the keeper light the lamp"})
    assert reply["outcome"] == "answered"
    assert "half past seven" in reply["answer"]
    [citation] = reply["citations"]
    assert citation["filename"] == "lighthouse.md"
    assert citation["quote"] in LIGHTHOUSE
    assert (PromptTemplate.from_template("When {what}?") | answering_chain(echo)).invoke({"what": "x"})[
        "answer"
    ] == "When x?"


def test_the_chain_goes_on_to_the_next_step(chain: Runnable[Asked, Reply]) -> None:
    pipeline = chain | RunnableLambda(lambda reply: reply["answer"]) | StrOutputParser()
    assert "十五天" in pipeline.invoke("员工每年有多少天带薪年假？")


def test_retriever_and_chain_run_side_by_side(chain: Runnable[Asked, Reply], retriever: YoujuRetriever) -> None:
    both = RunnableParallel(reply=chain, documents=retriever).invoke("员工每年有多少天带薪年假？")
    shown = {document.metadata["chunk_id"] for document in both["documents"]}
    assert {citation["chunk_id"] for citation in both["reply"]["citations"]} <= shown
    assert both["reply"]["citations"]


def test_assigned_members_do_not_disturb(chain: Runnable[Asked, Reply], retriever: YoujuRetriever) -> None:
    context = RunnableLambda(lambda given: given["question"]) | retriever
    given = RunnablePassthrough.assign(context=context) | chain
    assert "十五天" in given.invoke({"question": "员工每年有多少天带薪年假？"})["answer"]


def test_a_conversation_goes_on_where_its_id_is_given(chain: Runnable[Asked, Reply]) -> None:
    first = chain.invoke("When does the keeper light the lamp?")
    same = chain.invoke({"question": "员工每年有多少天带薪年假？", "conversation_id": first["conversation_id"]})
    other = chain.invoke({"question": "员工每年有多少天带薪年假？"})
    assert same["conversation_id"] == first["conversation_id"] != other["conversation_id"]
    with pytest.raises(NotFound):
        chain.invoke(
            {"question": "员工每年有多少天带薪年假？", "conversation_id": "01890000-0000-7000-8000-000000000000"}
        )


def test_a_refusal_is_an_answer_without_citations(chain: Runnable[Asked, Reply]) -> None:
    reply = chain.invoke("What is the boiling point of tungsten?")
    assert (reply["outcome"], reply["citations"]) == ("refused", [])
    assert reply["answer"]


def test_batches_streams_and_event_loops_give_what_a_call_gives(chain: Runnable[Asked, Reply]) -> None:
    question = "When does the keeper light the lamp?"
    expected = chain.invoke(question)["answer"]

    async def ways() -> list[Reply]:
        streamed = [reply async for reply in chain.astream(question)]
        return [await chain.ainvoke(question), *await chain.abatch([question, question]), *streamed]

    replies = [*chain.batch([question, question]), *chain.stream(question), *asyncio.run(ways())]
    assert [reply["answer"] for reply in replies] == [expected] * 7


def test_asked_asynchronously_the_event_loop_goes_on() -> None:
    asking, go_on = threading.Event(), threading.Event()

    def ask(question: str, conversation_id: str | None) -> Answer:
        asking.set()
        assert go_on.wait(10)
        return echo(question, conversation_id)

    async def main() -> Reply:
        reply = asyncio.create_task(answering_chain(ask).ainvoke("q"))
        while not asking.is_set():
            await asyncio.sleep(0.01)
        go_on.set()
        return await reply

    assert asyncio.run(main())["answer"] == "q"


@pytest.mark.parametrize(
    "asked",
    [
        "q",
        HumanMessage("q"),
        {"question": "q"},
        {"question": HumanMessage("q")},
        {"question": "q", "conversation_id": None},
        {"question": PromptTemplate.from_template("{x}").invoke({"x": "q"})},
        ChatPromptTemplate.from_messages([SystemMessage("s"), HumanMessage("q")]).invoke({}),
    ],
)
def test_a_question_comes_in_many_forms(asked: Asked) -> None:
    reply = answering_chain(echo).invoke(asked)
    assert (reply["answer"], reply["conversation_id"]) == ("q", "new")
    assert reply["citations"][0]["chunk_id"] == "7"
    assert reply["citations"][0]["headings"] == ["A", "B"]


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "  ",
        {},
        {"query": "q"},
        {"question": 3},
        3,
        HumanMessage([{"type": "image_url", "image_url": {"url": "x"}}]),
    ],
)
def test_what_is_no_question_is_refused(asked: Asked) -> None:
    with pytest.raises(InvalidInput, match="question"):
        answering_chain(echo).invoke(asked)


def test_a_conversation_id_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="conversation_id"):
        answering_chain(echo).invoke({"question": "q", "conversation_id": 3})
