"""The k-th step fails, for k = 1, 2, 3 … until nothing fails any more: exhaustive by construction.

A failing step is a disk that is full or broken, a database that cannot grow, an embedding process that is gone. What
was told to have failed may have happened or not; what was told to be done is done; and once the fault is over the same
program finishes what waits.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from cycles import forked, make_template, say  # first: it finds the rest
from ledger import Ledger, sha256
from promises import breaches
from rig import Rig, content_of, open_rig
from steps import KINDS, Interception, failing

from rag_service.errors import YoujuError


def every_fault(root: Path) -> tuple[int, Counter[str], list[str]]:
    """(faults fired, by kind, breaches)."""
    template = root / "template"
    make_template(template)
    fired: Counter[str] = Counter()
    found: list[str] = []
    while True:
        at = sum(fired.values()) + 1
        data = root / "data"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(template, data)
        said = forked(partial(_run, data, at))
        kinds = [entry["fired"] for entry in said if "fired" in entry]
        found += [f"fault {at} ({kinds}): {entry['breach']}" for entry in said if "breach" in entry]
        if not any("checked" in entry for entry in said):
            found.append(f"fault {at} ({kinds}): the program did not come to its end")
        if not kinds:
            return sum(fired.values()), fired, found
        fired[kinds[0]] += 1


def _run(data: Path, at: int, out: BinaryIO) -> None:
    """The workload with its `at`-th step failing, then without faults what is left of it, then the promises."""
    ledger, fired = Ledger(), list[str]()
    with open_rig(data) as rig:
        interception = Interception(data, failing(KINDS, at, fired))
        interception.install(rig.storage.database.engine)
        rig.embedder.embed = interception.embedding(rig.embedder.embed)  # type: ignore[method-assign]
        _work(rig, ledger)
        if fired:
            say(out, fired=fired[0])
        # Whether or not it came to the fault: from here on nothing fails.
        fired.append("over")
        rig.recover()
        time.sleep(0.002)
        rig.ingest()
        for breach in breaches(rig, ledger):
            say(out, breach=breach)
    say(out, checked=True)


def _work(rig: Rig, ledger: Ledger) -> None:
    dice = random.Random(5)
    contents = [content_of(number, dice) for number in range(4)]
    hashes = [sha256(content) for content in contents]

    def upload(*numbers: int) -> list[str]:
        mine = [hashes[n] for n in numbers]
        ledger.note({"begin": "upload", "hashes": mine})
        documents = rig.upload(*(contents[n] for n in numbers))
        ledger.note({"done": "upload", "hashes": mine, "documents": documents})
        return documents

    def replace(document: str) -> None:
        ledger.note({"begin": "replace", "document": document, "hash": hashes[3]})
        rig.replace(document, contents[3])
        ledger.note({"done": "replace", "document": document, "hash": hashes[3]})

    def delete(document: str) -> None:
        ledger.note({"begin": "delete", "document": document})
        rig.delete(document)
        ledger.note({"done": "delete", "document": document})

    first = _tried(upload, 0, 1)
    _tried(rig.ingest)
    _tried(rig.compact)
    second = _tried(upload, 2)
    if first:
        _tried(replace, first[0])
    _tried(rig.ingest)
    if first:
        _tried(delete, first[1])
    _tried(rig.recover)
    if second:
        _tried(delete, second[0])
    _tried(rig.compact)


def _tried(work: Callable[..., Any], *arguments: Any) -> Any:
    """What it made, or None where it said that it could not: by our own errors, or the system's."""
    try:
        return work(*arguments)
    except (YoujuError, OSError):
        return None


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="youju-faults-") as root:
        count, fired, found = every_fault(Path(root))
    print(f"{count} faults, one after another ({dict(fired)}): {len(found)} breaches")
    for breach in found[:20]:
        print(f"  {breach}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
