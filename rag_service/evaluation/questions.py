"""Question sets: JSON lines, plain or gzipped, checked whole before anything is asked.

A question is `{id, text}` with any of `lang`, `relevant` (gold passages or documents), `answers`, `answerable`,
`history` (role and content, oldest first), `rewrite` (a person's stand-alone form), `refs` (evidence sentences) and
`source_passage` (what an unanswerable question is about). Further members are for others and left alone.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from rag_service.errors import InvalidInput
from rag_service.text import language_of, storable
from rag_service.types import Language, Turn

AnswerRule = Literal["any", "all"]
"""Of a flat list of answers: any one is enough, or all are needed (as in RGB). An inner list is alternatives."""
MOST_CHARACTERS = 8_000
"""Of a question: what the service takes by default, too."""
Row = tuple[int, Any]
"""Where it stands, and the value."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and where: a line of a file, or the place in a list, from 1."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Question:
    """`answers` are groups of alternatives: an answer is right that holds one of each group.

    `gold` are ids as the set has them, `about` what an unanswerable question is about. `history` are exchanges, oldest
    first. `source` and `line` are where it stands.
    """

    id: str
    text: str
    language: Language
    gold: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    answerable: bool
    history: tuple[Turn, ...]
    rewrite: str | None
    evidence: tuple[str, ...]
    about: tuple[str, ...]
    source: str
    line: int


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """`sha256` is of what was read."""

    name: str
    sha256: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    id: str
    title: str
    text: str


Item = TypeVar("Item", Question, Passage)


def read(paths: Sequence[Path], gold: str = "relevant", rule: AnswerRule = "any") -> tuple[QuestionSet, list[Fault]]:
    """The questions of all files that are well formed, and what is wrong with the others. Raises OSError.

    `gold` is the member that names the gold passages.
    """
    questions: list[Question] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    digest = hashlib.sha256()
    for path in paths:
        content, source = path.read_bytes(), _shown(path)
        digest.update(content)
        rows = _rows(source, content, faults)
        questions += _checked(source, rows, seen, faults, _question_maker(source, gold, rule), gold)
    name = "+".join(_shown(path).removesuffix(".gz").removesuffix(".jsonl") for path in paths)
    return QuestionSet(name, digest.hexdigest(), tuple(questions)), faults


def from_rows(
    name: str, rows: Sequence[Any], gold: str = "relevant", rule: AnswerRule = "any"
) -> tuple[QuestionSet, list[Fault]]:
    """As `read`, of questions that came as a list: a fault's line is the place in it, from 1."""
    faults: list[Fault] = []
    digest = hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
    made = _checked("questions", enumerate(rows, 1), {}, faults, _question_maker("questions", gold, rule), gold)
    return QuestionSet(name, digest, tuple(made)), faults


def read_passages(paths: Sequence[Path]) -> tuple[list[Passage], list[Fault]]:
    """The passages of all files, `{id, text}` with any `title`, and what is wrong with the others. Raises OSError."""
    passages: list[Passage] = []
    faults: list[Fault] = []
    seen: dict[str, str] = {}
    for path in paths:
        source = _shown(path)
        passages += _checked(source, _rows(source, path.read_bytes(), faults), seen, faults, _passage)
    return passages, faults


def read_equivalents(path: Path) -> tuple[list[list[str]], list[Fault]]:
    """Groups of passage ids that have the same text: `[[id, …], …]`. Raises OSError."""
    try:
        groups = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        return [], [Fault(_shown(path), getattr(error, "lineno", 1), f"not JSON: {error}")]
    lists = isinstance(groups, list) and all(isinstance(group, list) for group in groups)
    if not lists or not all(isinstance(member, str) for group in groups for member in group):
        return [], [Fault(_shown(path), 1, "must be a list of lists of passage ids")]
    return groups, []


def demand(faults: Iterable[Fault]) -> None:
    """Raises InvalidInput naming every fault, in order, if there are any."""
    told = [str(fault) for fault in sorted(faults, key=lambda fault: (fault.source, fault.line))]
    if told:
        more = f"; and {len(told) - 3} more" if len(told) > 3 else ""
        raise InvalidInput("; ".join(told[:3]) + more, reason="question-set", faults=told)


def with_answers_of(questions: QuestionSet, twins: QuestionSet) -> QuestionSet:
    """Each question with its answers or those of its twin, whose id differs in nothing but the language: what is asked
    in one language may be answered from a passage in the other."""
    known = {_without_language(twin.id): twin for twin in twins.questions}
    made = (_joined(question, known.get(_without_language(question.id))) for question in questions.questions)
    return replace(questions, questions=tuple(made))


def _joined(question: Question, twin: Question | None) -> Question:
    if twin is None:
        return question
    groups = max(len(question.answers), len(twin.answers))
    own, other = (one.answers + ((),) * (groups - len(one.answers)) for one in (question, twin))
    return replace(question, answers=tuple(a + b for a, b in zip(own, other, strict=True)))


def _without_language(question_id: str) -> tuple[str, ...]:
    return tuple(part for part in question_id.split(":") if part not in ("zh", "en", "zh-Hant", "zh-Hans"))


def _shown(path: Path) -> str:
    return path.name.encode("utf-8", "replace").decode()


