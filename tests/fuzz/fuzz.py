"""Mutated files through the real sandbox: each is a whole document or a typed failure, within the limits.

`python tests/fuzz/fuzz.py --format pdf --files 50000` is the long tier. File 17 of seed 1 is always the same bytes:
`--only 17 --keep DIR` writes it down.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

from canonical_rules import broken_promises  # noqa: E402
from mutations import mutated  # noqa: E402
from seeds import FORMATS, seeds  # noqa: E402

from ingest.parsers import REASONS  # noqa: E402
from ingest.sandbox import ParseLimits, Sandbox  # noqa: E402
from rag_service.errors import ParseFailed  # noqa: E402

LIMITS = ParseLimits(wall_seconds=5, memory_bytes=60_000_000, output_bytes=500_000, ocr=False)
"""Tight, so that they are reached."""
_TENTH = 1.1
_WALL_SLACK_SECONDS = 3.0
"""On a busy machine it is this process, not the parse, that is late."""
_CPU_SLACK_SECONDS = 0.5
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Violation:
    file: int
    what: str


@dataclass
class Report:
    format: str
    files: int = 0
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    """`document`, or the reason, with the library's error or the signal where there is one."""
    first: dict[str, int] = field(default_factory=dict)
    """The first file of each outcome."""
    slowest: tuple[float, int] = (0.0, 0)
    peak_bytes: int = 0
    cpu_seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)

    def note(self, file: int, outcome: str, seconds: float) -> None:
        self.files += 1
        self.outcomes[outcome] += 1
        self.first.setdefault(outcome, file)
        self.slowest = max(self.slowest, (seconds, file))

    def add(self, other: Report) -> None:
        self.files += other.files
        self.outcomes += other.outcomes
        self.first = {**other.first, **self.first}
        self.slowest = max(self.slowest, other.slowest)
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.cpu_seconds = max(self.cpu_seconds, other.cpu_seconds)
        self.violations += other.violations

    def __str__(self) -> str:
        kinds = Counter[str]()
        for outcome, count in self.outcomes.items():
            kinds[outcome.split()[0]] += count
        lines = [
            f"{self.format}: {self.files} files in {self.seconds:.0f} s ({self.files / self.seconds:.0f}/s), "
            f"{len(self.violations)} violations",
            "  " + ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()),
            f"  slowest {self.slowest[0]:.1f} s (file {self.slowest[1]}), most of a child: "
            f"{self.peak_bytes / 1e6:.0f} MB resident, {self.cpu_seconds:.1f} s of CPU",
        ]
        lines += [f"  {count} × {kind}, first file {self.first[kind]}" for kind, count in self.outcomes.most_common()]
        return "\n".join(lines + [f"  VIOLATION file {found.file}: {found.what}" for found in self.violations[:50]])


class Fuzzing:
    """Mutated files of one format. `keep`: a folder for those that violate something. `promised`: what is checked."""

    def __init__(self, format: str, seed: int, *, keep: Path | None = None, promised: ParseLimits = LIMITS) -> None:
        self._format = format
        self._seed = seed
        self._keep = keep
        self._promised = promised
        self._seeds = seeds(format)

    def content(self, file: int) -> bytes:
        return mutated(self._format, self._seeds, Random(f"{self._seed} {file}"))

    def run(self, files: range, processes: int = 1) -> Report:
        begun, descriptors = time.monotonic(), _descriptors(os.getpid())
        report = Report(self._format)
        with tempfile.TemporaryDirectory(prefix="youju-fuzz-") as folder, _noting(Path(folder)):
            shares = [files[start::processes] for start in range(processes)]
            with ThreadPoolExecutor(processes) as lanes:
                for done in lanes.map(lambda share: self._lane(share, Path(folder)), shares):
                    report.add(done)
        if _descriptors(os.getpid()) > descriptors:
            report.violations.append(Violation(-1, "descriptors of this process were left open"))
        report.seconds = time.monotonic() - begun
        for found in report.violations:
            self.save(found.file)
        return report

    def save(self, file: int) -> None:
        """Into the folder given, if one was."""
        if self._keep is not None and file >= 0:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / f"{self._format}-{self._seed}-{file}.{self._format}").write_bytes(self.content(file))

    def _lane(self, files: range, folder: Path) -> Report:
        """One file after another through a sandbox of its own."""
        report = Report(self._format)
        with Sandbox(LIMITS) as sandbox:
            sandbox.start()
            zygote = Zygote(sandbox, folder)
            for file in files:
                path = folder / f"{self._format}-{file}"
                path.write_bytes(self.content(file))
                self._try(sandbox, path, file, report)
                path.unlink()
                zygote.look(file, report, self._promised)
            zygote.settle(report)
        zygote.must_be_gone(report)
        return report

    def _try(self, sandbox: Sandbox, path: Path, file: int, report: Report) -> None:
        begun = time.monotonic()
        outcome, faults = self._outcome(sandbox, path)
        seconds = time.monotonic() - begun
        report.note(file, outcome, seconds)
        if seconds > _TENTH * self._promised.wall_seconds + _WALL_SLACK_SECONDS:
            faults.append(f"took {seconds:.1f} s")
        report.violations += [Violation(file, fault) for fault in faults]

    def _outcome(self, sandbox: Sandbox, path: Path) -> tuple[str, list[str]]:
        """(what became of it, what is wrong with that)."""
        try:
            parsed = sandbox.parse(path, FORMATS[self._format])
        except ParseFailed as error:
            return self._reason(error)
        except Exception:  # noqa: BLE001 - anything else is what is looked for
            return "violation", [traceback.format_exc(limit=-3)]
        faults = list(broken_promises(parsed))
        if len(parsed.text.encode()) > _TENTH * self._promised.output_bytes:
            faults.append(f"{len(parsed.text)} characters of text")
        return "document", faults

    def _reason(self, error: ParseFailed) -> tuple[str, list[str]]:
        told = [str(error.data[key]) for key in ("error", "signal", "exit_status") if key in error.data]
        faults = [] if error.reason in REASONS else [f"a reason of its own, {error.reason}"]
        if error.reason == "crashed" and "error" in error.data:
            faults.append(f"no valid answer: {error.__cause__!r}")
        return " ".join([error.reason, *told]), faults


