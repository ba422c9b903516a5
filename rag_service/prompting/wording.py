"""What the model is told, in each language: instructions, how passages and the question stand, the refusal."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import get_args

from rag_service.types import Language


@dataclass(frozen=True, slots=True)
class Wording:
    """`refusal` is the one exact sentence by which the model says that the passages do not answer."""

    instructions: str
    refusal: str
    passage: str
    question: str


def load() -> dict[Language, Wording]:
    return {language: _read(language) for language in get_args(Language)}


def _read(language: Language) -> Wording:
    content = resources.files("rag_service.prompting").joinpath("wording", f"{language}.toml").read_text("utf-8")
    table = tomllib.loads(content)
    told = table["instructions"].replace("{refusal}", table["refusal"])
    return Wording(told, table["refusal"], table["passage"], table["question"])