def _rows(source: str, content: bytes, faults: list[Fault]) -> Iterator[Row]:
    """(line, value) of every line that is JSON; empty ones are skipped."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            faults.append(Fault(source, 1, f"not a whole gzip file: {error}"))
            return
    # Cut as bytes: a line of JSON may hold U+2028 or U+0085, at which `splitlines` of a text would cut.
    for line, raw in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not raw.strip():
            continue
        try:
            yield line, json.loads(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            faults.append(Fault(source, line, f"not UTF-8 at byte {error.start}"))
        except RecursionError:
            faults.append(Fault(source, line, "not JSON: nested too deep"))
        except ValueError as error:
            faults.append(Fault(source, line, f"not JSON: {error}"))


def _checked(
    source: str,
    rows: Iterable[Row],
    seen: dict[str, str],
    faults: list[Fault],
    make: Callable[[Mapping[str, Any], int], Item],
    gold: str = "gold",
) -> list[Item]:
    made: list[Item] = []
    for line, row in rows:
        if not isinstance(row, dict):
            faults.append(Fault(source, line, "must be an object"))
            continue
        try:
            item = make(row, line)
        except ValidationError as error:
            faults += [Fault(source, line, _reason(fault, gold)) for fault in error.errors()]
            continue
        if item.id in seen:
            faults.append(Fault(source, line, f"the id {item.id!r} stands at {seen[item.id]} already"))
            continue
        seen[item.id] = f"{source}:{line}"
        made.append(item)
    return made


def _reason(fault: Mapping[str, Any], gold: str) -> str:
    """The gold passages by the name of the member they came from."""
    place = [gold if part == "gold" else str(part) for part in fault["loc"]]
    return f"{'.'.join(place)}: {fault['msg']}"


def _storable(text: str) -> str:
    if storable(text) != text:
        raise ValueError("must not contain U+0000 or half of a surrogate pair")
    return text


_Text = Annotated[str, AfterValidator(_storable)]
_Id = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=r"\S"), AfterValidator(_storable)]
_Asked = Annotated[
    str, StringConstraints(min_length=1, max_length=MOST_CHARACTERS, pattern=r"\S"), AfterValidator(_storable)
]


class _Message(BaseModel):
    model_config = ConfigDict(strict=True)
    role: Literal["user", "assistant", "system"]
    content: _Text


class _QuestionRow(BaseModel):
    model_config = ConfigDict(strict=True)
    id: _Id
    text: _Asked
    lang: _Text | None = None
    answers: list[_Text | list[_Text]] = []
    answerable: bool | None = None
    history: list[_Message] = []
    rewrite: _Asked | None = None
    refs: list[_Text] = []
    source_passage: _Id | list[_Id] = []
    gold: list[_Id] = []


class _PassageRow(BaseModel):
    model_config = ConfigDict(strict=True)
    id: _Id
    title: _Text | None = None
    text: Annotated[str, StringConstraints(min_length=1, pattern=r"\S"), AfterValidator(_storable)]


def _question_maker(source: str, gold: str, rule: AnswerRule) -> Callable[[Mapping[str, Any], int], Question]:
    def make(row: Mapping[str, Any], line: int) -> Question:
        made = _QuestionRow.model_validate({**row, "gold": row.get(gold, [])})
        about = [made.source_passage] if isinstance(made.source_passage, str) else made.source_passage
        return Question(
            id=made.id, text=made.text.strip(), language=_language(made.lang, made.text),
            gold=tuple(dict.fromkeys(made.gold)), answers=_groups(made.answers, rule),
            answerable=made.answerable if made.answerable is not None else True,
            history=_turns(made.history), rewrite=made.rewrite, evidence=tuple(made.refs), about=tuple(about),
            source=source, line=line,
        )  # fmt: skip

    return make


def _passage(row: Mapping[str, Any], line: int) -> Passage:
    made = _PassageRow.model_validate(row)
    return Passage(made.id, (made.title or "").strip(), made.text)


def _language(told: str | None, text: str) -> Language:
    """Of all Chinese tags `zh`, of all English ones `en`; another, or none, leaves it to the text."""
    tag = (told or "").lower().partition("-")[0]
    return "zh" if tag == "zh" else "en" if tag == "en" else language_of(text)


def _groups(answers: Sequence[str | list[str]], rule: AnswerRule) -> tuple[tuple[str, ...], ...]:
    """Where one of them is a list, all are needed, whatever the rule."""
    if rule == "any" and all(isinstance(answer, str) for answer in answers):
        return (tuple(answer for answer in answers if isinstance(answer, str)),) if answers else ()
    return tuple((answer,) if isinstance(answer, str) else tuple(answer) for answer in answers)


def _turns(history: Sequence[_Message]) -> tuple[Turn, ...]:
    """Messages as exchanges: an answer belongs to the question before it, whatever stands alone is half a turn. What
    a system says sets a scene, and is no turn."""
    made: list[Turn] = []
    for number, message in enumerate(history):
        if message.role == "user":
            made.append(Turn(str(number), message.content, ""))
        elif message.role == "assistant" and made and not made[-1].answer:
            made[-1] = replace(made[-1], answer=message.content)
        elif message.role == "assistant":
            made.append(Turn(str(number), "", message.content))
    return tuple(made)
