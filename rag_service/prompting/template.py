"""Chat templates as data: a TOML file says how messages become strings and special tokens, no code knows a model.

A file has `begin`, `user` and `assistant`, each a list of strings and `{token = "…"}`; `{text}` stands for the
message. `stop` are texts and `stop_tokens` tokens that end a reply; `forged` is a pattern of what must not come from a
user or a document, whose matches are written in full-width characters.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rag_service.errors import InvalidConfiguration
from rag_service.types import Chat

_MEMBERS = {"begin", "user", "assistant", "stop", "stop_tokens", "forged"}
_FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}


@dataclass(frozen=True, slots=True)
class Special:
    """A special token by its name in the vocabulary."""

    token: str


Segment = str | Special


@dataclass(frozen=True, slots=True)
class Template:
    name: str
    begin: tuple[Segment, ...]
    user: tuple[Segment, ...]
    assistant: tuple[Segment, ...]
    stop: tuple[str, ...]
    stop_tokens: tuple[str, ...]
    forged: re.Pattern[str]

    def segments(self, messages: Sequence[Chat]) -> list[Segment]:
        """The whole conversation, no two strings in a row: what is one string is encoded as one."""
        return joined([*self.begin, *(s for message in messages for s in self._of(message))])

    def around(self, role: Sequence[Segment]) -> tuple[list[Segment], list[Segment]]:
        """What stands before and after a message's text."""
        for at, segment in enumerate(role):
            if isinstance(segment, str) and "{text}" in segment:
                before, after = segment.split("{text}")
                return joined([*role[:at], before]), joined([after, *role[at + 1 :]])
        raise AssertionError("checked when it was read")

    def harmless(self, text: str) -> str:
        """`text` without anything a reader of the prompt could take for the template's own."""
        return self.forged.sub(lambda match: match.group().translate(_FULL_WIDTH), text)

    def _of(self, message: Chat) -> Iterator[Segment]:
        for segment in self.user if message.role == "user" else self.assistant:
            yield segment.replace("{text}", message.content) if isinstance(segment, str) else segment


def joined(segments: Sequence[Segment]) -> list[Segment]:
    whole: list[Segment] = []
    for segment in segments:
        if isinstance(segment, str) and whole and isinstance(whole[-1], str):
            whole[-1] += segment
        elif segment:
            whole.append(segment)
    return whole


def load(template: str) -> Template:
    """A shipped template by its name, or the path of a TOML file. Raises InvalidConfiguration."""
    shipped = resources.files("rag_service.prompting").joinpath("templates", f"{template}.toml")
    if re.fullmatch(r"[a-z0-9-]+", template) and shipped.is_file():
        return parse(template, shipped.read_text("utf-8"))
    path = Path(template)
    try:
        return parse(path.stem, path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"there is no chat template {template}: {error}", template=template) from error


def parse(name: str, content: str) -> Template:
    """Raises InvalidConfiguration, naming the member that is wrong."""
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InvalidConfiguration(f"chat template {name}: {error}", template=name) from error
    if set(table) != _MEMBERS:
        wrong = sorted(set(table) ^ _MEMBERS)
        raise InvalidConfiguration(f"chat template {name}: missing or unknown: {', '.join(wrong)}", template=name)
    made = Template(
        name=name, begin=_segments(name, "begin", table), user=_segments(name, "user", table),
        assistant=_segments(name, "assistant", table), stop=_strings(name, "stop", table),
        stop_tokens=_strings(name, "stop_tokens", table), forged=_pattern(name, table),
    )  # fmt: skip
    _demand_measurable(made)
    return made


def _demand_measurable(template: Template) -> None:
    """Turns are measured one by one, so a token has to stand between a reply and the next turn."""
    for role, segments in (("user", template.user), ("assistant", template.assistant)):
        if sum(segment.count("{text}") for segment in segments if isinstance(segment, str)) != 1:
            raise _wrong(template.name, role, "has {text} exactly once")
    last, first = template.assistant[-1], template.user[0]
    if not isinstance(last, Special) and not isinstance(first, Special):
        raise _wrong(template.name, "assistant", "ends in a token, or user begins with one")


def _segments(name: str, member: str, table: dict[str, Any]) -> tuple[Segment, ...]:
    value = table[member]
    if not isinstance(value, list):
        raise _wrong(name, member, "is a list")
    made: list[Segment] = []
    for item in value:
        match item:
            case str():
                made.append(item)
            case {"token": str(token)} if len(item) == 1:
                made.append(Special(token))
            case _:
                raise _wrong(name, member, 'holds strings and {token = "…"}')
    return tuple(made)


def _strings(name: str, member: str, table: dict[str, Any]) -> tuple[str, ...]:
    value = table[member]
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise _wrong(name, member, "is a list of strings")
    return tuple(value)


def _pattern(name: str, table: dict[str, Any]) -> re.Pattern[str]:
    try:
        return re.compile(table["forged"], re.IGNORECASE)
    except (re.error, TypeError) as error:
        raise _wrong(name, "forged", f"is a pattern: {error}") from error


def _wrong(name: str, member: str, rule: str) -> InvalidConfiguration:
    return InvalidConfiguration(f"chat template {name}: {member} {rule}", template=name, member=member)
