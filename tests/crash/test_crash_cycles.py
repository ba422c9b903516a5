"""Quick tier of the crash harness; `make crash` runs the long one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from defects import DEFECTS
from served import FAILPOINTS

HERE = Path(__file__).parent
CYCLES, FILES, SERVED_CYCLES = 40, 40, 5


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which has no threads when it forks."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.timeout(300)
def test_no_death_at_any_step_breaks_a_promise() -> None:
    done = run("cycles.py", "--cycles", str(CYCLES))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 breaches" in done.stdout


@pytest.mark.timeout(600)
def test_no_single_fault_breaks_a_promise() -> None:
    done = run("fault_loop.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 100


@pytest.mark.timeout(300)
def test_every_damaged_file_is_found_and_healed() -> None:
    done = run("damage.py", "--files", str(FILES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(300)
def test_the_service_keeps_its_promises_through_kills() -> None:
    done = run("served.py", "--cycles", str(SERVED_CYCLES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_killed_at_every_failpoint_there_is() -> None:
    """One that is renamed in the code, or mistyped here, would never be reached, and nobody would notice. Those of a
    change of embedder are reached by tests of their own."""
    root = HERE.parents[1]
    sources = [path.read_text("utf-8") for room in ("rag_service", "ingest") for path in (root / room).rglob("*.py")]
    there = {name for source in sources for name in re.findall(r'failpoints\.reach\("([^"]+)"\)', source)}
    changing = {name for name in there if name.startswith("reembed.")}
    assert set(FAILPOINTS) == there - changing
    own_tests = (HERE.parent / "test_reembedding.py").read_text("utf-8")
    assert [name for name in sorted(changing) if f'"{name}"' not in own_tests] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_sown_defect_is_caught(defect: str) -> None:
    done = run("cycles.py", "--cycles", "60", "--until-breach", "--defect", defect)
    assert done.returncode == 1, f"not caught: {done.stdout}{done.stderr}"
    assert "breaches" in done.stdout
