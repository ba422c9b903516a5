"""What a run looks like: table, thresholds, picture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_eval_metrics import result

from rag_service.errors import InvalidConfiguration, InvalidInput
from rag_service.evaluation import gates, metrics, plot, report
from rag_service.evaluation.gates import Gate

RESULTS = [
    result("a", timings_ms={"retrieve": 3.0}),
    result("b", direction="zh→en", ranks=(), timings_ms={"retrieve": 5.0}),
    result("c", direction="zh→en", ranks=(2,), timings_ms={"retrieve": 5.0}),
]
SUMMARY = metrics.summary(RESULTS)


def test_the_table_has_a_column_for_each_direction() -> None:
    lines = report.markdown(SUMMARY).splitlines()
    assert lines[0] == "|  | zh→en | zh→zh | all |"
    assert lines[2] == "| questions | 2 | 1 | 3 |"
    assert lines[3] == "| R@1 | .000 (.000–.000) | 1.000 (1.000–1.000) | .333 (.000–1.000) |"
    assert lines[-1] == "| retrieve, ms, p50 / p95 | 5.0 / 5.0 | 3.0 / 3.0 | 5.0 / 5.0 |"


def test_one_direction_is_not_shown_twice() -> None:
    assert report.markdown(metrics.summary(RESULTS[:1])).splitlines()[0] == "|  | zh→zh |"


def test_real_differences_stand_out() -> None:
    before = [result(str(n)) for n in range(60)]
    after = [result(str(n), ranks=(2,) if n % 3 == 0 else (1,)) for n in range(60)]
    lines = report.markdown_comparison(metrics.compare(before, after)).splitlines()
    [recall] = [line for line in lines if "| R@1 |" in line]
    assert "1.000 | .667 | **-.333 (-.4" in recall
    assert recall.endswith("| yes |")
    [fifth] = [line for line in lines if "| R@5 |" in line]
    assert fifth.endswith("| +.000 (+.000 to +.000) | 1.0000 | no |")


def test_thresholds_are_read_in_the_forms_people_type() -> None:
    told = ["R@1=.9", "zh→en:R@10=0.5", "zh-en:AUROC=1", "all:citation-recall=0"]
    assert gates.gates(told) == [
        Gate("all", "R@1", 0.9), Gate("zh→en", "R@10", 0.5), Gate("zh→en", "AUROC", 1.0),
        Gate("all", "citation-recall", 0.0),
    ]  # fmt: skip


def test_every_threshold_that_is_none_is_told() -> None:
    with pytest.raises(InvalidInput) as raised:
        gates.gates(["R@1", "R@2=.5", "R@1=1.1", "R@1=.5", "R@1=1.2.3", "=.5", "R@1=-1"])
    assert raised.value.data["thresholds"] == ["R@1", "R@2=.5", "R@1=1.1", "R@1=1.2.3", "=.5", "R@1=-1"]


def test_a_threshold_is_missed_below_it_and_where_nothing_was_measured() -> None:
    told = ["zh→zh:R@1=1", "R@1=.4", "zh→en:R@10=.5", "AUROC=.1", "en→en:R@1=.1"]
    assert gates.missed(SUMMARY, gates.gates(told)) == [
        "all: R@1 is 0.3333, below 0.4",
        "all: AUROC was not measured, 0.1 was demanded",
        "en→en: R@1 was not measured, 0.1 was demanded",
    ]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"run{suffix}"
    plot.draw(SUMMARY, "zh, en", path)
    assert path.stat().st_size > 5_000


def test_a_run_without_recall_has_a_picture_too(tmp_path: Path) -> None:
    plot.draw(metrics.summary([result(gold=0, ranks=())]), "nothing", tmp_path / "run.png")
    plot.draw(metrics.summary([]), "nothing", tmp_path / "run.png")


def test_a_picture_of_an_unknown_kind_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"not 'run\.exe'"):
        plot.demand(tmp_path / "run.exe")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.machinery.PathFinder.find_spec", lambda *arguments: None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InvalidConfiguration, match=r"youju\[eval\]"):
        plot.demand(tmp_path / "run.png")
