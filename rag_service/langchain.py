"""Youju inside LangChain pipelines: a retriever, and a chain that answers. Needs the extra [langchain].

    retriever = YoujuRetriever(retrieve=lambda query: retriever.retrieve(tenant, bases, query, 8, PassageFilter()))
    chain = answering_chain(lambda query, conversation: asker.ask(Question(tenant, query, bases, conversation)))
    pipeline = prompt | chain

Both take what they call as an argument, so they work over a service in this process and over anything else that
answers with a Retrieval or an Answer. LangChain runs them in a thread where it is called asynchronously.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypedDict

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda

from rag_service.errors import InvalidInput
from rag_service.types import Answer, Citation, Outcome, RankedPassage, Retrieval


class YoujuRetriever(BaseRetriever):
    """Documents best first, each one passage, with all that a citation needs in its metadata."""

    retrieve: Callable[[str], Retrieval]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [_document(ranked) for ranked in self.retrieve(query).passages]


class Reply(TypedDict):
    """`citations` have the members they have in the REST contract, spans in characters of `answer`."""

    answer: str
    citations: list[dict[str, Any]]
    outcome: Outcome
    conversation_id: str


Asked = str | Mapping[str, Any] | PromptValue | BaseMessage


def answering_chain(ask: Callable[[str, str | None], Answer]) -> Runnable[Asked, Reply]:
    """`ask` gets a question and the conversation it continues, or None for a new one.

    The chain takes a question, `{"question": …, "conversation_id": …}` (the latter may be missing), or what a prompt
    before it made, of which the last message is the question. Raises InvalidInput for anything else.
    """

    def reply(asked: Asked) -> Reply:
        answer = ask(_question(asked), _conversation(asked))
        return Reply(
            answer=answer.text,
            citations=[_citation(citation) for citation in answer.citations],
            outcome=answer.outcome,
            conversation_id=answer.conversation_id,
        )

    return RunnableLambda(reply, name="youju")


def _document(ranked: RankedPassage) -> Document:
    passage = ranked.passage
    metadata = {
        "chunk_id": str(passage.chunk_id),
        "knowledge_base_id": passage.knowledge_base_id,
        "document_id": passage.document_id,
        "document_version": passage.document_version,
        "filename": passage.filename,
        "page": passage.page,
        "headings": list(passage.headings),
        "language": passage.language,
        "char_start": passage.char_start,
        "char_end": passage.char_end,
        "score": ranked.score,
    }
    return Document(page_content=passage.text, metadata=metadata, id=str(passage.chunk_id))


def _citation(citation: Citation) -> dict[str, Any]:
    return asdict(citation) | {"chunk_id": str(citation.chunk_id), "headings": list(citation.headings)}


def _question(asked: Asked) -> str:
    if isinstance(asked, PromptValue):
        return _question(asked.to_messages()[-1])
    content = asked.get("question") if isinstance(asked, Mapping) else asked
    if isinstance(content, PromptValue):
        return _question(content)
    if isinstance(content, BaseMessage):
        content = content.content
    if not isinstance(content, str) or not content.strip():
        raise InvalidInput("the chain takes a question, as text, as a prompt or as {'question': …}")
    return content


def _conversation(asked: Asked) -> str | None:
    conversation_id = asked.get("conversation_id") if isinstance(asked, Mapping) else None
    if conversation_id is not None and not isinstance(conversation_id, str):
        raise InvalidInput("conversation_id is an id or missing")
    return conversation_id
