"""What the command line prints for people; `--json` prints the API's shapes instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from rag_service.answering.replay import Replay
from rag_service.db.keys import ApiKey
from rag_service.sync import SyncPlan
from rag_service.taking import IngestReport, Outcome
from rag_service.types import Answer, Citation, Job, RankedPassage

out = Console()
err = Console(stderr=True)
_OUTCOMES: tuple[Outcome, ...] = ("ready", "updated", "duplicates", "failed")


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
    table = Table("score", "dense", "lexical", "bilingual", "where", "text")
    for ranked in found:
        passage, scores = ranked.passage, ranked.scores
        where = passage.filename + (f", p. {passage.page}" if passage.page is not None else "")
        table.add_row(
            f"{ranked.score:.3f}", f"{scores.dense:.3f}", f"{scores.lexical:.3f}", f"{scores.bilingual:.3f}",
            escape(where), escape(_one_line(passage.text)[:160]),
        )  # fmt: skip
    out.print(table)


@contextmanager
def progress(shown: bool, what: str = "ingesting") -> Iterator[Callable[[int, int], None]]:
    """A bar over (finished, in all); what it yields is called with both."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Each time it is drawn takes time from the work: ten times a second, 4 % of `youju ingest`.
    with Progress(*columns, console=err, disable=not shown, refresh_per_second=2) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def ingested(report: IngestReport) -> None:
    """Counts first; then by format, what was left out, and every failure with its reason."""
    counts = f"{report.ready} ready, {report.duplicates} already there, {len(report.failed)} not ingested"
    out.print(f"{counts} in {report.seconds:.1f} s")
    if report.updated or report.removed:
        out.print(f"{report.updated} updated, {report.removed} removed")
    for note in report.notes:
        out.print(escape(note), style="yellow")
    if len(report.formats) > 1:
        _formats(report.formats)
    if report.skipped:
        out.print(f"left out: {_listed(report.skipped)}")
    if report.failed:
        out.print(f"not ingested: {_listed(report.reasons())}", style="red")
        _rows(("file", "reason", "detail"), sorted(report.failed, key=itemgetter(1, 0)), "Not ingested")


def sync_plan(found: SyncPlan) -> None:
    counts = ((found.missing, "missing"), (found.changed, "changed"), (found.removed, "to be removed"))
    out.print(f"{len(found.present)} present, " + ", ".join(f"{len(entries)} {what}" for entries, what in counts))
    rows = [
        *(("missing", path, "") for path in found.missing),
        *(("changed", entry.path, entry.document_id) for entry in found.changed),
        *(("to be removed", entry.path, entry.document_id) for entry in found.removed),
    ]
    if rows:
        _rows(("what", "path", "document"), rows, "Not in sync")


def _formats(formats: Mapping[str, Mapping[Outcome, int]]) -> None:
    table = Table("format", "ready", "updated", "already there", "not ingested")
    for suffix, counts in sorted(formats.items()):
        table.add_row(escape(suffix), *(str(counts.get(outcome) or "") for outcome in _OUTCOMES))
    out.print(table)


def _listed(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=itemgetter(1), reverse=True)
    return escape(", ".join(f"{number} {what}" for what, number in ordered))


def _rows(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str) -> None:
    # Folded, not cut: a path is of use only whole.
    table = Table(*(Column(name, overflow="fold") for name in columns), title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    out.print(table)


def job(made: Job) -> None:
    out.print(f"job {made.id}: {made.state}, {made.done} of {made.total}")
    if made.problem is not None:
        out.print(escape(f"{made.problem.title}: {made.problem.detail}"), style="red")


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
