"""The runner of comparisons, on numbers that are reconstructed from numbers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nid_dist.comparison.runner import run_method, run_specification
from nid_dist.errors import UserError
from nid_dist.evaluation.report import Column, Table, means, pivot
from nid_dist.tasks.comparison import (
    Cells,
    ComparedMethod,
    Curves,
    Grid,
    Outcome,
    Reconstruction,
    Report,
    Specification,
    Subject,
    Trial,
    series_of,
)

GRID = Grid("grid", "numbers", "squares as grey as the numbers")


def subject(name: str, value: float, grid: Grid | None = GRID) -> Subject:
    def load() -> tuple[float, float]:
        if value < 0:
            raise UserError(name, found="a negative number", expected="another", hint="negate it")
        return value, value**2

    return Subject(name, {"signal": name}, load, grid, name)


def square(given: float, factor: float | None) -> Reconstruction:
    return Reconstruction(lambda: given * given * (factor or 1.0), {"numbers": 1})


def grey(value: float) -> np.ndarray:
    return np.full((4, 4, 1), value, np.float32)


def show(subject: Subject, rendered: float, given: float, truth: float, row: Any) -> Cells:
    return {subject.label: {row["method"]: (grey(rendered), f"{row['error']:.2f}")}}


def first(subject: Subject, given: float, truth: float) -> Cells:
    return {subject.label: {"truth": (grey(truth), "")}}


def report(outcomes: list[Outcome]) -> Report:
    rows = [outcome.row for outcome in outcomes]
    averaged = means(rows, ["method"])
    curves = {"errors": Curves(series_of(averaged, "count", "error"), "count", "error", "errors")}
    table = Table.of([Column("method", key="method"), Column("error", "%", ".1f", "error", 100.0)], averaged)
    return Report(table, {"means": averaged}, {"per signal": pivot(rows, ["signal"], "error")}, curves)


def specification(trial: Trial) -> Specification:
    def measure(rendered: float, given: float, truth: float) -> dict[str, float]:
        return {"error": abs(rendered - truth)}

    return Specification([trial], measure, first, show, report, lambda found, truth: -abs(found - truth))


def test_what_is_compared_is_written(tmp_path: Path) -> None:
    def refuse(given: float, _: float | None) -> Reconstruction:
        raise UserError("refusing", found=str(given), expected="nothing", hint="choose another method")

    methods = [
        ComparedMethod("tuned", square, (0.5, 1.0, 2.0)),
        ComparedMethod("half", lambda given, _: square(given, 0.5), takes=lambda subject: subject.name != "b"),
        ComparedMethod("hidden", lambda given, _: Reconstruction(lambda: 0.0, {"seconds": 7.0}), shown=False),
        ComparedMethod("refused", refuse, takes=lambda subject: subject.name == "c"),
    ]
    subjects = [subject("a", 0.6), subject("lost", -1.0), subject("b", 0.8), subject("c", 0.4, None)]
    trial = Trial(subjects, lambda: methods, tuned_on=[subject("apart", 0.7)])
    results = run_specification(specification(trial), tmp_path / "out", "the command")
    assert results.files == {"grid.png": GRID.shows, "errors.png": "errors"}
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"table.md", "results.json", *results.files}
    found = [(row["signal"], row["method"]) for row in written["rows"]]
    one = ["tuned", "half", "hidden"]
    assert found == [*(("a", name) for name in one), ("b", "tuned"), ("b", "hidden"), *(("c", name) for name in one)]
    assert list(written["failed"]) == ["lost", "c"] and "negative" in written["failed"]["lost"]
    by = {(row["signal"], row["method"]): row for row in written["rows"]}
    assert by["a", "tuned"]["error"] == 0 and by["a", "tuned"]["numbers"] == 1 and by["a", "tuned"]["seconds"] >= 0
    assert by["b", "hidden"]["seconds"] == 7 and by["a", "half"]["error"] == pytest.approx(0.18)
    mean = {mean["method"]: mean for mean in written["means"]}
    assert mean["half"]["count"] == 2 and mean["half"]["error"] == pytest.approx((0.18 + 0.08) / 2)
    words = (tmp_path / "out" / "table.md").read_text()
    assert (
        words.startswith("`the command`\n\ncpu ") and "## per signal" in words and "- lost: found a negative" in words
    )


def test_nothing_is_written_of_nothing(tmp_path: Path) -> None:
    trial = Trial([subject("lost", -1.0)], lambda: [ComparedMethod("m", square)])
    assert list(run_specification(specification(trial), tmp_path / "out").failed) == ["lost"]
    assert not (tmp_path / "out").exists()


def test_the_median_of_repeated_runs_counts_after_one_that_does_not() -> None:
    seconds = iter([50.0, 1.0, 9.0, 2.0])
    method = ComparedMethod("m", lambda given, _: Reconstruction(lambda: given, {"seconds": next(seconds)}), repeats=3)
    assert run_method(method, 3) == (3, {"seconds": 2.0})
    untimed = ComparedMethod("m", lambda given, _: Reconstruction(lambda: given, {"seconds": None}))
    assert run_method(untimed, 3) == (3, {"seconds": None})


def test_means_are_over_the_rows_that_have_a_figure() -> None:
    rows = [
        {"group": 1, "method": "m", "x": 1.0, "y": None, "name": "a", "trace": [1]},
        {"group": 1, "method": "m", "x": 2.0, "y": 5, "name": "b", "trace": [2]},
        {"group": 2, "method": "n", "x": None, "y": None, "name": "c"},
    ]
    assert means(rows, ["group"]) == [
        {"group": 1, "count": 2, "x": 1.5, "y": 5.0},
        {"group": 2, "count": 1, "x": None, "y": None},
    ]
    table = pivot(rows, ["group"], "x", unit="dB")
    assert table.text().splitlines() == ["group  m (dB)", "-----  ------", "    1    1.50", "    2       –"]
