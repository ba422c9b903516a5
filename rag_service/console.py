"""What the command line prints for people; `--json` prints the API's shapes instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from rag_service.answering.replay import Replay
from rag_service.db.keys import ApiKey
from rag_service.types import Answer, Citation, RankedPassage

out = Console()
err = Console(stderr=True)


def answer(made: Answer) -> None:
    out.print(escape(made.text), style="bold" if made.outcome != "refused" else "yellow")
    for citation in made.citations:
        out.print(f"  [cyan]\\[{citation.marker}][/cyan] {escape(place(citation))}")
        out.print(f"      {escape(_one_line(citation.quote))}", style="dim")


def replay(made: Replay) -> None:
    for what, equal in (("retrieval", made.retrieval_equal), ("prompt", made.prompt_equal), ("text", made.text_equal)):
        out.print(f"{what}: {'equal' if equal else 'differs'}", style="" if equal else "yellow")
    for line in made.diff:
        out.print(f"  {escape(line)}", style="dim")


def place(citation: Citation) -> str:
    """File, page, heading path: enough to find it on paper."""
    page = f", p. {citation.page}" if citation.page is not None else ""
    headings = f" — {' › '.join(citation.headings)}" if citation.headings else ""
    return f"{citation.filename}{page}{headings} ({citation.char_start}–{citation.char_end}, {citation.verdict})"


def passages(found: Iterable[RankedPassage]) -> None:
    table = Table("score", "dense", "lexical", "where", "text")
    for ranked in found:
        passage, scores = ranked.passage, ranked.scores
        where = passage.filename + (f", p. {passage.page}" if passage.page is not None else "")
        table.add_row(
            f"{ranked.score:.3f}", f"{scores.dense:.3f}", f"{scores.lexical:.3f}", escape(where),
            escape(_one_line(passage.text)[:160]),
        )  # fmt: skip
    out.print(table)


@contextmanager
def progress(shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar over (finished, in all); what it yields is called with both."""
    columns = (TextColumn("ingesting"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=not shown) as bar:
        task = bar.add_task("ingesting", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def failures(rows: Iterable[tuple[str, str, str]]) -> None:
    """(file, reason, detail) of what was not taken in."""
    table = Table("file", "reason", "detail", title="Not ingested", title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def keys(rows: Iterable[ApiKey]) -> None:
    table = Table("id", "tenant", "name", "state")
    for key in rows:
        table.add_row(key.id, escape(key.tenant), escape(key.name), "revoked" if key.revoked_at else "live")
    out.print(table)


def settings(rows: dict[str, str]) -> None:
    table = Table("name", "value")
    for name, value in rows.items():
        table.add_row(f"YOUJU_{name.upper()}", escape(value))
    out.print(table)


def _one_line(text: str) -> str:
    return " ".join(text.split())
