"""What some families of models want before a question and before a passage, where their files do not say it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_REPRESENT = "Represent this sentence for searching relevant passages: "


@dataclass(frozen=True, slots=True)
class Prefixes:
    query: str = ""
    passage: str = ""


# From the models' own cards. By the last part of the name, as a directory of the same name holds the same model.
_FAMILIES = (
    (re.compile(r"(^|[-_])e5([-_].*)?[-_]instruct\b"), Prefixes(f"Instruct: {_SEARCH}\nQuery: ")),
    (re.compile(r"(^|[-_])e5([-_]|$)"), Prefixes("query: ", "passage: ")),
    (
        re.compile(r"^bge-(small|base|large)-en\b"),
        Prefixes(_REPRESENT),
    ),
    (re.compile(r"^bge-(small|base|large)-zh\b"), Prefixes("为这个句子生成表示以用于检索相关文章：")),
    (re.compile(r"^mxbai-embed-"), Prefixes(_REPRESENT)),
)


def prefixes_of(model: str) -> Prefixes:
    """None, for a model of no known family."""
    name = model.rstrip("/").rsplit("/", 1)[-1].lower()
    return next((prefixes for family, prefixes in _FAMILIES if family.search(name)), Prefixes())
