"""Every kind of file at rest, damaged: found by name, and healed, index files from SQL and uploads by their upload.

`python tests/crash/damage.py --files 3000` is the long tier.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cycles import forked, make_template, say  # first: it finds the rest
from ledger import Ledger
from power import deal
from promises import breaches
from rig import Rig, content_of, open_rig
from rooms import TENANT

from rag_service.verify import differences

FATES = ("deleted", "zeroed", "halved", "flipped", "emptied")
_DOCUMENTS = 12


@dataclass
class Damages:
    by_kind: Counter[str] = field(default_factory=Counter)
    unseen: list[str] = field(default_factory=list)
    unhealed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.by_kind.total()} files damaged ({dict(self.by_kind)}): "
            f"{len(self.unseen)} not detected, {len(self.unhealed)} not healed"
        )


def damaged(root: Path, files: int, seed: int) -> Damages:
    """Damage one to four files at a time until so many have been."""
    template, dice, report = root / "template", random.Random(seed), Damages()
    make_template(template)
    forked(partial(_fill, template))
    while report.by_kind.total() < files:
        data = root / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(template, data)
        victims = dice.sample(_at_rest(data), dice.randint(1, 4))
        dealt = {victim: deal(victim, dice, FATES) for victim in victims}
        report.by_kind.update(_kind(victim, data) for victim in victims)
        said = forked(partial(_detect_and_heal, data, list(dealt)))
        report.unseen += [f"{entry['unseen']} ({dealt})" for entry in said if "unseen" in entry]
        report.unhealed += [f"{entry['unhealed']} ({dealt})" for entry in said if "unhealed" in entry]
        if not any("checked" in entry for entry in said):
            report.unhealed.append(f"the check did not end ({dealt})")
    return report


def _at_rest(data: Path) -> list[Path]:
    """Uploads and segment files with something in them; tantivy's locks are made anew whenever an index is opened."""
    return sorted(
        path
        for top in ("blobs", "index")
        for path in (data / top).rglob("*")
        if path.is_file() and path.stat().st_size and not path.name.endswith(".lock")
    )


def _kind(path: Path, data: Path) -> str:
    """`blob`, or the segment's file by its ending: tantivy names most of its files by a random id."""
    if path.is_relative_to(data / "blobs"):
        return "blob"
    return path.suffix or path.name


def _fill(data: Path, out: BinaryIO) -> None:
    dice = random.Random(1)
    with open_rig(data) as rig:
        rig.upload(*(content_of(number, dice) for number in range(_DOCUMENTS)))
        rig.ingest()
        rig.compact()
        rig.upload(content_of(_DOCUMENTS, dice))
        rig.ingest()


def _detect_and_heal(data: Path, victims: list[Path], out: BinaryIO) -> None:
    with open_rig(data) as rig:
        seen = " ".join(found.what for found in differences(rig.storage, deep=True))
        for victim in victims:
            if not _is_named(victim, data, seen):
                say(out, unseen=str(victim.relative_to(data)))
        _heal(rig)
        for breach in breaches(rig, Ledger(may_hold=dict(_held(rig)))):
            say(out, unhealed=breach)
    say(out, checked=True)


def _is_named(victim: Path, data: Path, seen: str) -> bool:
    """A damaged upload by its hash; of a segment the first damaged file is named, which condemns it whole."""
    if victim.is_relative_to(data / "blobs"):
        return victim.name in seen
    return f"segment {victim.relative_to(data / 'index').parts[1]}" in seen


def _heal(rig: Rig) -> None:
    """The index by being asked, the uploads by being uploaded again."""
    dice = random.Random(1)
    for number in range(_DOCUMENTS + 1):
        rig.upload(content_of(number, dice))
    rig.index().preload([rig.kb])


def _held(rig: Rig) -> list[tuple[str, set[str]]]:
    page = rig.storage.documents.browse(TENANT, rig.kb, None, 200, None)
    return [(document.id, {document.sha256}) for document in page.items]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="youju-damage-") as root:
        report = damaged(Path(root), given.files, given.seed)
    print(f"{report}, {time.monotonic() - begun:.0f} s")
    for line in (*report.unseen[:10], *report.unhealed[:10]):
        print(f"  {line}")
    return 1 if report.unseen or report.unhealed else 0


if __name__ == "__main__":
    sys.exit(main())