class Zygote:
    """The process behind a sandbox, and what `observed/sitecustomize.py` noted of its children."""

    def __init__(self, sandbox: Sandbox, folder: Path) -> None:
        self._sandbox = sandbox
        self._pid = self._now()
        self._idle_bytes = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self._descriptors = _descriptors(self._pid)
        self._notes = (folder / f"zygote-{self._pid}").open()
        self._begun = ""
        self._lately: deque[int] = deque(maxlen=3)

    def _now(self) -> int:
        assert self._sandbox._zygote is not None
        return self._sandbox._zygote._process.pid

    def look(self, file: int, report: Report, limits: ParseLimits) -> None:
        """What the children that ended meanwhile have used: one ends soon after its answer, so of one of the last."""
        self._lately.append(file)
        if self._now() != self._pid:
            report.violations.append(Violation(file, "the zygote was replaced"))
            self._pid = self._now()
        for line in self._new_lines():
            peak, seconds = int(line.split()[1]), float(line.split()[2])
            report.peak_bytes, report.cpu_seconds = max(report.peak_bytes, peak), max(report.cpu_seconds, seconds)
            if peak - self._idle_bytes > _TENTH * limits.memory_bytes:
                report.violations += [Violation(file, f"a child had {peak} bytes") for file in self._lately]
            if seconds > _TENTH * limits.cpu + _CPU_SLACK_SECONDS:
                report.violations += [Violation(file, f"a child took {seconds} s of CPU") for file in self._lately]

    def _new_lines(self) -> list[str]:
        """Whole ones: what is read while it is being written may end anywhere."""
        *lines, self._begun = (self._begun + self._notes.read()).split("\n")
        return lines

    def settle(self, report: Report) -> None:
        """Once the last child has ended, but for one that waits for work, nothing of them is left."""

        def is_settled() -> bool:
            children = len(self._session()) - 1
            # A waiting child is one socket.
            return children <= 1 and _descriptors(self._pid) - self._descriptors <= children

        if not _becomes_true(is_settled):
            report.violations.append(Violation(-1, f"left: {self._session()}, {_descriptors(self._pid)} descriptors"))

    def must_be_gone(self, report: Report) -> None:
        self._notes.close()
        if not _becomes_true(lambda: not self._session()):
            report.violations.append(Violation(-1, f"processes were left: {self._session()}"))

    def _session(self) -> list[int]:
        """The zygote and its children, wherever they hang now: the session is the zygote's own."""
        return [pid for pid in _processes() if _session_of(pid) == self._pid]


def _becomes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not (true := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def _processes() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


class _noting:
    """While in it, zygotes started by this process write down in `folder` what their children use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        shutil.copy(HERE / "observed" / "sitecustomize.py", self._folder)
        sys.path.insert(0, str(self._folder))

    def __exit__(self, *_: object) -> None:
        sys.path.remove(str(self._folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--format", choices=(*FORMATS, "all"), default="all")
    parser.add_argument("--files", type=int, default=50_000, help="of each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1, help="that parse at the same time")
    parser.add_argument("--only", type=int, help="this file alone, kept in any case")
    parser.add_argument("--keep", type=Path, help="a folder for the files that violate something")
    given = parser.parse_args()
    files = range(given.files) if given.only is None else range(given.only, given.only + 1)
    violated = False
    for name in FORMATS if given.format == "all" else (given.format,):
        fuzzing = Fuzzing(name, given.seed, keep=given.keep)
        if given.only is not None:
            fuzzing.save(given.only)
        report = fuzzing.run(files, given.processes)
        print(report, flush=True)
        violated |= bool(report.violations)
    return 1 if violated else 0


if __name__ == "__main__":
    sys.exit(main())
