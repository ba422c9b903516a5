"""Component cycles: a process works, dies at a step of its own choosing, the next one must find every promise kept.

`python tests/crash/cycles.py --cycles 10000` is the long tier. Each life is a fork of this process, which has loaded
everything and opened nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import power  # noqa: E402
from defects import DEFECTS  # noqa: E402
from ledger import Ledger, sha256  # noqa: E402
from promises import breaches, lost_segments  # noqa: E402
from rig import Rig, content_of, open_rig, share_database  # noqa: E402
from steps import Interception  # noqa: E402

from rag_service.db import schema  # noqa: E402
from rag_service.verify import differences  # noqa: E402

_CYCLES_A_FOLDER = 25
_MOST_STEPS = 400
_OPERATIONS = 12
Defect = Callable[[], None]


@dataclass
class Report:
    cycles: int = 0
    deaths: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)
    acknowledged: int = 0

    def __str__(self) -> str:
        deaths = ", ".join(f"{name} {count}" for name, count in sorted(self.deaths.items()))
        return (
            f"{self.cycles} cycles, {sum(self.deaths.values())} deaths, {self.acknowledged} documents acknowledged, "
            f"{sum(self.fates.values())} unsynced files dealt a fate, {len(self.breaches)} breaches\n"
            f"  deaths at: {deaths}"
        )


class Cycles:
    """`power_loss`: after each death what was not synced is damaged too. `defect` is sown in every life."""

    def __init__(self, root: Path, seed: int, *, power_loss: bool = True, defect: Defect | None = None) -> None:
        self._root = root
        self._dice = random.Random(seed)
        self._power_loss = power_loss
        self._defect = defect
        self._template = root / "template"
        make_template(self._template)
        self.report = Report()

    def run(self, cycles: int, *, until_breach: bool = False) -> Report:
        ledger, data = Ledger(), self._root / "none"
        for number in range(cycles):
            if number % _CYCLES_A_FOLDER == 0:
                shutil.rmtree(data, ignore_errors=True)
                data, ledger = self._root / f"data-{number}", Ledger()
                shutil.copytree(self._template, data)
            kept = self._cycle(data, ledger)
            if until_breach and not kept:
                break
            if not kept:
                # What is broken stays broken: the next folder starts afresh.
                shutil.rmtree(data)
                shutil.copytree(self._template, data)
                ledger = Ledger()
        return self.report

    def _cycle(self, data: Path, ledger: Ledger) -> bool:
        """Whether every promise was kept."""
        self._live(data, ledger, _OPERATIONS)
        while self._dice.random() < 0.3:
            self._live(data, ledger, 0)
        said = forked(lambda out: _check(data, ledger, out, self._defect))
        found = [str(entry["breach"]) for entry in said if "breach" in entry]
        if not any("checked" in entry for entry in said):
            found.append("the check did not end")
        self.report.cycles += 1
        self.report.breaches += found
        return not found

    def _live(self, data: Path, ledger: Ledger, operations: int) -> None:
        before = power.inodes(data)
        seed, last_step = self._dice.random(), self._dice.randint(1, _MOST_STEPS if operations else 40)
        said = forked(lambda out: _live(data, ledger, random.Random(seed), last_step, operations, out, self._defect))
        for entry in said:
            ledger.note(entry)
            self.report.acknowledged += len(entry.get("documents", ()))
            if "broken" in entry:
                self.report.breaches.append(f"an operation failed by itself: {entry['broken']}")
            if "death" in entry:
                self.report.deaths[entry["death"]] += 1
                synced = {int(inode): moment for inode, moment in entry["synced"].items()}
                if self._power_loss:
                    life = power.Life(before, synced, entry["made"])
                    self.report.fates.update(power.lose(data, life, self._dice))


def make_template(data: Path) -> None:
    """An empty data folder to copy, and this process ready to fork lives that are short and quick."""
    with open_rig(data):
        pass
    share_database(data)
    # The template has the schema; looking again at every start would be half of each life.
    schema.upgrade = lambda database, to="head": None
    with tempfile.TemporaryDirectory(prefix="youju-crash-") as elsewhere:
        rehearsal = Path(elsewhere) / "data"
        shutil.copytree(data, rehearsal)
        with open_rig(rehearsal) as rig:
            _rehearse(rig)


def _rehearse(rig: Rig) -> None:
    """Every statement once; no compaction, which would start threads, and threads do not survive a fork."""
    dice = random.Random(0)
    documents = rig.upload(*(content_of(number, dice) for number in range(3)))
    rig.ingest()
    rig.replace(documents[0], content_of(9, dice))
    rig.ingest()
    rig.delete(documents[1])
    rig.recover()
    list(differences(rig.storage, deep=True))


def _live(
    data: Path, ledger: Ledger, dice: random.Random, last_step: int, operations: int, out: BinaryIO,
    defect: Defect | None,
) -> None:  # fmt: skip
    if defect is not None:
        defect()
    with open_rig(data) as rig:
        interception = Interception(data, lambda name: None)
        steps = 0

        def step(name: str) -> None:
            nonlocal steps
            steps += 1
            if steps == last_step:
                synced = interception.synced
                say(out, death=name, synced=synced.files, made=synced.made)
                os.kill(os.getpid(), signal.SIGKILL)

        interception = Interception(data, step)
        interception.install(rig.storage.database.engine)
        rig.embedder.embed = interception.embedding(rig.embedder.embed)  # type: ignore[method-assign]
        rig.recover()
        try:
            for _ in range(operations):
                _operate(rig, ledger, dice, out)
                step("done")
        except Exception:  # noqa: BLE001 - told to the parent, which counts it as a breach
            say(out, broken=traceback.format_exc()[-800:])


def _operate(rig: Rig, ledger: Ledger, dice: random.Random, out: BinaryIO) -> None:
    """One operation, said before and after; the ledger of this process is a copy that follows."""

    def tell(**entry: Any) -> None:
        ledger.note(entry)
        say(out, **entry)

    kept = list(ledger.kept())
    kind = dice.choices(
        ("upload", "again", "ingest", "delete", "replace", "compact"),
        (5, 1.5 * bool(kept), 5, 2 * bool(kept), 2 * bool(kept), 0.5),
    )[0]
    if kind in ("upload", "again"):
        contents = [content_of(dice.randrange(10**9), dice) for _ in range(dice.randint(1, 3))]
        if kind == "again":
            contents[0] = rig.present(kept, dice)
        hashes = [sha256(content) for content in contents]
        tell(begin="upload", hashes=hashes)
        tell(done="upload", hashes=hashes, documents=rig.offer(*contents))
    elif kind == "replace":
        document, content = dice.choice(kept), content_of(dice.randrange(10**9), dice)
        tell(begin="replace", document=document, hash=sha256(content))
        rig.replace(document, content)
        tell(done="replace", document=document, hash=sha256(content))
    elif kind == "delete":
        document = dice.choice(kept)
        tell(begin="delete", document=document)
        rig.delete(document)
        tell(done="delete", document=document)
    elif kind == "ingest":
        rig.ingest(dice.randint(1, 5))
    else:
        rig.compact()


def _check(data: Path, ledger: Ledger, out: BinaryIO, defect: Defect | None) -> None:
    if defect is not None:
        defect()
    with open_rig(data) as rig:
        rig.recover()
        time.sleep(0.002)
        rig.ingest()
        for breach in (*lost_segments(rig), *breaches(rig, ledger)):
            say(out, breach=breach)
    say(out, checked=True)


def say(out: BinaryIO, **entry: Any) -> None:
    out.write(json.dumps(entry).encode() + b"\n")
    out.flush()


def forked(work: Callable[[BinaryIO], None]) -> list[dict[str, Any]]:
    """What a fork of this process said before it ended, however it ended."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _in_child(work, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as said:
        entries = [json.loads(line) for line in said]
    os.waitpid(pid, 0)
    return entries


def _in_child(work: Callable[[BinaryIO], None], writer: int) -> NoReturn:
    status = 1
    try:
        with os.fdopen(writer, "wb") as out:
            work(out)
        status = 0
    except BaseException:  # noqa: BLE001 - a fork must never come back into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--defect", choices=DEFECTS, help="sow this one")
    parser.add_argument("--until-breach", action="store_true", help="end with the first broken promise")
    given = parser.parse_args()
    begun, defect = time.monotonic(), DEFECTS.get(given.defect)
    with tempfile.TemporaryDirectory(prefix="youju-crash-") as root:
        report = Cycles(Path(root), given.seed, defect=defect).run(given.cycles, until_breach=given.until_breach)
    print(f"{report}\n  {time.monotonic() - begun:.0f} s")
    for breach in report.breaches[:20]:
        print(f"  {breach}")
    return 1 if report.breaches else 0


if __name__ == "__main__":
    sys.exit(main())
